"""What the fleet asks of those who sell it, before it takes something away (capacity answers, wired in `server/`)."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from skerry.db.database import Tx
from skerry.fleet.model import Endangered, LeafSupply
from skerry.kernel.ids import NodeId


class SoldNodes(Protocol):
    """Asked inside the transaction that changes the supply, after the change. An implementation first takes the locks
    that admissions take for these leaves: what is sold meanwhile would be sold on the supply of before."""

    async def why_not(self, tx: Tx, after: Sequence[LeafSupply]) -> list[str]:
        """Sentences that name reservations which could not be delivered with the supply of `after`; empty: none."""
        ...

    async def made_late(self, tx: Tx, after: Sequence[LeafSupply]) -> list[Endangered]:
        """Confirmed reservations that would be short were supply as in `after`."""
        ...

    async def tell(self, tx: Tx, late: Sequence[Endangered]) -> None:
        """Tell those whose reservations they are, now that it is so."""
        ...

    async def held_nodes(self, tx: Tx, nodes: Collection[NodeId]) -> Mapping[NodeId, str]:
        """Those of the nodes that are bound to something now or later, each with a few words on what."""
        ...


class NothingSold:
    """A fleet from which nothing is promised."""

    async def why_not(self, tx: Tx, after: Sequence[LeafSupply]) -> list[str]:
        return []

    async def made_late(self, tx: Tx, after: Sequence[LeafSupply]) -> list[Endangered]:
        return []

    async def tell(self, tx: Tx, late: Sequence[Endangered]) -> None:
        return None

    async def held_nodes(self, tx: Tx, nodes: Collection[NodeId]) -> Mapping[NodeId, str]:
        return {}
