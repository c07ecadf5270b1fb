"""What the fleet asks before it takes something away: whom would it hit?"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from sqlalchemy import text

from skerry.capacity.calendar.model import LeafKey
from skerry.capacity.claims.store import ClaimStore
from skerry.capacity.locking import lock_leaves
from skerry.capacity.moments import ceil_second
from skerry.capacity.promises import Promise, Promises
from skerry.capacity.rules.endangered import Occupied, endangered, sentences
from skerry.capacity.rules.reasons import SOLD
from skerry.capacity.service.admissions import KIND
from skerry.db.database import Tx
from skerry.fleet.model import Endangered, LeafSupply, Node, NodeStatus
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import Clock, rfc3339
from skerry.kernel.ids import LeafId, NodeId
from skerry.kernel.windows import Window
from skerry.runtime.events import EventLog

_READ_ONLY = text("SELECT current_setting('transaction_read_only') = 'on'")


_FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


class LeafNodes(Protocol):
    """Who knows the nodes of leaves (`Fleet`)."""

    async def leaf_nodes(
        self, tx: Tx, keys: Collection[tuple[LeafId, str]]
    ) -> Mapping[tuple[LeafId, str], Sequence[Node]]: ...


class BoundNodes(Protocol):
    """Who knows which nodes are bound (`binding.service.Deliveries`)."""

    async def held_nodes(self, tx: Tx, nodes: Collection[NodeId]) -> Mapping[NodeId, str]: ...


class Sold:
    """`fleet.SoldNodes`. Asked inside the transaction that changes the supply.

    It takes the locks that admissions take, so nothing is sold meanwhile, and says that the supply is another: whoever
    admits by what it was is made to look again.
    """

    def __init__(self, clock: Clock, events: EventLog, bound: BoundNodes, fleet: LeafNodes) -> None:
        self.clock = clock
        self.events = events
        self.bound = bound
        self.fleet = fleet
        self._promises = Promises()
        self._claims = ClaimStore()

    async def why_not(self, tx: Tx, after: Sequence[LeafSupply]) -> list[str]:
        return sentences(await self.made_late(tx, after))

    async def made_late(self, tx: Tx, after: Sequence[LeafSupply]) -> list[Endangered]:
        keys = [LeafKey(one.leaf, one.sku) for one in after]
        await lock_leaves(tx, keys)
        if not (await tx.execute(_READ_ONLY)).scalar_one():
            await self._promises.touch(tx, keys, supply=True)
        by_leaf: dict[LeafKey, list[Promise]] = {}
        for promise in await self._promises.legs(tx, keys, self.clock.now()):
            if promise.status in SOLD:
                by_leaf.setdefault(promise.key, []).append(promise)
        occupied = await self._occupied(tx, list(by_leaf))
        found: list[Endangered] = []
        for supply in after:
            key = LeafKey(supply.leaf, supply.sku)
            found += endangered(supply, by_leaf.get(key, ()), occupied.get(key, ()))
        return found

    async def _occupied(self, tx: Tx, keys: Sequence[LeafKey]) -> dict[LeafKey, list[Occupied]]:
        """What on-demand work has of the nodes that can be delivered: a node that is taken out is no part of them."""
        now = self.clock.now()
        places = [(LeafId(key.leaf), key.sku) for key in keys]
        ready = {
            node.id
            for nodes in (await self.fleet.leaf_nodes(tx, places)).values()
            for node in nodes
            if node.status is NodeStatus.READY
        }
        until: dict[tuple[LeafKey, NodeId], datetime] = {}
        for claim in await self._claims.live(tx, places, now):
            if claim.capacity_class is CapacityClass.ON_DEMAND and claim.node in ready:
                at = (LeafKey(claim.leaf, claim.sku), claim.node)
                until[at] = max(until.get(at, now), claim.end or _FOREVER)
        found: dict[LeafKey, list[Occupied]] = {}
        start = now.replace(microsecond=0)
        for (key, _), end in until.items():
            found.setdefault(key, []).append(Occupied(1, Window(start, max(ceil_second(end), start + _SECOND))))
        return found

    async def tell(self, tx: Tx, late: Sequence[Endangered]) -> None:
        """`reservation.at_risk` to each customer: what is missing, and when it is expected to be there."""
        for one in late:
            expected = rfc3339(one.whole_from) if one.whole_from else None
            until = f"They are expected by {expected}." if expected else "They are not expected within its time."
            data = {
                "leaf": one.leaf_name,
                "nodes_short": one.nodes_short,
                "start": rfc3339(one.starts),
                "expected_at": expected,
                "message": f"As things stand, {one.nodes_short} of its nodes will be missing. {until}",
            }
            await self.events.record(
                tx,
                project=one.project,
                resource=one.reservation,
                resource_kind=KIND,
                type=f"{KIND}.at_risk",
                data=data,
            )

    async def held_nodes(self, tx: Tx, nodes: Collection[NodeId]) -> Mapping[NodeId, str]:
        return await self.bound.held_nodes(tx, nodes)
