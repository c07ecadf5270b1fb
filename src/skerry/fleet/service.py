"""Use cases of the fleet: discover this machine, show what there is, count what it supplies."""

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import TypeVar

from skerry.db.database import Database, Tx
from skerry.fleet.basis import Basis, Platform
from skerry.fleet.cluster import Cluster, ClusterNode
from skerry.fleet.declared import Declaration
from skerry.fleet.deliveries import Deliveries
from skerry.fleet.errors import UnknownFleetThing
from skerry.fleet.local import LocalMachine
from skerry.fleet.model import (
    Hall,
    Leaf,
    LeafOverview,
    LeafSupply,
    LocalFleet,
    Machine,
    Node,
    NodeStatus,
    Site,
    Sku,
)
from skerry.fleet.sold import NothingSold, SoldNodes
from skerry.fleet.store.topology import (
    HallReader,
    LeafReader,
    NodeFilter,
    NodeReader,
    SiteReader,
    SkuReader,
)
from skerry.fleet.upkeep import Upkeep
from skerry.kernel.clock import Clock
from skerry.kernel.ids import IdFactory, LeafId, ProjectId, new_id
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.events import EventLog

__all__ = ["Fleet", "NothingSold", "SoldNodes"]

T = TypeVar("T")


class Fleet:
    """Facts about machines; what is promised or runs on them is known above."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        new_id: IdFactory = new_id,
        *,
        events: EventLog | None = None,
        platform: Platform | None = None,
        sell_ahead: Decimal = Decimal(1),
    ) -> None:
        """`platform`: id of the operator's own project, whose timeline this is; without it the fleet can be read and
        discovered, not changed. `sell_ahead`: the share of a delivery's confidence that may be sold."""
        self.basis = Basis(
            db, clock, new_id, events or EventLog(clock), platform or _nobody, NothingSold(), Decimal(sell_ahead)
        )
        self.upkeep = Upkeep(self.basis)
        self.deliveries = Deliveries(self.basis)
        self.declared = Declaration(self.basis)
        self.db = db
        self.clock = clock
        self._local = LocalMachine(self.basis)
        self._sites, self._halls, self._leaves = SiteReader(), HallReader(), LeafReader()
        self._skus, self._nodes = SkuReader(), NodeReader()

    async def discover_local(self, tx: Tx, machine: Machine, nodes: int = 1) -> LocalFleet:
        """Make this machine the site, hall, leaf, SKU and nodes `local`, or bring them up to date. Idempotent.

        What an operator has set since (status, country, prices) is left alone. Raises BadFleetField.
        """
        return await self._local.discover(tx, machine, nodes)

    async def discover_cluster(self, tx: Tx, nodes: Sequence[ClusterNode]) -> int:
        """Make an engine's own nodes the first ones of an empty fleet. How many were made."""
        return await Cluster(self.basis).discover(tx, nodes)

    async def sites(self, request: PageRequest) -> Page[Site]:
        async with self.db.reading() as tx:
            return await self._sites.page(tx, request)

    async def site(self, ref: str) -> Site:
        async with self.db.reading() as tx:
            return _found(await self._sites.find(tx, ref), "site", ref)

    async def halls(self, request: PageRequest) -> Page[Hall]:
        async with self.db.reading() as tx:
            return await self._halls.page(tx, request)

    async def hall(self, ref: str) -> Hall:
        async with self.db.reading() as tx:
            return _found(await self._halls.find(tx, ref), "hall", ref)

    async def leaves(self, request: PageRequest) -> Page[Leaf]:
        async with self.db.reading() as tx:
            return await self._leaves.page(tx, request)

    async def leaf(self, ref: str) -> Leaf:
        async with self.db.reading() as tx:
            return _found(await self._leaves.find(tx, ref), "leaf", ref)

    async def skus(self, request: PageRequest) -> Page[Sku]:
        async with self.db.reading() as tx:
            return await self._skus.page(tx, request)

    async def sku(self, ref: str) -> Sku:
        async with self.db.reading() as tx:
            return _found(await self._skus.find(tx, ref), "sku", ref)

    async def nodes(
        self,
        request: PageRequest,
        *,
        site: str | None = None,
        leaf: str | None = None,
        sku: str | None = None,
        status: NodeStatus | None = None,
    ) -> Page[Node]:
        async with self.db.reading() as tx:
            return await self._nodes.filtered(tx, NodeFilter(site, leaf, sku, status), request)

    async def node(self, ref: str) -> Node:
        async with self.db.reading() as tx:
            return _found(await self._nodes.find(tx, ref), "node", ref)

    def ask(self, sold: SoldNodes) -> None:
        """Who knows what is sold; wired once, at start, since they themselves need the fleet."""
        self.basis.sold = sold

    async def supplies(self, tx: Tx, leaves: Collection[LeafId] | None = None) -> list[LeafSupply]:
        """How many nodes of each SKU the leaves have, over time, as this transaction sees it; None: all leaves."""
        return await self.basis.supplies(tx, leaves)

    async def overview(self) -> list[LeafOverview]:
        """What each leaf has of each SKU now."""
        async with self.db.reading() as tx:
            supplies = await self.basis.supplies(tx)
            statuses = await self._nodes.statuses(tx)
        return [
            LeafOverview(
                site=one.site,
                country=one.country,
                hall=one.hall,
                leaf=one.leaf_name,
                sku=one.sku,
                spares=one.spares,
                size=one.size,
                statuses=statuses.get((one.leaf, one.sku), {}),
                sellable=one.sellable[0].nodes,
                planned=max(step.nodes for step in one.sellable) - one.sellable[0].nodes,
            )
            for one in supplies
        ]

    async def pools(self, tx: Tx) -> dict[str, int | None]:
        """`on_demand_nodes` of every SKU, by name."""
        return await self._skus.pools(tx)

    async def node_sizes(self, tx: Tx) -> dict[str, int]:
        """Accelerators of a node of every SKU, by name."""
        return await self._skus.sizes(tx)

    async def ready_nodes(self, tx: Tx, leaf: LeafId, sku: str) -> list[Node]:
        """Nodes of a leaf that may be given out now, by hostname. `sku` is a name."""
        return await self._nodes.ready(tx, leaf, sku, self.clock.now())

    async def leaf_nodes(self, tx: Tx, keys: Collection[tuple[LeafId, str]]) -> dict[tuple[LeafId, str], list[Node]]:
        """All nodes of these leaves and SKUs (names), whatever their status, by hostname."""
        return await self._nodes.of_leaves(tx, keys)

    async def find_nodes(self, tx: Tx, hostnames: Collection[str]) -> dict[str, Node]:
        """Those of these nodes that are known, by hostname. For domains above, inside their own transaction."""
        return await self._nodes.by_hostname(tx, hostnames)

    async def being_emptied(self, tx: Tx, hostnames: Collection[str]) -> set[str]:
        """Those of these nodes whose work is to go elsewhere."""
        found = await self._nodes.by_hostname(tx, hostnames)
        return {name for name, node in found.items() if node.status is NodeStatus.DRAINING}


async def _nobody(tx: Tx) -> ProjectId:
    raise RuntimeError("this fleet has no operator: give it `platform`")


def _found(value: T | None, kind: str, ref: str) -> T:
    if value is None:
        raise UnknownFleetThing(kind, ref)
    return value
