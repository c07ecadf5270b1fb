"""Where and when a request fits: the calendar's answers as legs. Pure, over a calendar that is up to date."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from skerry.capacity.calendar.model import WIDTHS, Demand, Found, Layer, LeafKey, Placement
from skerry.capacity.calendar.schedules import layers, place_schedule
from skerry.capacity.model import Leg, QuoteRequest, Scope
from skerry.capacity.moments import instant, seconds
from skerry.capacity.rules.supply import sellable_size
from skerry.fleet.model import LeafSupply
from skerry.kernel.ids import LeafId
from skerry.kernel.windows import Window

if TYPE_CHECKING:
    from skerry.capacity.calendar.calendar import Calendar

SHIFTS: Final = 90
"""Days by which a schedule is moved at most, one by one, to find where it fits."""
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Spot:
    """A request, placed."""

    start: datetime
    scope: Scope
    legs: tuple[Leg, ...]


@dataclass(frozen=True, slots=True)
class Finder:
    """Searches for one request. `horizon`: nothing ends after it."""

    calendar: "Calendar"
    leaves: Mapping[LeafKey, LeafSupply]
    request: QuoteRequest
    now: int
    horizon: int

    def demand(self, *, sites: Sequence[str] | None = None, earliest: int | None = None) -> Demand:
        request = self.request
        return Demand(
            sku=request.sku,
            nodes=request.nodes,
            seconds=request.duration_seconds,
            earliest=seconds(request.earliest_after) if earliest is None else earliest,
            latest_end=self.horizon,
            scope=request.scope,
            required=request.scope_required,
            sites=frozenset(request.sites if sites is None else sites),
        )

    def at(self, start: int, *, sites: Sequence[str] | None = None) -> Spot | None:
        """Exactly then."""
        if start + self.request.duration_seconds > self.horizon or start < self.now:
            return None
        demand = self.demand(sites=sites, earliest=start)
        if self.request.schedule is None:
            return self._spot(self.calendar.at(demand, start, self.now))
        return self._spot(place_schedule(self.calendar, self._layers(start), demand, self.now))

    def earliest(
        self, *, sites: Sequence[str] | None = None, earliest: int | None = None, required: bool | None = None
    ) -> Spot | None:
        """The first start from the one asked for on. A schedule is moved by whole days."""
        demand = self.demand(sites=sites, earliest=earliest)
        if required is not None:
            demand = replace(demand, required=required)
        if self.request.schedule is None:
            return self._spot(self.calendar.earliest(demand, self.now))
        for day in range(SHIFTS + 1):
            start = demand.earliest + day * _DAY
            if start + demand.seconds > self.horizon:
                return None
            found = place_schedule(self.calendar, self._layers(start), demand, self.now)
            if found is not None:
                return self._spot(found)
        return None

    def _layers(self, start: int) -> list[Layer]:
        """The schedule as if it began then."""
        schedule = self.request.schedule
        assert schedule is not None
        shift = start - seconds(schedule.spans[0].window.start)
        return layers(
            (span.count, seconds(span.window.start) + shift, seconds(span.window.end) + shift)
            for span in schedule.spans
        )

    def _spot(self, found: Found | None) -> Spot | None:
        if found is None:
            return None
        legs = legs_of(found.placements, self.request.sku, self.leaves)
        return Spot(instant(found.start), found.scope, legs)


def legs_of(placements: Sequence[Placement], sku: str, leaves: Mapping[LeafKey, LeafSupply]) -> tuple[Leg, ...]:
    found = []
    for own in sorted(placements, key=lambda one: (one.start, -one.nodes, one.leaf)):
        leaf = leaves[LeafKey(own.leaf, sku)]
        window = Window(instant(own.start), instant(own.end))
        found.append(Leg(LeafId(own.leaf), leaf.leaf_name, leaf.hall, leaf.site, own.nodes, window))
    return tuple(found)


def fragmentation(legs: Sequence[Leg], sku: str, leaves: Mapping[LeafKey, LeafSupply]) -> Decimal:
    """The share of node-seconds in leaves that are not taken whole, 0…1, to four digits."""
    total = sum(leg.node_seconds for leg in legs)
    part = 0
    for leg in legs:
        leaf = leaves.get(LeafKey(leg.leaf, sku))
        if leaf is None or leg.nodes < sellable_size(leaf):
            part += leg.node_seconds
    return round(Decimal(part) / total, 4).normalize() if total else Decimal(0)


def one_site(legs: Sequence[Leg]) -> str | None:
    """The site all legs are at; None: there are several."""
    sites = {leg.site for leg in legs}
    return sites.pop() if len(sites) == 1 else None


def wider(found: Scope, wanted: Scope) -> bool:
    return WIDTHS.index(found) > WIDTHS.index(wanted)


def end_of(legs: Sequence[Leg]) -> datetime:
    return max(leg.window.end for leg in legs)


def shifted(instant_: datetime, seconds_: int) -> datetime:
    return instant_ + timedelta(seconds=seconds_)
