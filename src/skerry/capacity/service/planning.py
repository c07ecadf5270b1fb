"""What a change would do to a reservation: its legs, price and fee. Decided in memory, carried out in `changes`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from skerry.billing.model import ReservedPrice, ReservedTerms
from skerry.billing.service import Pricer, Reserved
from skerry.capacity.asking import ChangeAsk
from skerry.capacity.calendar.model import LeafKey
from skerry.capacity.changing import ChangeKind, ChangePlan, PartLegs
from skerry.capacity.errors import BadChange, NoRoomForChange
from skerry.capacity.live import LiveCalendar
from skerry.capacity.model import Leg, OfferEnergy, QuoteRequest, Reservation, ReservationStatus
from skerry.capacity.moments import ceil_second, instant, seconds
from skerry.capacity.rules import changes as rules
from skerry.capacity.rules.asking import Market, allowed_site, check_end, check_not_past
from skerry.capacity.rules.energy import expected, place_of
from skerry.capacity.rules.finding import Finder
from skerry.capacity.rules.offers import priced
from skerry.identity.model import Project
from skerry.kernel.clock import rfc3339
from skerry.kernel.errors import FieldError

_ZERO = Decimal(0)
_UNDELIVERED = (ReservationStatus.CONFIRMED, ReservationStatus.DELIVERING, ReservationStatus.LATE)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Planner:
    """Everything a plan is made of; the calendar is up to date. `projects`: those that a split names, by how."""

    live: LiveCalendar
    market: Market
    reservation: Reservation
    terms: ReservedTerms
    pricer: Pricer
    jurisdictions: tuple[str, ...] = ()
    projects: Mapping[str, Project] | None = None

    @property
    def now(self) -> datetime:
        return ceil_second(self.market.now)

    def plan(self, ask: ChangeAsk) -> ChangePlan:
        """Raises BadChange, NoRoomForChange, BeyondHorizon, InThePast, UnknownSite, OutsideJurisdiction."""
        match ChangeKind(ask.kind):
            case ChangeKind.CANCEL:
                return self._reshaped(rules.cancelled(self.reservation.legs, self.now))
            case ChangeKind.EXTEND:
                return self._extended(_given(ask.end_at, "end_at"))
            case ChangeKind.SHRINK:
                return self._shrunk(_given(ask.nodes, "nodes"), ask.since)
            case ChangeKind.MOVE:
                return self._moved(_given(ask.start_at, "start_at"), ask.site)
            case ChangeKind.SPLIT:
                return self._split(ask)

    def price(self, legs: Sequence[Leg]) -> ReservedPrice | None:
        """At what was agreed on, and for hours that are new at what is in force."""
        if not legs:
            return None
        return self.pricer.price(priced(legs, self.reservation.sku), self.terms.rates)

    # Kinds

    def _reshaped(self, after: rules.Reshaped) -> ChangePlan:
        if not after.given_up:
            raise bad("kind", "there is nothing left of it to give up")
        return self._plan(after.legs, self._fee(after.given_up))

    def _shrunk(self, nodes: int, since: datetime | None) -> ChangePlan:
        own = self.reservation
        moment = max(since or self.now, own.start, self.now)
        if since is not None and since >= own.end:
            raise bad("from", f"it is over by then: it ends at {rfc3339(own.end)}")
        after = rules.shrunk(own.legs, nodes, moment)
        if not after.given_up:
            raise bad("nodes", f"it has no more than {nodes} nodes from then on")
        return self._plan(after.legs, self._fee(after.given_up))

    def _extended(self, end: datetime) -> ChangePlan:
        own = self.reservation
        if end <= own.end:
            raise bad("end_at", f"it lasts until {rfc3339(own.end)} already; give a later moment")
        check_end(end, "end_at", self.market)
        last = [leg for leg in own.legs if leg.window.end == own.end]
        needed: dict[LeafKey, int] = {}
        for leg in last:
            key = LeafKey(leg.leaf, own.sku)
            needed[key] = needed.get(key, 0) + leg.nodes
        latest = min(self._free_until(key, nodes, own.end, end) for key, nodes in needed.items())
        if latest < end:
            words = (
                f"its nodes are free until {rfc3339(latest)} only"
                if latest > own.end
                else "its nodes are promised to others from its end on"
            )
            raise NoRoomForChange(
                words,
                suggestion="Extend it to then, or ask for a quote for the time after it.",
                extra={"latest": rfc3339(latest)},
            )
        return self._plan(rules.extended(own.legs, end), _ZERO)

    def _moved(self, start: datetime, site: str | None) -> ChangePlan:
        own, live = self.reservation, self.live
        check_not_past(start, "start_at", self.market)
        check_end(start + (own.end - own.start), "start_at", self.market)
        sites = allowed_site(site, self.market, self.jurisdictions)
        if start == own.start and (site is None or {leg.site for leg in own.legs} == set(sites)):
            raise bad("start_at", "it is there already")
        finder = Finder(
            live.calendar, live.leaves, self._as_request(start, sites), seconds(self.now), seconds(self.market.horizon)
        )
        with live.calendar.what_if():
            self._take_out()
            spot = finder.at(seconds(start))
            later = finder.earliest() if spot is None else None
        if spot is None:
            earliest = rfc3339(later.start) if later is not None else None
            raise NoRoomForChange(
                "there is no room for it then",
                suggestion=f"It would fit from {earliest} on." if earliest else "Try another site, or fewer nodes.",
                extra={"earliest": earliest},
            )
        return self._plan(spot.legs, self._fee(own.legs))

    def _split(self, ask: ChangeAsk) -> ChangePlan:
        own = self.reservation
        made = rules.split(own.legs, [part.nodes for part in ask.parts])
        if made is None:
            raise bad("parts", "the parts together have more nodes than the reservation has at some time")
        left, found = made
        parts = []
        for part, legs in zip(ask.parts, found, strict=True):
            project = (self.projects or {})[part.project]
            price = self.price(legs)
            assert price is not None
            parts.append(PartLegs(project.id, legs, price, self._energy(legs)))
        return self._plan(left, _ZERO, tuple(parts))

    # Helpers

    def _plan(self, legs: tuple[Leg, ...], fee: Decimal, parts: tuple[PartLegs, ...] = ()) -> ChangePlan:
        before = self.price(self.reservation.legs)
        assert before is not None
        after = self.price(legs)
        total = (after.total if after else _ZERO) + sum((part.price.total for part in parts), _ZERO)
        more = total - before.total
        return ChangePlan(
            legs=legs,
            price=after,
            energy=self._energy(legs),
            charge=max(more, _ZERO) + fee,
            refund=max(-more, _ZERO),
            fee=fee,
            currency=before.currency,
            parts=parts,
        )

    def _fee(self, given_up: Sequence[Leg]) -> Decimal:
        """By the terms agreed on at confirmation, with notice counted from the start of the reservation, whatever part
        of it is given up; none while we are late ourselves, also where nobody has written that down yet."""
        own = self.reservation
        if own.status in _UNDELIVERED and (own.status is ReservationStatus.LATE or own.start <= self.now):
            return _ZERO
        legs = priced(given_up, own.sku)
        terms = self.terms
        return Reserved.cancellation_fee(terms.cancellation, legs, terms.rates, self.now, begins=own.start).amount

    def _energy(self, legs: Sequence[Leg]) -> OfferEnergy:
        sku = self.live.skus.get(self.reservation.sku)
        places = {name: place_of(site) for name, site in self.live.sites.items()}
        return expected(legs, sku.tdp_w if sku else None, places)

    def _free_until(self, key: LeafKey, nodes: int, start: datetime, end: datetime) -> datetime:
        """Up to when so many nodes are free from `start` on, to the second."""
        first, last, now = seconds(start), seconds(end), seconds(self.now)
        if self.live.calendar.min_free(key, first, last, now) >= nodes:
            return end
        good, bad_ = first, last
        while bad_ - good > 1:
            middle = (good + bad_) // 2
            if self.live.calendar.min_free(key, first, middle, now) >= nodes:
                good = middle
            else:
                bad_ = middle
        return instant(good)

    def _as_request(self, start: datetime, sites: tuple[str, ...]) -> QuoteRequest:
        own = self.reservation
        schedule = rules.schedule_of(own.legs)
        return QuoteRequest(
            sku=own.sku,
            nodes=schedule.peak(),
            duration_seconds=int((own.end - own.start).total_seconds()),
            start_at=start,
            earliest_after=start,
            schedule=schedule if len(schedule.spans) > 1 else None,
            sites=sites,
            scope=own.scope,
            scope_required=own.scope_required,
        )

    def _take_out(self) -> None:
        """Its own nodes are free for it. The calendar may be a moment behind, and not have a leg yet."""
        for leg in self.reservation.legs:
            key = LeafKey(leg.leaf, self.reservation.sku)
            if any(booking.id == leg.id for booking in self.live.calendar.bookings(key, self.live.now)):
                self.live.calendar.unbook(key, leg.id)


def bad(path: str, message: str) -> BadChange:
    return BadChange(message, errors=[FieldError(path, "bad_change", message)])


def _given(value: T | None, name: str) -> T:
    if value is None:
        raise bad(name, f"this kind of change needs {name}")
    return value
