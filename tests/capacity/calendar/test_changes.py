"""What changes a calendar, in any order, leaves it as one built anew from the same facts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skerry.capacity.calendar.calendar import Calendar
from skerry.capacity.calendar.model import Booking, Demand, LeafKey, Shortage
from tests.capacity.calendar.oracle import (
    HORIZON,
    SKU,
    PlainCalendar,
    PlainLeaf,
    bookings,
    built,
    check_placements,
    demands,
    plain_calendars,
    supplies,
)

KEY = LeafKey("leaf-0", SKU)


@settings(max_examples=40, deadline=None)
@given(plain_calendars(), st.data(), st.integers(0, HORIZON))
def test_unbooking_is_the_inverse_of_booking(plain: PlainCalendar, data: st.DataObject, now: int) -> None:
    """I4: to the last breakpoint."""
    calendar = built(plain.leaves)
    rows = _rows(calendar)
    booked = []
    for n in range(data.draw(st.integers(1, 5))):
        leaf = data.draw(st.sampled_from(plain.leaves))
        booking = data.draw(bookings(f"more-{n}", most=6))
        calendar.book(leaf.key, booking)
        booked.append((leaf.key, booking.id))
    for key, booking_id in data.draw(st.permutations(booked)):
        calendar.unbook(key, booking_id)
    assert _rows(calendar) == rows == _rows(built(plain.leaves))


@settings(max_examples=50, deadline=None)
@given(plain_calendars(), st.data(), demands())
def test_a_what_if_leaves_no_trace(plain: PlainCalendar, data: st.DataObject, demand: Demand) -> None:
    calendar = built(plain.leaves)
    before, rows, version = calendar.earliest(demand, 0), _rows(calendar), calendar.version
    with calendar.what_if():
        for leaf in plain.leaves:
            calendar.book(leaf.key, data.draw(bookings("if")))
            if leaf.bookings:
                calendar.unbook(leaf.key, data.draw(st.sampled_from(sorted(calendar_ids(calendar, leaf)))))
        with pytest.raises(RuntimeError):
            calendar.drop_leaf(plain.leaves[0].key)
    assert _rows(calendar) == rows
    assert calendar.version == version
    assert calendar.earliest(demand, 0) == before


class AnyOrder(RuleBasedStateMachine):
    """Leaves come, change and go, nodes are booked, given back and found, and time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.calendar = Calendar()
        self.plain = PlainCalendar([])
        self.now = 0
        self.made = 0

    @precondition(lambda self: len(self.plain.leaves) < 5)
    @rule(supply=supplies(), hall=st.sampled_from("ab"), site=st.sampled_from("NU"))
    def a_leaf_comes(self, supply: list[tuple[int, int]], hall: str, site: str) -> None:
        self.made += 1
        leaf = PlainLeaf(f"leaf-{self.made}", hall, site, supply)
        leaf.put(self.calendar)
        self.plain.leaves.append(leaf)

    @precondition(lambda self: self.plain.leaves)
    @rule(data=st.data(), supply=supplies())
    def a_leaf_changes(self, data: st.DataObject, supply: list[tuple[int, int]]) -> None:
        leaf = data.draw(st.sampled_from(self.plain.leaves))
        leaf.supply = supply
        leaf.put(self.calendar)

    @precondition(lambda self: len(self.plain.leaves) > 2)
    @rule(data=st.data())
    def a_leaf_goes(self, data: st.DataObject) -> None:
        leaf = data.draw(st.sampled_from(self.plain.leaves))
        self.plain.leaves.remove(leaf)
        self.calendar.drop_leaf(leaf.key)

    @precondition(lambda self: self.plain.leaves)
    @rule(data=st.data())
    def nodes_are_booked(self, data: st.DataObject) -> None:
        self.made += 1
        leaf, booking = data.draw(st.sampled_from(self.plain.leaves)), data.draw(bookings(f"b-{self.made}"))
        leaf.bookings[booking.id] = booking
        self.calendar.book(leaf.key, booking)

    @precondition(lambda self: any(self.calendar.bookings(leaf.key, self.now) for leaf in self.plain.leaves))
    @rule(data=st.data())
    def nodes_are_given_back(self, data: st.DataObject) -> None:
        there = [(leaf, b.id) for leaf in self.plain.leaves for b in self.calendar.bookings(leaf.key, self.now)]
        leaf, booking = data.draw(st.sampled_from(there))
        del leaf.bookings[booking]
        self.calendar.unbook(leaf.key, booking)

    @rule(demand=demands(), take=st.booleans())
    def nodes_are_found(self, demand: Demand, take: bool) -> None:
        found = self.calendar.earliest(demand, self.now)
        assert (found and (found.start, found.scope)) == self.plain.earliest(demand, self.now)
        if found is None:
            return
        check_placements(self.plain, demand, found, self.now)
        for leg in found.placements if take else ():
            self.made += 1
            leaf = next(leaf for leaf in self.plain.leaves if leaf.name == leg.leaf)
            leaf.bookings[f"b-{self.made}"] = booking = Booking(f"b-{self.made}", leg.nodes, leg.start, leg.end)
            self.calendar.book(leaf.key, booking)

    @rule(seconds=st.integers(1, 9))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        for leaf in self.plain.leaves:
            live = {b.id: b for b in leaf.bookings.values() if b.expires_at is None or b.expires_at > self.now}
            leaf.bookings = live

    @invariant()
    def it_is_as_if_built_from_scratch(self) -> None:
        """I8, and booked + free = supply at every second (I2)."""
        for leaf in self.plain.leaves:
            there = self.calendar.bookings(leaf.key, self.now)
            live = [b for b in leaf.bookings.values() if b.expires_at is None or b.expires_at > self.now]
            assert there == sorted(live, key=lambda booking: booking.id)
        assert _rows(self.calendar) == _rows(built(self.plain.leaves), self.now)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)


