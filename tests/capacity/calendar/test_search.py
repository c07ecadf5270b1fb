"""The earliest start and everything else that is searched for, beside an oracle that looks at every second."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.capacity.calendar.model import WIDTHS, Booking, Demand
from skerry.capacity.model import Scope
from tests.capacity.calendar.oracle import (
    HORIZON,
    PlainCalendar,
    bookings,
    built,
    check_placements,
    demands,
    plain_calendars,
)

NOW = st.integers(0, HORIZON)


@settings(max_examples=150, deadline=None)
@given(plain_calendars(), demands(), NOW)
def test_the_earliest_start_is_minimal_and_fits(plain: PlainCalendar, demand: Demand, now: int) -> None:
    """I3, I9."""
    found = built(plain.leaves).earliest(demand, now)
    assert (found and (found.start, found.scope)) == plain.earliest(demand, now)
    if found:
        check_placements(plain, demand, found, now)


@settings(max_examples=60, deadline=None)
@given(plain_calendars(), demands(), NOW, st.integers(0, HORIZON))
def test_a_start_is_answered_as_the_oracle_does(plain: PlainCalendar, demand: Demand, now: int, start: int) -> None:
    found = built(plain.leaves).at(demand, start, now)
    exactly = replace(demand, earliest=start, latest_end=start + demand.seconds)
    assert (found and (found.start, found.scope)) == plain.earliest(exactly, now)
    if found:
        check_placements(plain, demand, found, now)


@settings(max_examples=60, deadline=None)
@given(plain_calendars(), demands(), NOW)
def test_a_refusal_says_what_would_have_fitted(plain: PlainCalendar, demand: Demand, now: int) -> None:
    calendar = built(plain.leaves)
    shortfall = calendar.nearest(replace(demand, whole_leaves=False), now, until=HORIZON + 40)
    scope = demand.scope if demand.required else Scope.ANY
    places = plain.places(scope, demand.sites)
    end = demand.earliest + demand.seconds
    assert shortfall.largest == max(
        (sum(leaf.free(demand.earliest, end, now) for leaf in p) for p in places), default=0
    )
    assert shortfall.largest_ever == max((sum(leaf.full for leaf in place) for place in places), default=0)
    starts = range(demand.earliest, HORIZON + 40 - demand.seconds + 1)
    plain_demand = replace(demand, whole_leaves=False)
    assert shortfall.earliest == next((s for s in starts if plain.fits(plain_demand, s, now, scope)), None)


@settings(max_examples=60, deadline=None)
@given(plain_calendars(), demands(), NOW, st.data())
def test_a_booking_never_advances_and_capacity_never_delays_an_answer(
    plain: PlainCalendar, demand: Demand, now: int, data: st.DataObject
) -> None:
    """I10."""
    calendar = built(plain.leaves)
    before = calendar.earliest(demand, now)
    leaf = data.draw(st.sampled_from(plain.leaves))
    calendar.book(leaf.key, data.draw(bookings("another")))
    after = calendar.earliest(demand, now)
    assert after is None or (before is not None and before.start <= after.start)
    if demand.whole_leaves:  # a larger leaf makes a larger unit
        return
    leaf.supply = [(start, nodes + 1) for start, nodes in leaf.supply]
    leaf.put(calendar)
    more = calendar.earliest(demand, now)
    assert before is None or (more is not None and more.start <= before.start)


@settings(max_examples=60, deadline=None)
@given(plain_calendars(), demands(), NOW)
def test_what_was_found_can_be_booked_until_nothing_is_left(plain: PlainCalendar, demand: Demand, now: int) -> None:
    """I1 for what is sold: no leaf below nothing that was not there before."""
    calendar = built(plain.leaves)
    leaves = {leaf.name: leaf for leaf in plain.leaves}
    short = {leaf.name: calendar.shortages(leaf.key, now) for leaf in plain.leaves}
    n = 0
    while (found := calendar.earliest(demand, now)) and n < 20:
        for leg in found.placements:
            n += 1
            booking = Booking(f"sold-{n}", leg.nodes, leg.start, leg.end)
            calendar.book(leaves[leg.leaf].key, booking)
            leaves[leg.leaf].bookings[booking.id] = booking
    assert {leaf.name: calendar.shortages(leaf.key, now) for leaf in plain.leaves} == short
    assert (found and (found.start, found.scope)) == plain.earliest(demand, now)


@settings(max_examples=60, deadline=None)
@given(plain_calendars(), NOW, st.integers(0, HORIZON), st.integers(1, 30))
def test_availability_is_the_sum_of_what_leaves_have_free(
    plain: PlainCalendar, now: int, start: int, long: int
) -> None:
    """I2: free and booked make the supply, at every moment."""
    calendar = built(plain.leaves)
    for site in (None, "N", "U", "nowhere"):
        steps = calendar.free_schedule("h100", site, start, start + long, now)
        assert steps[0].start == start and steps[-1].end == start + long
        assert all(a.end == b.start and a.nodes != b.nodes for a, b in pairwise(steps))
        for step in steps:
            for moment in range(step.start, step.end):
                leaves = [leaf for leaf in plain.leaves if site in (None, leaf.site)]
                assert step.nodes == sum(leaf.free(moment, moment + 1, now) for leaf in leaves)


def test_scopes_go_from_narrow_to_wide() -> None:
    assert set(WIDTHS) == set(Scope)
