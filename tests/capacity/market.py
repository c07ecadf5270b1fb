"""A fleet to buy from."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import insert

from skerry.billing.model import Price
from skerry.fleet import tables as fleet
from skerry.fleet.model import NodeStatus
from skerry.kernel.ids import new_id
from skerry.metering.model import Meter
from skerry.server.compose import Services

START = datetime(2026, 1, 1, tzinfo=UTC)
SKU = "h100.8x"
DAY = 86_400


@dataclass(frozen=True)
class Leaf:
    """`nodes` ready nodes; `spares` of them are kept back."""

    name: str
    hall: str
    site: str
    nodes: int
    spares: int = 0


TWO_SITES = (
    Leaf("no-1", "no-a", "norway", 8),
    Leaf("no-2", "no-a", "norway", 8),
    Leaf("no-3", "no-b", "norway", 8),
    Leaf("pt-1", "pt-a", "portugal", 8),
)
"""Norway's electricity emits a tenth of Portugal's."""
_SITES = {"norway": ("NO", 20), "portugal": ("PT", 200)}


async def build_fleet(
    services: Services, leaves: Iterable[Leaf] = TWO_SITES, *, pool: int | None = None
) -> dict[str, str]:
    """Ids by name of what was built. Nodes draw 10 kW and have eight accelerators."""
    ids: dict[str, str] = {}
    async with services.db.transaction() as tx:

        async def add(table: Any, kind: str, name: str, **values: Any) -> str:
            if name not in ids:
                ids[name] = new_id(kind)
                await tx.execute(insert(table).values(id=ids[name], name=name, created_at=START, **values))
            return ids[name]

        shape = {"accelerator": "H100", "accelerators_per_node": 8, "cpu": 192, "memory": 2**41, "nvlink": True}
        sku = await add(fleet.skus, "sku", SKU, **shape, tdp_w=10_000, idle_w=2_000, on_demand_nodes=pool)
        for leaf in leaves:
            country, grams = _SITES.get(leaf.site, (None, 100))
            carbon = {"hourly": [str(grams)] * 24, "source": "a test", "estimated": False}
            site = await add(fleet.sites, "site", leaf.site, country=country, pue=Decimal("1.1"), carbon=carbon)
            hall = await add(fleet.halls, "hall", leaf.hall, site_id=site)
            own = await add(fleet.leaves, "leaf", leaf.name, hall_id=hall, spares=leaf.spares)
            for number in range(leaf.nodes):
                await tx.execute(
                    insert(fleet.nodes).values(
                        id=new_id("node"),
                        hostname=f"{leaf.name}-{number}",
                        sku_id=sku,
                        leaf_id=own,
                        accelerators=[{"index": index, "type": "H100"} for index in range(8)],
                        status=NodeStatus.READY,
                        health={},
                        created_at=START,
                        updated_at=START,
                    )
                )
    return ids


def reserved_price(node_hour: str, *, site: str | None = None) -> Price:
    """Of a reserved node for an hour."""
    return Price(Meter.NODE_SECONDS_RESERVED, 3600, Decimal(node_hour), sku=SKU, site=site)


PRICES = (
    reserved_price("9"),
    Price(Meter.ACCELERATOR_SECONDS, 3600, Decimal("1.8"), sku=SKU),
    Price(Meter.ACCELERATOR_SECONDS, 3600, Decimal("0.9"), sku=SKU, capacity_class="spot"),
)


def later(**delta: float) -> datetime:
    return START + timedelta(**delta)


def text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
