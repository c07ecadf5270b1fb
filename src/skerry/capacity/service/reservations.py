"""Holds and reservations: an offer is kept, bought, or let go."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final, NoReturn

from skerry.billing.service import Billing
from skerry.capacity.binding.service import Deliveries
from skerry.capacity.calendar.model import LeafKey
from skerry.capacity.errors import (
    HeldTooOften,
    HoldExpired,
    HoldTooLarge,
    NotAHold,
    OfferLapsed,
    OfferTaken,
    TooManyHolds,
    UnknownReservation,
)
from skerry.capacity.live import KnownSupply, LiveCalendar
from skerry.capacity.locking import lock_leaves
from skerry.capacity.model import (
    RESERVATION_TRANSITIONS,
    Quote,
    QuoteRequest,
    Reservation,
    ReservationStatus,
)
from skerry.capacity.promises import Promises
from skerry.capacity.rules.offers import priced
from skerry.capacity.rules.reasons import ReasonCode, as_of
from skerry.capacity.service.admissions import (
    KIND,
    Admissions,
    Lapsed,
    NewReservation,
    Refused,
    Wanted,
    read_offer,
)
from skerry.capacity.service.quotes import Quotes
from skerry.capacity.store.quotes import Quoted, QuoteStore
from skerry.capacity.store.reservations import (
    HoldLimits,
    HoldRefused,
    LeafTaken,
    OfferSold,
    ReservationFilter,
    ReservationStore,
    SupplyChanged,
    keys_of,
)
from skerry.capacity.tables import reservations as table
from skerry.db.database import Database, Tx
from skerry.identity.model import Principal
from skerry.kernel.clock import Clock, rfc3339
from skerry.kernel.errors import SkerryError, Unavailable
from skerry.kernel.ids import IdFactory, ProjectId, new_id
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.events import EventLog
from skerry.runtime.state import Reason, transition

_TRIES: Final = 3
"""How often an admission is tried anew where the supply has changed under it."""


class _Undo(Exception):
    """Rolls a dry run back."""

    def __init__(self, reservation: Reservation) -> None:
        super().__init__(reservation.id)
        self.reservation = reservation


class Reservations:
    """Every step is one transaction, and every change of what is promised is made under the locks of its leaves."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        events: EventLog,
        billing: Billing,
        live: LiveCalendar,
        quotes: Quotes,
        deliveries: Deliveries,
        limits: HoldLimits,
        *,
        hold_seconds: int = 900,
        ids: IdFactory = new_id,
    ) -> None:
        self.db, self.clock, self.events, self.billing = db, clock, events, billing
        self.live, self.quotes = live, quotes
        self.admissions = Admissions(db, clock, events, live, limits, timedelta(seconds=hold_seconds), ids)
        self.deliveries = deliveries
        self.store = ReservationStore()
        self._quotes = QuoteStore()
        self._promises = Promises()

    # From an offer

    async def reserve(self, principal: Principal, new: NewReservation) -> Reservation:
        """Hold an offer, or buy it at once. Raises UnknownOffer, NotReservable, OfferLapsed and OfferTaken (both with a
        fresh quote), TooManyHolds, HoldTooLarge, HeldTooOften, CreditExhausted, BudgetExhausted."""
        for _ in range(_TRIES):
            await self.live.ready()
            try:
                if new.confirm:
                    return await self._buy(principal, new)
                return await self.admissions.hold_offer(principal, new)
            except Refused as refused:
                await self._again_or_refuse(principal, refused)
        raise Unavailable("The fleet is just changing.", code="fleet_changing", retry_after=1)

    async def estimate(self, project: ProjectId, new: NewReservation) -> Quoted:
        """What reserving would cost. Raises UnknownOffer, NotReservable."""
        async with self.db.reading() as tx:
            return await read_offer(self._quotes, tx, project, new.offer)

    async def confirm(self, principal: Principal, id: str, *, dry_run: bool = False) -> Reservation:
        """Buy what is held; what is bought already is returned as it is. A dry run does it all and undoes it.

        Raises UnknownReservation, HoldExpired with a fresh quote, NotAHold, CreditExhausted, BudgetExhausted.
        """
        for _ in range(_TRIES):
            await self.live.ready()
            found: Reservation | None = None
            try:
                async with self.db.transaction() as tx:
                    found, offer = await self.locked(tx, principal.project_id, id)
                    status = as_of(found, self.clock.now()).status
                    if status is ReservationStatus.HELD:
                        bought = await self._confirm(tx, principal, found)
                        if dry_run:
                            raise _Undo(bought)
                        return bought
                    if found.confirmed_at is not None:
                        return found
                    if found.status is ReservationStatus.HELD:
                        await self.expire(tx, found)
                    request = await self._request(tx, found, offer)
                if status is not ReservationStatus.EXPIRED or request is None:
                    raise NotAHold(f"reservation {id} is {status}", suggestion="Ask for a new quote to reserve again.")
                await self._refuse(principal, request, HoldExpired, "The hold has lapsed.")
            except _Undo as undone:
                return undone.reservation
            except (SupplyChanged, LeafTaken) as trouble:
                assert found is not None
                self.live.doubt(keys_of(found))
                if isinstance(trouble, LeafTaken):
                    await self._lost(principal, found)
                await self.live.refresh()
        raise Unavailable("The fleet is just changing.", code="fleet_changing", retry_after=1)

    async def drop(self, project: ProjectId, id: str) -> Reservation:
        """Give a hold back; one that has lapsed or was dropped stays as it is. Raises UnknownReservation, NotAHold."""
        async with self.db.transaction() as tx:
            found, _ = await self.locked(tx, project, id)
            if found.status is ReservationStatus.HELD:
                if as_of(found, self.clock.now()).status is ReservationStatus.EXPIRED:
                    found = await self.expire(tx, found)
                else:
                    await self.free(tx, found, ReservationStatus.CANCELLED, ReasonCode.DROPPED, "It was given back.")
                    found = await self._again(tx, found)
            elif found.confirmed_at is not None:
                raise NotAHold(
                    f"reservation {id} is {found.status}: only holds are deleted",
                    suggestion=f"Cancel it: POST /api/v1/reservations/{id}/change-quotes with kind cancel.",
                )
        self.live.doubt(keys_of(found))
        return found

    # Reading

    async def get(self, project: ProjectId, id: str) -> Reservation:
        """As it is at this moment. Raises UnknownReservation."""
        async with self.db.reading() as tx:
            return await self.read(tx, project, id)

    async def read(self, tx: Tx, project: ProjectId, id: str) -> Reservation:
        """The same inside a transaction, for domains above. Raises UnknownReservation."""
        found = await self.store.find(tx, project, id)
        if found is None:
            raise unknown(id)
        return as_of(found[0], self.clock.now())

    async def list(self, project: ProjectId, wanted: ReservationFilter, page: PageRequest) -> Page[Reservation]:
        """Newest first."""
        now = self.clock.now()
        async with self.db.reading() as tx:
            found = await self.store.page(tx, project, wanted, page, now)
        return found.map(lambda one: as_of(one, now))

    # Inside other transactions

    async def locked(self, tx: Tx, project: ProjectId | None, id: str) -> tuple[Reservation, str | None]:
        """Its row locked, then the locks of its leaves, and it as it is after that; with the id of its offer.

        `project` None: any, for reconcilers. Raises UnknownReservation.
        """
        found = await self.store.find(tx, project, id, lock=True)
        if found is None:
            raise unknown(id)
        await lock_leaves(tx, keys_of(found[0]))
        return found

    async def move(
        self,
        tx: Tx,
        reservation: Reservation,
        after: ReservationStatus,
        reason: Reason,
        values: Mapping[str, object] | None = None,
    ) -> bool:
        """One step, with its event. False: it was no longer in the status that the caller read."""
        return await transition(
            tx,
            self.events,
            RESERVATION_TRANSITIONS,
            table,
            id=reservation.id,
            project=reservation.project,
            before=reservation.status,
            after=after,
            reason=reason,
            values=values,
        )

    async def free(
        self, tx: Tx, reservation: Reservation, after: ReservationStatus, code: ReasonCode, words: str
    ) -> None:
        """End it, and its promises with it. The leaves' locks are held."""
        await self.move(tx, reservation, after, Reason(code, words), {"ended_at": self.clock.now()})
        await self.store.free_legs(tx, reservation.id)
        await self._promises.touch(tx, keys_of(reservation))

    async def expire(self, tx: Tx, hold: Reservation) -> Reservation:
        """Write down that a hold has lapsed. Its nodes were free from `expires_at` on, whoever wrote that down when."""
        assert hold.expires_at is not None
        gone = as_of(hold, hold.expires_at)
        done = await self.move(
            tx, hold, ReservationStatus.EXPIRED, Reason(gone.reason_code, gone.reason), {"ended_at": hold.expires_at}
        )
        if done:
            await self.store.free_legs(tx, hold.id)
            data = {"effective_at": rfc3339(hold.expires_at)}
            await self.record(tx, hold, "reservation.lapsed", data)
        return gone

    async def expire_due(self, tx: Tx, limit: int = 100) -> int:
        """The sweeper's part: write down what has lapsed, up to so many; returns how many it were."""
        lapsed = await self.store.lapsed(tx, self.clock.now(), limit)
        for hold in lapsed:
            await self.expire(tx, hold)
        return len(lapsed)

    async def record(self, tx: Tx, reservation: Reservation, type: str, data: Mapping[str, object]) -> None:
        await self.events.record(
            tx, project=reservation.project, resource=reservation.id, resource_kind=KIND, type=type, data=data
        )

    async def fresh_quote(self, principal: Principal, request: QuoteRequest) -> Quote | None:
        """To go with a refusal; None where the request cannot even be quoted any more."""
        try:
            return await self.quotes.again(principal, request)
        except SkerryError:
            return None

    # Helpers

    async def _buy(self, principal: Principal, new: NewReservation) -> Reservation:
        async with self.db.transaction() as tx:
            (made,) = await self.admissions.admit(tx, [Wanted(principal, new)])
            if isinstance(made, Exception):
                raise made
            await self._sell(tx, principal, made)
            return made

    async def _again_or_refuse(self, principal: Principal, refused: Refused) -> None:
        """Returns where it is worth another try. Raises OfferLapsed, OfferTaken, or that a hold is one too many."""
        request = refused.quoted.request
        match refused.why:
            case Lapsed():
                await self._refuse(principal, request, OfferLapsed, "The offer has lapsed.")
            case OfferSold():
                await self._refuse(principal, request, OfferTaken, "This offer has been reserved already.")
            case LeafTaken():
                self.live.doubt(refused.keys)
                await self._refuse(principal, request, OfferTaken, "Others were faster: the offer is taken.")
            case HoldRefused(limit=limit):
                raise self._hold_refused(limit)
        self.live.doubt(refused.keys)
        await self.live.refresh()

    def supply(self, keys: Sequence[LeafKey]) -> Sequence[KnownSupply]:
        return self.live.supply(keys)

    async def _confirm(self, tx: Tx, principal: Principal, hold: Reservation) -> Reservation:
        now = self.clock.now()
        await self.store.keep_legs(tx, hold.id)
        # The clock of whoever sold meanwhile may have been ahead of ours: only the count says that it is still there.
        await self.store.require(tx, hold.id, now, self.supply(keys_of(hold)))
        reason = Reason(ReasonCode.BOUGHT, "It is bought.")
        values = {"expires_at": None, "confirmed_at": now}
        assert await self.move(tx, hold, ReservationStatus.CONFIRMED, reason, values), "its row is locked"
        bought = await self._again(tx, hold)
        await self._sell(tx, principal, bought)
        await self._promises.touch(tx, keys_of(hold))
        return bought

    async def _sell(self, tx: Tx, principal: Principal, bought: Reservation) -> None:
        """The contract line. Locks of the ledger come last. The binder takes it on by itself when its time comes."""
        await self.billing.reserved.open(
            tx, principal, bought.id, bought.project, priced(bought.legs, bought.sku), bought.price
        )

    async def _again(self, tx: Tx, reservation: Reservation) -> Reservation:
        found = await self.store.find(tx, reservation.project, reservation.id)
        assert found is not None
        return found[0]

    async def _request(self, tx: Tx, reservation: Reservation, offer: str | None) -> QuoteRequest | None:
        quoted = await self._quotes.offer(tx, reservation.project, offer) if offer else None
        return quoted.request if quoted else None

    async def _lost(self, principal: Principal, found: Reservation) -> NoReturn:
        """What was held is not there any more: nodes have failed, or a clock was wrong."""
        async with self.db.reading() as tx:
            again = await self.store.find(tx, found.project, found.id)
            request = await self._request(tx, found, again[1] if again else None)
        if request is None:
            raise HoldExpired("What was held is not there any more.", suggestion="Ask for a new quote.")
        await self._refuse(principal, request, HoldExpired, "What was held is not there any more.")

    async def _refuse(
        self, principal: Principal, request: QuoteRequest, kind: type[SkerryError], words: str
    ) -> NoReturn:
        quote = await self.fresh_quote(principal, request)
        raise kind(
            words,
            suggestion="Take an offer of the fresh quote." if quote and quote.offers else "Ask for another quote.",
            extra={"quote": quote},
        )

    def _hold_refused(self, limit: str) -> SkerryError:
        most = self.admissions.limits
        retry = int(self.admissions.hold.total_seconds())
        if limit == "holds":
            return TooManyHolds(
                f"the organization has {most.holds} holds already",
                suggestion="Confirm or drop one, or wait until one lapses.",
                retry_after=retry,
            )
        if limit == "node_seconds":
            return HoldTooLarge(
                f"the organization may hold {most.node_seconds} node-seconds at a time",
                suggestion="Confirm at once (confirm: true), or hold less.",
                retry_after=retry,
            )
        return HeldTooOften(
            f"this was held and let go {most.repeats} times in a day",
            suggestion="Confirm at once (confirm: true), or come back tomorrow.",
            retry_after=86_400,
        )


def unknown(id: str) -> UnknownReservation:
    return UnknownReservation(
        f"there is no reservation {id!r} in this project", suggestion="GET /api/v1/reservations lists yours."
    )
