"""What the use cases of the fleet stand on: the database, the timeline of the operator, and the promises to keep."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from skerry.db.database import Database, Tx
from skerry.fleet.errors import BreaksReservations
from skerry.fleet.model import Endangered, LeafSupply
from skerry.fleet.sold import SoldNodes
from skerry.fleet.store.supply import SupplyStore
from skerry.kernel.clock import Clock
from skerry.kernel.ids import IdFactory, LeafId, ProjectId
from skerry.runtime.events import EventLog

Platform = Callable[[Tx], Awaitable[ProjectId]]
"""The operator's own project: the timeline of the fleet is its."""


@dataclass(frozen=True, slots=True)
class Before:
    """Some leaves, what they had before a change, and who was short there."""

    leaves: frozenset[LeafId]
    supplies: tuple[LeafSupply, ...]
    endangered: tuple[Endangered, ...]


class Basis:
    """`ahead`: the share of a delivery's confidence that may be sold before it is there (setting `sell_ahead`)."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        new_id: IdFactory,
        events: EventLog,
        platform: Platform,
        sold: SoldNodes,
        ahead: Decimal,
    ) -> None:
        self.db, self.clock, self.new_id = db, clock, new_id
        self.sold, self.ahead = sold, ahead
        self.supply = SupplyStore()
        self.events = events
        self._platform = platform

    async def platform(self, tx: Tx) -> ProjectId:
        return await self._platform(tx)

    async def record(self, tx: Tx, kind: str, resource: str, what: str, data: Mapping[str, Any]) -> None:
        """An event `KIND.WHAT` in the operator's own project."""
        project = await self._platform(tx)
        await self.events.record(
            tx, project=project, resource=resource, resource_kind=kind, type=f"{kind}.{what}", data=data
        )

    async def supplies(self, tx: Tx, leaves: Collection[LeafId] | None = None) -> list[LeafSupply]:
        return await self.supply.supplies(tx, self.clock.now(), self.ahead, leaves)

    async def supplies_after(
        self, tx: Tx, leaves: Collection[LeafId], before: Iterable[LeafSupply]
    ) -> list[LeafSupply]:
        """With those of before that have nothing left, as nothing: whoever asks would not see them otherwise."""
        found = await self.supplies(tx, leaves)
        there = {(one.leaf, one.sku) for one in found}
        return [*found, *(_emptied(one) for one in before if (one.leaf, one.sku) not in there)]

    async def before(self, tx: Tx, leaves: Iterable[LeafId]) -> Before:
        """To be called before a change of the supply of these leaves."""
        touched = frozenset(leaves)
        supplies = await self.supplies(tx, touched) if touched else []
        endangered = await self.sold.made_late(tx, supplies) if touched else []
        return Before(touched, tuple(supplies), tuple(endangered))

    async def after(self, tx: Tx, before: Before, *, force: bool) -> list[Endangered]:
        """To be called after it: whom it makes late who was not, or later. Tells them, and those who listen.

        Raises BreaksReservations unless it is forced, which undoes the change.
        """
        if not before.leaves:
            return []
        late = await self.sold.made_late(tx, await self.supplies_after(tx, before.leaves, before.supplies))
        worse = newly(before.endangered, late)
        if worse and not force:
            raise BreaksReservations(worse)
        await self.supply.changed(tx, before.leaves)
        await self.sold.tell(tx, worse)
        return worse


def _emptied(supply: LeafSupply) -> LeafSupply:
    nothing = (replace(supply.sellable[0], nodes=0),)
    return replace(supply, size=0, sellable=nothing, deliverable=nothing)


def newly(before: Iterable[Endangered], after: Iterable[Endangered]) -> list[Endangered]:
    """Those of `after` that are shorter than they were, or for longer."""
    known = {(one.reservation, one.leaf): one for one in before}
    return [one for one in after if _worse(known.get((one.reservation, one.leaf)), one)]


def _worse(before: Endangered | None, after: Endangered) -> bool:
    if before is None or after.nodes_short > before.nodes_short:
        return True
    if before.whole_from is None:
        return False
    return after.whole_from is None or after.whole_from > before.whole_from
