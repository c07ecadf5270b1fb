"""What to offer: what was asked for, else the earliest, and what would be cheaper or greener. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, Protocol

from skerry.billing.model import PricedLeg, ReservedPrice
from skerry.capacity.calendar.model import LeafKey
from skerry.capacity.errors import ScopeTooLarge
from skerry.capacity.model import Leg, NoOffer, OfferEnergy, OfferKind, Scope
from skerry.capacity.moments import instant, seconds
from skerry.capacity.rules.energy import PowerPlace, carbon, expected
from skerry.capacity.rules.finding import Finder, Spot, end_of, fragmentation, one_site, wider
from skerry.fleet.model import LeafSupply
from skerry.kernel.clock import rfc3339
from skerry.kernel.errors import FieldError

LATER_DAYS: Final = 90
"""How much later than the main offer a cheaper one may start."""
GREENER_TRIES: Final = 6
"""So many of the greenest hours and sites are tried."""
GREENER_DAYS: Final = 14
"""What lasts longer meets all hours of the day alike: only other sites are greener."""
_WORTH_IT: Final = Decimal("0.98")
"""Another offer has to cost less than this share of the main one,"""
_GREENER: Final = 0.98
"""or emit less than this."""
_HOUR: Final = 3600
_DAY: Final = 86_400


class Prices(Protocol):
    """What is needed of billing (`Pricer`)."""

    def price(self, legs: Sequence[PricedLeg]) -> ReservedPrice: ...

    @property
    def moments(self) -> Sequence[datetime]:
        """When prices change, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Draft:
    """An offer without its id."""

    kind: OfferKind
    spot: Spot
    price: ReservedPrice
    energy: OfferEnergy
    site: str | None
    fragmentation: Decimal

    @property
    def legs(self) -> tuple[Leg, ...]:
        return self.spot.legs

    @property
    def end(self) -> datetime:
        return end_of(self.spot.legs)


