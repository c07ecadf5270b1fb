"""The machine becomes the first fleet, once; and the fleet is read by operators only."""

import asyncio

import httpx
import pytest

from skerry.fleet.model import NODE_TRANSITIONS, Accelerator, LocalFleet, Machine, NodeStatus
from skerry.fleet.service import Fleet
from skerry.kernel.clock import FakeClock
from skerry.kernel.paging import PageRequest

MACHINE = Machine("here", 2, 8 << 30)
ALL = PageRequest()


async def discover(fleet: Fleet, machine: Machine = MACHINE) -> LocalFleet:
    async with fleet.db.transaction() as tx:
        return await fleet.discover_local(tx, machine)


async def test_a_machine_without_gpus_is_a_node_with_a_cpu_accelerator_a_core(fleet: Fleet) -> None:
    made = await discover(fleet)
    assert made.changed
    (site,) = (await fleet.sites(ALL)).data
    (leaf,) = (await fleet.leaves(ALL)).data
    (sku,) = (await fleet.skus(ALL)).data
    (node,) = (await fleet.nodes(ALL)).data
    assert (site.name, site.country) == ("local", None)
    assert (leaf.name, leaf.hall, leaf.site) == ("local", "local", "local")
    assert (sku.name, sku.accelerator, sku.accelerators_per_node, sku.cpu, sku.memory) == (
        "local",
        "cpu",
        2,
        2,
        8 << 30,
    )
    assert (node.hostname, node.status, node.sku, node.leaf) == ("local-1", NodeStatus.READY, "local", "local")
    assert node.accelerators == (Accelerator(0, "cpu"), Accelerator(1, "cpu"))


async def test_discovery_again_changes_nothing(fleet: Fleet, clock: FakeClock) -> None:
    first = await discover(fleet)
    before = await fleet.node("local-1")
    clock.advance(hours=1)
    again = await discover(fleet)
    assert again == LocalFleet(first.site, first.node, changed=False, nodes_before=1)
    assert await fleet.node("local-1") == before


async def test_discovery_by_several_at_once_makes_one_fleet(fleet: Fleet) -> None:
    found = await asyncio.gather(*(discover(fleet) for _ in range(4)))
    assert len({made.node for made in found}) == 1
    assert sum(made.changed for made in found) == 1
    assert len((await fleet.nodes(ALL)).data) == 1


async def test_changed_hardware_is_brought_up_to_date(fleet: Fleet, clock: FakeClock) -> None:
    await discover(fleet)
    clock.advance(hours=1)
    gpus = (Accelerator(0, "H100", 80 << 30, "GPU-0"),)
    assert (await discover(fleet, Machine("here", 16, 64 << 30, gpus))).changed
    node, sku = await fleet.node("local-1"), await fleet.sku("local")
    assert node.accelerators == gpus and node.updated_at == clock.now()
    assert (sku.accelerator, sku.accelerators_per_node, sku.cpu) == ("H100", 1, 16)


def test_a_retired_node_stays_retired() -> None:
    assert NODE_TRANSITIONS.is_final(NodeStatus.RETIRED)
    assert not NODE_TRANSITIONS.allows(NodeStatus.READY, NodeStatus.RETIRED)


# Routes


@pytest.mark.parametrize("kind", ["sites", "halls", "leaves", "skus", "nodes"])
async def test_each_kind_is_listed_and_found_by_name_and_id(fleet: Fleet, client: httpx.AsyncClient, kind: str) -> None:
    await discover(fleet)
    listed = (await client.get(f"/operator/{kind}")).json()
    assert listed["has_more"] is False and listed["next_cursor"] is None
    (row,) = listed["data"]
    name = row.get("name") or row["hostname"]
    assert (await client.get(f"/operator/{kind}/{name}")).json() == row
    assert (await client.get(f"/operator/{kind}/{row['id']}")).json() == row
    missing = await client.get(f"/operator/{kind}/nothing")
    assert missing.status_code == 404 and missing.json()["code"].startswith("unknown_")
    assert (await client.get(f"/customer/{kind}")).status_code == 403
    assert (await client.get(f"/customer/{kind}/{name}")).status_code == 403


async def test_a_node_on_the_wire(fleet: Fleet, client: httpx.AsyncClient) -> None:
    await discover(fleet)
    node = (await client.get("/operator/nodes/local-1")).json()
    assert {key: node[key] for key in ("hostname", "sku", "leaf", "status", "health")} == {
        "hostname": "local-1",
        "sku": "local",
        "leaf": "local",
        "status": "ready",
        "health": {},
    }
    assert node["accelerators"][0] == {"index": 0, "type": "cpu", "memory_bytes": None, "uuid": None}


async def test_nodes_are_filtered(fleet: Fleet, client: httpx.AsyncClient) -> None:
    await discover(fleet)
    for query, count in (("site=local", 1), ("status=ready", 1), ("status=failed", 0), ("sku=other", 0)):
        assert len((await client.get(f"/operator/nodes?{query}")).json()["data"]) == count
    assert (await client.get("/operator/nodes?status=broken")).status_code == 422
