"""The second half of a reconciler's step: what was seen is written down, in one transaction.

Locks are taken in the order that everybody keeps: the binder's own row, the reservation, then its leaves.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog

from skerry.capacity.binding.leaves import LeafBinder
from skerry.capacity.binding.model import KIND, BindingReason, Booked, Handover, Work
from skerry.capacity.binding.rules.deciding import GRACE, Decision, Standing, decide
from skerry.capacity.binding.rules.delivery import Promise, facts, had, records
from skerry.capacity.binding.store import BOUND, BindingStore
from skerry.capacity.calendar.model import LeafKey
from skerry.capacity.claims.model import Claim
from skerry.capacity.claims.store import ClaimStore
from skerry.capacity.locking import lock_leaves
from skerry.capacity.model import RESERVATION_TRANSITIONS, ReservationStatus
from skerry.capacity.tables import reservations
from skerry.db.database import Tx
from skerry.db.notify import WORK, notify
from skerry.kernel.clock import Clock
from skerry.kernel.ids import NodeId, ReservationId
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog
from skerry.runtime.outbox import Outbox
from skerry.runtime.state import Reason, transition


class Settlement(Protocol):
    """What is to be done about the money of a reservation that is over (billing)."""

    async def over(self, tx: Tx, reservation: ReservationId, now: datetime) -> None:
        """Nothing more of it will be used: whatever is still committed for it is free."""
        ...


class NothingToSettle:
    """Where nobody keeps commitments."""

    async def over(self, tx: Tx, reservation: ReservationId, now: datetime) -> None:
        return


@dataclass(frozen=True, slots=True)
class Next:
    """When to look again, what to remember in the binder's row, and whether anything has changed."""

    due_at: datetime
    values: Mapping[str, Any]
    changed: bool