@dataclass(frozen=True, slots=True)
class Drafting:
    """All that offers are made of. `watts`: of a node; `places`: energy figures by site name."""

    finder: Finder
    prices: Prices
    watts: int | None
    places: Mapping[str, PowerPlace]
    leaves: Mapping[LeafKey, LeafSupply]

    def offers(self) -> tuple[list[Draft], NoOffer | None]:
        """The main offer first. None at all: why. Raises ScopeTooLarge for what can never be."""
        self._require_possible()
        drafts = list(self._wanted())
        if not drafts:
            return [], self._no_offer()
        for draft in (self._cheaper(drafts[0]), self._greener(drafts[0])):
            if draft is not None and all(draft.legs != other.legs for other in drafts):
                drafts.append(draft)
        return drafts, None

    def unreserved(self) -> tuple[list[Draft], NoOffer | None]:
        """On-demand and spot capacity: what it costs and when it is likely to be there. It cannot be held."""
        self._require_possible()
        spot = self.finder.earliest()
        return ([], self._no_offer()) if spot is None else ([self.draft(OfferKind.AS_REQUESTED, spot)], None)

    def draft(self, kind: OfferKind, spot: Spot) -> Draft:
        sku = self.finder.request.sku
        return Draft(
            kind=kind,
            spot=spot,
            price=self.prices.price(priced(spot.legs, sku)),
            energy=expected(spot.legs, self.watts, self.places),
            site=one_site(spot.legs),
            fragmentation=fragmentation(spot.legs, sku, self.leaves),
        )

    def _wanted(self) -> Iterator[Draft]:
        request, finder = self.finder.request, self.finder
        if request.start_at is not None:
            spot = finder.at(seconds(request.start_at))
            if spot is not None:
                yield self.draft(OfferKind.AS_REQUESTED, spot)
        else:
            spot = None
        if spot is None:
            spot = finder.earliest()
            if spot is None:
                return
            yield self.draft(OfferKind.EARLIEST, spot)
        if not request.scope_required and wider(spot.scope, request.scope):
            near = finder.earliest(required=True)
            if near is not None:
                yield self.draft(OfferKind.EARLIEST, near)

    def _require_possible(self) -> None:
        request, calendar = self.finder.request, self.finder.calendar
        scope = request.scope if request.scope_required else Scope.ANY
        largest = calendar.largest(request.sku, scope, frozenset(request.sites))
        if request.nodes <= largest:
            return
        where = {Scope.ANY: "in all", Scope.LEAF: "in one leaf", Scope.HALL: "in one hall", Scope.SITE: "at one site"}
        words = f"there are never more than {largest} nodes of {request.sku} {where[scope]}"
        widest = calendar.largest(request.sku, Scope.ANY, frozenset(request.sites))
        wider_works = scope is not Scope.ANY and request.nodes <= widest
        raise ScopeTooLarge(
            words,
            suggestion=(
                f"Ask for {largest} or fewer, or without scope_required."
                if wider_works
                else f"Ask for {largest} or fewer."
                if largest
                else "Ask for another SKU or site."
            ),
            errors=[FieldError("nodes", "scope_too_large", words)],
            extra={"largest": largest},
        )

    def _no_offer(self) -> NoOffer:
        finder, request = self.finder, self.finder.request
        short = finder.calendar.nearest(finder.demand(), finder.now, finder.horizon)
        earliest = None if short.earliest is None or request.schedule is not None else instant(short.earliest)
        parts = ["nothing that large is free for so long"]
        if earliest is not None:
            parts.append(f"the earliest start is {rfc3339(earliest)}")
        if short.largest:
            parts.append(f"{short.largest} nodes are free at the time you asked for")
        return NoOffer("no_capacity", "; ".join(parts), earliest, short.largest or None)

    def _cheaper(self, main: Draft) -> Draft | None:
        """Another site, or a start after the next change of prices."""
        best: Draft | None = None
        limit = main.price.total * _WORTH_IT
        for spot in self._other_spots(main):
            if self._tolerable(spot, main):
                draft = self.draft(OfferKind.CHEAPER, spot)
                if draft.price.total < limit:
                    best, limit = draft, draft.price.total
        return best

    def _other_spots(self, main: Draft) -> Iterator[Spot]:
        start = seconds(main.spot.start)
        sites = self._sites()
        if len(sites) > 1:
            for site in sites:
                if site != main.site and (spot := self.finder.earliest(sites=(site,))) is not None:
                    yield spot
        last = start + LATER_DAYS * _DAY
        for moment in self.prices.moments:
            at = seconds(moment)
            if start < at <= last and (spot := self.finder.earliest(earliest=at)) is not None:
                yield spot

    def _greener(self, main: Draft) -> Draft | None:
        """Another site, or for short ones another hour of the next day."""
        best: Draft | None = None
        limit = main.energy.gco2e * _GREENER
        for spot in self._green_spots(main) if main.energy.gco2e else ():
            if self._tolerable(spot, main):
                draft = self.draft(OfferKind.GREENER, spot)
                if draft.energy.gco2e < limit:
                    best, limit = draft, draft.energy.gco2e
        return best

    def _green_spots(self, main: Draft) -> Iterator[Spot]:
        """The greenest of the next hours that is free, and the first that is free at each greener site."""
        places = sorted(self._green_places(main))
        for _, start, site in places[:GREENER_TRIES]:
            if (spot := self.finder.at(start, sites=(site,))) is not None:
                yield spot
                break
        for site in dict.fromkeys(site for _, _, site in places):
            if site != main.site and (spot := self.finder.earliest(sites=(site,))) is not None:
                yield spot

    def _green_places(self, main: Draft) -> Iterator[tuple[float, int, str]]:
        """Starts and sites that emit less, with grams for a kilowatt of machines."""
        length = self.finder.request.duration_seconds
        first = seconds(main.spot.start)
        hours = 24 if length <= GREENER_DAYS * _DAY else 1
        known = {name: place for name, place in self.places.items() if place.grams is not None}
        main_place = known.get(main.site or "")
        limit = None if main_place is None else _emitted(main_place, first, length) * _GREENER
        for site in self._sites():
            if site not in known:
                continue
            for hour in range(hours):
                start = first if hour == 0 else (first // _HOUR + hour) * _HOUR
                grams = _emitted(known[site], start, length)
                if limit is None or grams < limit:
                    yield grams, start, site

    def _tolerable(self, spot: Spot, main: Draft) -> bool:
        """Not farther apart than what it stands beside, and not later than is worth looking at."""
        if seconds(spot.start) > seconds(main.spot.start) + LATER_DAYS * _DAY:
            return False
        return not wider(spot.scope, main.spot.scope) or not wider(spot.scope, self.finder.request.scope)

    def _sites(self) -> tuple[str, ...]:
        request = self.finder.request
        return request.sites or tuple(sorted({one.site for key, one in self.leaves.items() if key.sku == request.sku}))


def priced(legs: Sequence[Leg], sku: str) -> list[PricedLeg]:
    """Legs as billing takes them."""
    return [PricedLeg(sku, leg.site, leg.nodes, leg.window) for leg in legs]


def _emitted(place: PowerPlace, start: int, length: int) -> float:
    assert place.grams is not None
    return place.pue * carbon(start, length, place.grams)