def test_a_row_that_outgrows_its_room_moves_and_stays_right() -> None:
    calendar = Calendar()
    leaves = [PlainLeaf(f"leaf-{n}", "a", "N", [(0, 4)]) for n in range(3)]
    for leaf in leaves:
        leaf.put(calendar)
    calendar.leaves()
    for n in range(600):
        leaf = leaves[n % 2]
        booking = Booking(f"b{n}", 1, 10 * n, 10 * n + 5)
        calendar.book(leaf.key, booking)
        leaf.bookings[booking.id] = booking
        calendar.min_free(leaf.key, 0, 1, 0)
    assert _rows(calendar) == _rows(built(leaves))
    assert calendar.free_schedule(SKU, None, 0, 9000, 0) == built(leaves).free_schedule(SKU, None, 0, 9000, 0)
    for n in range(600):
        calendar.unbook(leaves[n % 2].key, f"b{n}")
    assert [len(row) for row in _rows(calendar).values()] == [2, 2, 2]


def test_a_hold_lapses_by_time_alone() -> None:
    calendar = built([PlainLeaf("leaf-0", "a", "N", [(0, 4)])])
    calendar.book(KEY, Booking("hold", 3, 10, 20, expires_at=5))
    assert calendar.min_free(KEY, 0, 20, now=4) == 1
    version = calendar.version
    assert calendar.min_free(KEY, 0, 20, now=5) == 4
    assert calendar.version > version


def test_a_hold_put_anew_without_an_end_stays() -> None:
    leaf = PlainLeaf("leaf-0", "a", "N", [(0, 4)], {"hold": Booking("hold", 3, 10, 20, expires_at=5)})
    calendar = built([leaf])
    leaf.bookings["hold"] = Booking("hold", 3, 10, 20)
    leaf.put(calendar)
    assert calendar.min_free(KEY, 0, 20, now=9) == 1


def test_a_failure_below_what_is_sold_is_a_shortage_and_no_room() -> None:
    leaf = PlainLeaf("leaf-0", "a", "N", [(0, 4)], {"sold": Booking("sold", 3, 10, 20)})
    calendar = built([leaf])
    leaf.supply = [(0, 4), (15, 1), (18, 4)]
    leaf.put(calendar)
    assert calendar.shortages(KEY, 0) == [Shortage(15, 18, 2)]
    assert calendar.min_free(KEY, 15, 16, 0) == 0


def test_windows_that_touch_do_not_share_a_second() -> None:
    """I11."""
    calendar = built([PlainLeaf("leaf-0", "a", "N", [(0, 4)], {"one": Booking("one", 4, 10, 20)})])
    assert calendar.min_free(KEY, 20, 30, 0) == 4
    assert calendar.min_free(KEY, 0, 10, 0) == 4
    assert calendar.min_free(KEY, 19, 20, 0) == 0


def test_claims_on_the_pool_take_nothing_that_is_sold() -> None:
    calendar = built([PlainLeaf("leaf-0", "a", "N", [(0, 4)])])
    calendar.book(KEY, Booking("claim", 3, 0, 20, pool=True))
    assert calendar.min_free(KEY, 0, 20, 0) == 4
    calendar.unbook(KEY, "claim")
    assert calendar.min_free(KEY, 0, 20, 0) == 4


@pytest.mark.parametrize(
    "supply, booked",
    [
        ([(5, 1), (5, 2)], []),
        ([(5, 1), (4, 2)], []),
        ([(0, -1)], []),
        ([(0, 1)], [Booking("b", 1, 5, 5)]),
        ([(0, 1)], [Booking("b", 0, 5, 6)]),
        ([(0, 1)], [Booking("b", 1, 5, 6), Booking("b", 1, 7, 8)]),
    ],
)
def test_nonsense_is_refused_and_changes_nothing(supply: list[tuple[int, int]], booked: list[Booking]) -> None:
    calendar = built([PlainLeaf("leaf-0", "a", "N", [(0, 4)])])
    with pytest.raises(ValueError, match=r"."):
        calendar.put_leaf(KEY, name="leaf-0", hall="a", site="N", size=4, supply=supply, bookings=booked)
    assert calendar.min_free(KEY, 0, 10, 0) == 4


def test_what_is_not_there_has_nothing() -> None:
    calendar = Calendar()
    demand = Demand("none", 1, 1, 0, 10)
    assert calendar.earliest(demand, 0) is None
    assert calendar.at(demand, 0, 0) is None
    assert calendar.nearest(demand, 0, 10).largest_ever == 0
    assert calendar.min_free(KEY, 0, 1, 0) == 0
    assert calendar.shortages(KEY, 0) == calendar.bookings(KEY, 0) == calendar.leaves() == []
    with pytest.raises(KeyError):
        calendar.book(KEY, Booking("b", 1, 0, 1))


def _rows(calendar: Calendar, now: int = 0) -> dict[LeafKey, list[tuple[int, int]]]:
    """The step function of each leaf, to the last breakpoint."""
    calendar.free_schedule(SKU, None, 0, 1, now)
    shelf = calendar._shelves.get(SKU)
    if shelf is None:
        return {}
    return {
        leaf.key: list(zip(*(array.tolist() for array in shelf.steps.row(at)), strict=True))
        for at, leaf in enumerate(shelf.leaves)
    }


def calendar_ids(calendar: Calendar, leaf: PlainLeaf) -> list[str]:
    return [booking.id for booking in calendar.bookings(leaf.key, 0)]