class Advance:
    def __init__(
        self,
        clock: Clock,
        events: EventLog,
        outbox: Outbox,
        metering: Metering,
        leaves: LeafBinder,
        store: BindingStore,
        lead: timedelta,
        settlement: Settlement,
    ) -> None:
        self._clock = clock
        self._events = events
        self._outbox = outbox
        self._metering = metering
        self._leaves = leaves
        self._store = store
        self._claims = ClaimStore()
        self._lead = lead
        self._settlement = settlement
        self._log = structlog.get_logger("skerry.capacity.binding")

    async def write(self, tx: Tx, work: Work, seen: Mapping[NodeId, Handover]) -> Next:
        """The binder's row is locked; `seen` is what engines said a moment ago."""
        booked = await self._store.lock_reservation(tx, work.id)
        now = self._clock.now()
        if booked.status not in BOUND:
            return await self._finish(tx, work, booked, now)
        keys = await self._store.keys(tx, work.id, now)
        await lock_leaves(tx, [LeafKey(*key) for key in keys])
        bound = await self._leaves.bind(tx, keys, now)
        await self._hint_others(tx, bound.touched - {work.id}, now)
        claims = await self._hand_over(tx, work, seen, now)
        await self._evict(tx, work.id, [one.node for one in claims if one.covers(now)], now)
        promises = await self._store.promises(tx, booked)
        standing = _standing(booked, promises, claims, seen, now, fresh=work.id in bound.touched)
        decision = decide(standing, now, self._lead)
        active_at = work.active_at or decision.active_at
        values = {"active_at": active_at, **await self._close_hours(tx, work, booked, promises, active_at, now)}
        await self._carry_out(tx, booked, decision, now)
        again = _again(decision, promises, claims, seen, now)
        return Next(again, values, changed=decision.status is not None or bool(bound.touched) or again <= now)

    async def _hand_over(self, tx: Tx, work: Work, seen: Mapping[NodeId, Handover], now: datetime) -> list[Claim]:
        """All its claims, as they are after what engines said of their nodes.

        Until all is there, a node that was may be no longer: what counts is that it is there at the start.
        """
        live = [one for one in await self._claims.of_holders(tx, [work.id], live_at=now) if one.node in seen]
        ready = [one.id for one in live if seen[one.node].ready]
        await self._claims.delivered(tx, ready, now)
        if work.active_at is None:
            await self._claims.undelivered(tx, [one.id for one in live if not seen[one.node].ready])
        return await self._claims.of_holders(tx, [work.id])

    async def _evict(self, tx: Tx, id: ReservationId, nodes: Collection[NodeId], now: datetime) -> None:
        """Work inside the reservation on any node but these is to leave: the node is no longer the reservation's."""
        inside = await self._claims.inside(tx, id, now)
        await self._claims.reclaim(tx, [one.id for one in inside if one.node not in nodes], now)

    async def _carry_out(self, tx: Tx, booked: Booked, decision: Decision, now: datetime) -> None:
        if decision.status is None:
            await self._explain(tx, booked, decision.code, decision.message, now)
            return
        values: dict[str, Any] = {}
        if decision.status in (ReservationStatus.ENDED, ReservationStatus.CANCELLED):
            values["ended_at"] = booked.end
        moved = await transition(
            tx,
            self._events,
            RESERVATION_TRANSITIONS,
            reservations,
            id=booked.id,
            project=booked.project,
            before=booked.status,
            after=decision.status,
            reason=Reason(decision.code, decision.message),
            values=values,
        )
        assert moved, "the row is locked, its status is what was read"
        told = {"reservation": booked.id, "project": booked.project, "status": decision.status.value}
        await self._outbox.put(tx, KIND, told)

    async def _explain(self, tx: Tx, booked: Booked, code: BindingReason, message: str, now: datetime) -> None:
        """Another code is worth an event, other words are not."""
        if (booked.reason_code, booked.reason) == (code.value, message):
            return
        reason = Reason(code, message).to_json()
        await self._store.explain(tx, booked, reason, now)
        if booked.reason_code != code.value:
            await self._events.record(
                tx,
                project=booked.project,
                resource=booked.id,
                resource_kind=KIND,
                type=f"{KIND}.reason",
                data={"reason": reason},
            )

    async def _finish(self, tx: Tx, work: Work, booked: Booked, now: datetime) -> Next:
        """It is over, by time or by its customer: nodes go back, and what is left of it goes on record."""
        keys = await self._store.keys(tx, work.id, now)
        await lock_leaves(tx, [LeafKey(*key) for key in keys])
        promises = await self._store.promises(tx, booked)
        # A customer's end is the full second after it was asked for: it may be still to come.
        last = max((one.end for one in promises), default=now)
        claims = await self._claims.of_holders(tx, [work.id])
        live = [one.id for one in claims if one.live(now)]
        await self._claims.end(tx, live, max(now, last), released=True)
        await self._evict(tx, work.id, (), now)
        if now < last:
            return Next(last, {}, changed=False)
        values = await self._close_hours(tx, work, booked, promises, work.active_at, now, final=True)
        await self._settlement.over(tx, work.id, now)
        # Others may have waited for these nodes.
        if await self._store.hint_leaves(tx, [leaf for leaf, _ in keys], now) if keys else 0:
            await notify(tx, WORK, KIND)
        return Next(now, {**values, "ended_at": now}, changed=False)

    async def _close_hours(
        self,
        tx: Tx,
        work: Work,
        booked: Booked,
        promises: Sequence[Promise],
        active_at: datetime | None,
        now: datetime,
        *,
        final: bool = False,
    ) -> dict[str, Any]:
        """Put on record what is over: facts and rows together, once. Returns how far the record goes."""
        through = now if final else now - GRACE
        begin = work.metered_through
        claims = await self._claims.of_holders(tx, [work.id])
        pieces = records(promises, had(claims, active_at, now), begin, through, final=final)
        if not pieces:
            return {}
        await self._store.record(tx, work.id, booked.project, pieces)
        result = await self._metering.intake(tx, list(facts(booked.id, booked.project, booked.sku, pieces)))
        if result.rejected:
            self._log.error("delivery_usage_rejected", facts=[str(one.id) for one in result.rejected])
        return {"metered_through": max(piece.t1 for piece in pieces)}

    async def _hint_others(self, tx: Tx, touched: set[ReservationId], now: datetime) -> None:
        if touched:
            await self._store.hint(tx, touched, now)
            await notify(tx, WORK, KIND)


def _again(
    decision: Decision,
    promises: Sequence[Promise],
    claims: Sequence[Claim],
    seen: Mapping[NodeId, Handover],
    now: datetime,
) -> datetime:
    """When to look again: at once for nodes of which nobody was asked yet, and whenever a leg begins or ends."""
    if any(one.live(now) and one.delivered_at is None and one.node not in seen for one in claims):
        return now
    turns = (at for one in promises for at in (one.start, one.end) if at > now)
    return min((decision.again, *turns))


def _standing(
    booked: Booked,
    promises: Sequence[Promise],
    claims: Sequence[Claim],
    seen: Mapping[NodeId, Handover],
    now: datetime,
    *,
    fresh: bool,
) -> Standing:
    """At this moment, or at the start where that is to come."""
    moment = max(now, booked.start)
    wanted = sum(one.nodes for one in promises if one.start <= moment < one.end)
    bound = [one for one in claims if not one.void and one.start <= moment and (one.end is None or moment < one.end)]
    there = [one.delivered_at for one in bound if one.delivered_at is not None]
    waiting = [seen[one.node] for one in bound if one.delivered_at is None and one.node in seen]
    return Standing(
        status=booked.status,
        start=booked.start,
        end=booked.end,
        wanted=wanted,
        bound=len(bound),
        there=len(there),
        there_at=max(there, default=None),
        waiting=waiting,
        fresh=fresh or len(there) + len(waiting) < len(bound),
    )
