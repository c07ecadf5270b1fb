"""What the fleet asks before it takes something away: whom would it hit?"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from sqlalchemy import text

from skerry.capacity.calendar.model import LeafKey
from skerry.capacity.locking import lock_leaves
from skerry.capacity.promises import Promise, Promises
from skerry.capacity.rules.endangered import endangered, sentences
from skerry.capacity.rules.reasons import SOLD
from skerry.db.database import Tx
from skerry.fleet.model import Endangered, LeafSupply
from skerry.kernel.clock import Clock
from skerry.kernel.ids import NodeId

_READ_ONLY = text("SELECT current_setting('transaction_read_only') = 'on'")


class BoundNodes(Protocol):
    """Who knows which nodes are bound (`binding.service.Deliveries`)."""

    async def held_nodes(self, tx: Tx, nodes: Collection[NodeId]) -> Mapping[NodeId, str]: ...


class Sold:
    """`fleet.SoldNodes`. Asked inside the transaction that changes the supply.

    It takes the locks that admissions take, so nothing is sold meanwhile, and says that the supply is another: whoever
    admits by what it was is made to look again.
    """

    def __init__(self, clock: Clock, bound: BoundNodes) -> None:
        self.clock = clock
        self.bound = bound
        self._promises = Promises()

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
        found: list[Endangered] = []
        for supply in after:
            found += endangered(supply, by_leaf.get(LeafKey(supply.leaf, supply.sku), ()))
        return found

    async def held_nodes(self, tx: Tx, nodes: Collection[NodeId]) -> Mapping[NodeId, str]:
        return await self.bound.held_nodes(tx, nodes)
