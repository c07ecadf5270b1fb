"""Brings each reservation from its start less the lead time to its end: nodes, hand-over, spares, record, end.

What is decided is in the rows, what is there is asked for; nothing is remembered between steps. Facts have ids that
derive from what they record, so a controller may die anywhere.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from skerry.capacity.binding.advance import Advance, NothingToSettle, Settlement
from skerry.capacity.binding.leaves import LeafBinder
from skerry.capacity.binding.model import KIND, BindingReason, Deliverer, Handover, Work
from skerry.capacity.binding.store import BindingStore
from skerry.capacity.claims.store import ClaimStore
from skerry.db.database import Database
from skerry.fleet.service import Fleet
from skerry.kernel.clock import Clock
from skerry.kernel.ids import IdFactory, NodeId, new_id
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog
from skerry.runtime.outbox import Outbox
from skerry.runtime.reconciler import back_off_seconds

LEASE_SECONDS: Final = 60.0
"""A controller that dies holds up what it was at for so long; a step that takes longer is done again, to no harm."""
LEAD: Final = timedelta(minutes=15)
NOTICE: Final = timedelta(seconds=60)
_LONGEST_BACK_OFF: Final = 60.0

Seen = Mapping[NodeId, Handover]


class ReservationReconciler:
    """Run it with `Loop(…, wake=wakes.event("reservation"), poll_seconds=1)`: starts and ends come by the clock."""

    kind = KIND

    def __init__(
        self,
        db: Database,
        clock: Clock,
        fleet: Fleet,
        events: EventLog,
        outbox: Outbox,
        metering: Metering,
        deliverer: Deliverer,
        *,
        lead: timedelta = LEAD,
        notice: timedelta = NOTICE,
        settlement: Settlement | None = None,
        new_id: IdFactory = new_id,
    ) -> None:
        self._db = db
        self._clock = clock
        self._fleet = fleet
        self._deliverer = deliverer
        self._lead = lead
        self._store = BindingStore()
        self._claims = ClaimStore()
        leaves = LeafBinder(fleet, events, self._store, new_id, lead, notice)
        self._advance = Advance(
            clock, events, outbox, metering, leaves, self._store, lead, settlement or NothingToSettle()
        )

    async def claim(self, limit: int) -> Sequence[Work]:
        now = self._clock.now()
        async with self._db.transaction() as tx:
            await self._store.adopt(tx, now + self._lead, now)
            return await self._store.claim(tx, now, limit, LEASE_SECONDS)

    async def step(self, row: Work) -> Seen:
        """Ask about the nodes that were chosen and not handed over yet; until all is there, about all of them."""
        async with self._db.reading() as tx:
            live = await self._claims.of_holders(tx, [row.id], live_at=self._clock.now())
            waiting = [one for one in live if one.delivered_at is None or row.active_at is None]
            nodes = await self._fleet.leaf_nodes(tx, {(one.leaf, one.sku) for one in waiting})
        wanted = {one.node for one in waiting}
        asked = [node for some in nodes.values() for node in some if node.id in wanted]
        # Whoever is not spoken of is not there; so everybody is spoken of, and nothing is asked again at once.
        nobody: dict[NodeId, Handover] = {id: Handover(False, BindingReason.NO_ENGINE) for id in wanted}
        return nobody | dict(await self._deliverer.look(asked, row.id)) if asked else nobody

    async def apply(self, row: Work, change: Seen | None) -> bool:
        assert change is not None, "every look finds something"
        async with self._db.transaction() as tx:
            current = await self._store.lock(tx, row)
            if current is None:
                return False
            after = await self._advance.write(tx, current, change)
            hinted = current.hints != row.hints
            due_at = self._clock.now() if hinted else after.due_at
            await self._store.release(tx, row, {**after.values, "due_at": due_at, "failures": 0})
        return after.changed or hinted

    async def failed(self, row: Work, error: Exception) -> None:
        wait = back_off_seconds(row.failures + 1, _LONGEST_BACK_OFF)
        due_at = self._clock.now() + timedelta(seconds=wait)
        async with self._db.transaction() as tx:
            await self._store.release(tx, row, {"due_at": due_at, "failures": row.failures + 1})
