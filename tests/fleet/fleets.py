"""Small fleets for tests."""

SMALL = """
skus: [{name: h100-sxm.8x}]
sites: [{name: no-x, country: NO, grid_zone: NO4, pue: 1.1}]
halls: [{name: a, site: no-x}]
leaves:
- {name: a-1, hall: a, spares: 1}
- {name: a-2, hall: a}
nodes:
- {hostname: "a-1-[1-4]", sku: h100-sxm.8x, leaf: a-1}
- {hostname: "a-2-[1-4]", sku: h100-sxm.8x, leaf: a-2}
"""
