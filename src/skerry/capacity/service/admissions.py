"""How offers become reservations: many in one transaction, each admitted or refused on its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from skerry.capacity.calendar.model import LeafKey
from skerry.capacity.errors import NotReservable, UnknownOffer
from skerry.capacity.live import LiveCalendar
from skerry.capacity.model import Leg, Reservation, ReservationStatus
from skerry.capacity.moments import ceil_second
from skerry.capacity.rules.reasons import ReasonCode
from skerry.capacity.store.quotes import Quoted, QuoteStore
from skerry.capacity.store.reservations import (
    Admission,
    HoldLimits,
    NotAdmitted,
    ReservationStore,
    keys_of,
)
from skerry.capacity.together import Together
from skerry.db.database import Database, Tx
from skerry.db.errors import DatabaseUnavailable
from skerry.identity.model import Principal
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import Clock, rfc3339
from skerry.kernel.errors import SkerryError
from skerry.kernel.ids import IdFactory, OfferId, ProjectId, ReservationId
from skerry.runtime.events import EventLog

KIND: Final = "reservation"


@dataclass(frozen=True, slots=True)
class NewReservation:
    """What is asked of an offer."""

    offer: OfferId
    name: str | None = None
    tags: Mapping[str, str] | None = None
    confirm: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """And by whom."""

    principal: Principal
    new: NewReservation


class Lapsed(NotAdmitted):
    """The offer is past its time."""


class Refused(Exception):
    """Of an offer that is there."""

    def __init__(self, quoted: Quoted, why: NotAdmitted) -> None:
        super().__init__(quoted.offer.id, type(why).__name__)
        self.quoted, self.why = quoted, why

    @property
    def keys(self) -> list[LeafKey]:
        return sorted({LeafKey(leg.leaf, self.quoted.request.sku) for leg in self.quoted.offer.legs})


class Admissions:
    """Holds that are asked for at about the same time are admitted together: one lock, one count, one commit."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        events: EventLog,
        live: LiveCalendar,
        limits: HoldLimits,
        hold: timedelta,
        ids: IdFactory,
    ) -> None:
        self.db, self.clock, self.events, self.live = db, clock, events, live
        self.limits, self.hold, self.new_id = limits, hold, ids
        self.store = ReservationStore()
        self._quotes = QuoteStore()
        self._holds: Together[Wanted, Reservation] = Together(self._hold_all)

    async def hold_offer(self, principal: Principal, new: NewReservation) -> Reservation:
        """In a transaction with others. Raises UnknownOffer, NotReservable, Refused."""
        return await self._holds.do(Wanted(principal, new))

    async def admit(self, tx: Tx, wanted: Sequence[Wanted]) -> list[Reservation | Exception]:
        """What became of each: a reservation, Refused, UnknownOffer or NotReservable. All are held, or all bought."""
        found = await self._quotes.offers(tx, [one.new.offer for one in wanted])
        now = self.clock.now()
        answers: list[Reservation | Exception] = []
        admissions: dict[str, Admission] = {}
        for one in wanted:
            answer = self._made(one, found.get((one.principal.project_id, one.new.offer)), now)
            answers.append(answer)
            if isinstance(answer, Reservation):
                event = await self._event(tx, answer)
                admissions[answer.id] = Admission(answer, one.new.offer, one.principal.key_id, event)
        if not admissions:
            return answers
        supply = self.live.supply({key for one in admissions.values() for key in keys_of(one.reservation)})
        limits = None if wanted[0].new.confirm else self.limits
        refused = await self.store.admit(tx, list(admissions.values()), now=now, supply=supply, limits=limits)
        for place, (one, answer) in enumerate(zip(wanted, answers, strict=True)):
            if isinstance(answer, Reservation) and (why := refused.get(answer.id)) is not None:
                answers[place] = Refused(found[one.principal.project_id, one.new.offer], why)
        return answers

    def with_ids(self, legs: Sequence[Leg]) -> tuple[Leg, ...]:
        """Legs of a reservation have ids: claims name them."""
        return tuple(leg if leg.id else replace(leg, id=self.new_id("leg")) for leg in legs)

    async def _hold_all(self, wanted: Sequence[Wanted]) -> Sequence[Reservation | Exception]:
        try:
            async with self.db.transaction() as tx:
                return await self.admit(tx, wanted)
        except DatabaseUnavailable:
            raise
        except Exception:
            if len(wanted) == 1:
                raise
        # One of them is more than the database takes: the others shall not suffer for it.
        return [await self._hold_alone(one) for one in wanted]

    async def _hold_alone(self, wanted: Wanted) -> Reservation | Exception:
        try:
            async with self.db.transaction() as tx:
                return (await self.admit(tx, [wanted]))[0]
        except Exception as error:
            return error

    def _made(self, wanted: Wanted, quoted: Quoted | None, now: datetime) -> Reservation | Exception:
        new = wanted.new
        if (refusal := why_none(new.offer, quoted)) is not None:
            return refusal
        assert quoted is not None
        offer, request = quoted.offer, quoted.request
        if offer.expires_at <= now:
            return Refused(quoted, Lapsed())
        expires = None if new.confirm else min(ceil_second(now + self.hold), offer.end)
        return Reservation(
            id=ReservationId(self.new_id("res")),
            project=wanted.principal.project_id,
            organization=wanted.principal.organization_id,
            name=new.name or f"{request.sku}-{request.nodes}",
            sku=request.sku,
            status=ReservationStatus.CONFIRMED if new.confirm else ReservationStatus.HELD,
            reason_code=ReasonCode.BOUGHT if new.confirm else ReasonCode.ON_HOLD,
            reason="It is bought." if expires is None else f"It is kept until {rfc3339(expires)}.",
            scope=request.scope,
            scope_required=request.scope_required,
            legs=self.with_ids(offer.legs),
            price=offer.price,
            energy=offer.energy,
            created_at=now,
            updated_at=now,
            expires_at=expires,
            tags=dict(new.tags or {}),
            confirmed_at=now if new.confirm else None,
        )

    async def _event(self, tx: Tx, made: Reservation) -> dict[str, Any]:
        """The first one of a reservation."""
        data = {
            "sku": made.sku,
            "start": rfc3339(made.start),
            "end": rfc3339(made.end),
            "node_seconds": made.node_seconds,
            "legs": [{"leaf": leg.leaf_name, "nodes": leg.nodes} for leg in made.legs],
            "expires_at": rfc3339(made.expires_at) if made.expires_at else None,
            "reason": {"code": made.reason_code, "message": made.reason},
        }
        return await self.events.row(
            tx, project=made.project, resource=made.id, resource_kind=KIND, type=f"{KIND}.{made.status}", data=data
        )


def why_none(id: OfferId, quoted: Quoted | None) -> SkerryError | None:
    """Why an offer is none to reserve."""
    if quoted is None:
        return UnknownOffer(f"there is no offer {id!r} in this project", suggestion="Ask for a quote.")
    if (own := quoted.request.capacity_class) is not CapacityClass.RESERVED:
        return NotReservable(
            f"{own} capacity is not reserved",
            suggestion=f"Create an instance or a cluster with capacity_class {own}: it takes what is free then.",
        )
    return None


async def read_offer(store: QuoteStore, tx: Tx, project: ProjectId, id: OfferId) -> Quoted:
    """Raises UnknownOffer, NotReservable."""
    quoted = await store.offer(tx, project, id)
    if (refusal := why_none(id, quoted)) is not None:
        raise refusal
    assert quoted is not None
    return quoted
