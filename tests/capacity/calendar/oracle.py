"""A calendar that looks at every second: slow, short, and plainly right."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import strategies as st

from skerry.capacity.calendar.calendar import Calendar
from skerry.capacity.calendar.model import WIDTHS, Booking, Demand, Found, LeafKey
from skerry.capacity.model import Scope

SKU = "h100"
HORIZON = 48


@dataclass
class PlainLeaf:
    name: str
    hall: str
    site: str
    supply: list[tuple[int, int]]
    bookings: dict[str, Booking] = field(default_factory=dict)

    @property
    def key(self) -> LeafKey:
        return LeafKey(self.name, SKU)

    @property
    def full(self) -> int:
        return max((nodes for _, nodes in self.supply), default=0)

    def raw(self, moment: int, now: int) -> int:
        supply = next((nodes for start, nodes in reversed(self.supply) if start <= moment), 0)
        return supply - sum(
            booking.nodes
            for booking in self.bookings.values()
            if booking.start <= moment < booking.end
            and not booking.pool
            and (booking.expires_at is None or booking.expires_at > now)
        )

    def free(self, start: int, end: int, now: int) -> int:
        return min(max(0, self.raw(moment, now)) for moment in range(start, end))

    def put(self, calendar: Calendar) -> None:
        calendar.put_leaf(
            self.key,
            name=self.name,
            hall=self.hall,
            site=self.site,
            size=self.full,
            supply=self.supply,
            bookings=self.bookings.values(),
        )


@dataclass
class PlainCalendar:
    leaves: list[PlainLeaf]

    def places(self, scope: Scope, sites: frozenset[str]) -> list[list[PlainLeaf]]:
        groups: dict[tuple[str, ...], list[PlainLeaf]] = {}
        for leaf in self.leaves:
            if sites and leaf.site not in sites:
                continue
            place = {
                Scope.LEAF: (leaf.site, leaf.hall, leaf.name),
                Scope.HALL: (leaf.site, leaf.hall),
                Scope.SITE: (leaf.site,),
                Scope.ANY: (),
            }[scope]
            groups.setdefault(place, []).append(leaf)
        return list(groups.values())

    def fits(self, demand: Demand, start: int, now: int, scope: Scope) -> bool:
        return any(self.room(demand, start, now, place) for place in self.places(scope, demand.sites))

    def room(self, demand: Demand, start: int, now: int, place: list[PlainLeaf]) -> bool:
        free = [leaf.free(start, start + demand.seconds, now) for leaf in place]
        if not demand.whole_leaves:
            return sum(free) >= demand.nodes
        unit = max(leaf.full for leaf in place)
        if not unit:
            return False
        wholes, rest = divmod(demand.nodes, unit)
        full = [f for f, leaf in zip(free, place, strict=True) if f == leaf.full == unit]
        others = sorted(free, reverse=True)[wholes:] if len(full) >= wholes else []
        return len(full) >= wholes and (not rest or (bool(others) and others[0] >= rest))

    def earliest(self, demand: Demand, now: int) -> tuple[int, Scope] | None:
        scope = demand.scope if demand.required else Scope.ANY
        for start in range(demand.earliest, demand.latest_end - demand.seconds + 1):
            for near in WIDTHS[: WIDTHS.index(scope) + 1]:
                if self.fits(demand, start, now, near):
                    return start, near
        return None


def check_placements(plain: PlainCalendar, demand: Demand, found: Found, now: int) -> None:
    """All nodes, in one place of the found scope, in leaves that have them free."""
    legs = found.placements
    leaves = {leaf.name: leaf for leaf in plain.leaves}
    assert sum(leg.nodes for leg in legs) == demand.nodes
    assert len({leg.leaf for leg in legs}) == len(legs)
    for leg in legs:
        assert (leg.start, leg.end) == (found.start, found.start + demand.seconds)
        assert 0 < leg.nodes <= leaves[leg.leaf].free(leg.start, leg.end, now)
        assert not demand.sites or leaves[leg.leaf].site in demand.sites
    places = plain.places(found.scope, demand.sites)
    assert any({leg.leaf for leg in legs} <= {leaf.name for leaf in place} for place in places)
    if demand.whole_leaves:
        unit = max(
            max(leaf.full for leaf in place) for place in places if legs[0].leaf in {leaf.name for leaf in place}
        )
        assert sum(leg.nodes == unit for leg in legs) == demand.nodes // unit
        assert len(legs) == -(-demand.nodes // unit)


@st.composite
def bookings(draw: st.DrawFn, id_: str, most: int = 4) -> Booking:
    start = draw(st.integers(0, HORIZON - 1))
    end = draw(st.integers(start + 1, HORIZON))
    expires = draw(st.none() | st.none() | st.integers(0, HORIZON))
    return Booking(id_, draw(st.integers(1, most)), start, end, expires, draw(st.sampled_from((False,) * 7 + (True,))))


@st.composite
def supplies(draw: st.DrawFn) -> list[tuple[int, int]]:
    starts = draw(st.lists(st.integers(1, HORIZON), max_size=2, unique=True).map(sorted))
    return [
        (start, draw(st.integers(0, 4)))
        for start in [draw(st.sampled_from((0, 0, 0, 2))), *(s for s in starts if s > 2)]
    ]


@st.composite
def plain_calendars(draw: st.DrawFn, most_bookings: int = 6) -> PlainCalendar:
    leaves = []
    for at in range(draw(st.integers(1, 6))):
        site = draw(st.sampled_from("NU"))
        leaf = PlainLeaf(f"leaf-{at}", draw(st.sampled_from("ab")), site, draw(supplies()))
        for n in range(draw(st.integers(0, most_bookings))):
            booking = draw(bookings(f"b{n}"))
            leaf.bookings[booking.id] = booking
        leaves.append(leaf)
    return PlainCalendar(leaves)


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    earliest = draw(st.integers(0, HORIZON))
    return Demand(
        SKU,
        nodes=draw(st.integers(1, 12)),
        seconds=draw(st.integers(1, 20)),
        earliest=earliest,
        latest_end=draw(st.integers(earliest, HORIZON + 30)),
        scope=draw(st.sampled_from(list(Scope))),
        required=draw(st.booleans()),
        sites=draw(st.sampled_from((frozenset(), frozenset(), frozenset("N"), frozenset("U")))),
        whole_leaves=draw(st.integers(0, 3)) == 0,
    )


def built(leaves: Iterable[PlainLeaf]) -> Calendar:
    calendar = Calendar()
    for leaf in leaves:
        leaf.put(calendar)
    return calendar
