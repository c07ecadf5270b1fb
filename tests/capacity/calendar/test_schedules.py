"""Ramps: nodes of the beginning stay, all layers or none, in one place."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.capacity.calendar.model import WIDTHS, Booking, Demand, Layer
from skerry.capacity.calendar.schedules import layers, place_schedule
from skerry.capacity.model import Scope
from tests.capacity.calendar.oracle import HORIZON, SKU, PlainCalendar, PlainLeaf, built, plain_calendars


@st.composite
def schedules(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    windows = []
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, HORIZON - 1))
        windows.append((draw(st.integers(1, 5)), start, draw(st.integers(start + 1, HORIZON))))
    return windows


@given(schedules())
def test_layers_add_up_to_the_schedule_and_lie_within_each_other(schedule: list[tuple[int, int, int]]) -> None:
    parts = layers(schedule)
    for moment in range(HORIZON):
        wanted = sum(nodes for nodes, start, end in schedule if start <= moment < end)
        assert sum(part.nodes for part in parts if part.start <= moment < part.end) == wanted
    for outer, inner in combinations(parts, 2):
        assert inner.start >= outer.end or (outer.start <= inner.start and inner.end <= outer.end)


def test_a_ramp_keeps_its_first_nodes() -> None:
    assert layers([(64, 0, 30), (128, 30, 60), (32, 60, 70)]) == [Layer(32, 0, 70), Layer(32, 0, 60), Layer(64, 30, 60)]


@pytest.mark.parametrize("window", [(0, 1, 2), (1, 2, 2)])
def test_an_empty_window_is_refused(window: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        layers([window])


@settings(max_examples=50, deadline=None)
@given(plain_calendars(most_bookings=4), schedules(), st.sampled_from(list(Scope)), st.booleans())
def test_a_schedule_is_placed_whenever_counts_allow_it(
    plain: PlainCalendar, schedule: list[tuple[int, int, int]], scope: Scope, required: bool
) -> None:
    calendar = built(plain.leaves)
    calendar.min_free(plain.leaves[0].key, 0, 1, 0)  # what has lapsed goes now
    version = calendar.version
    demand = Demand(SKU, 1, 1, 0, 1, scope, required=required)
    parts = layers(schedule)
    found = place_schedule(calendar, parts, demand, 0)
    widths = WIDTHS[: WIDTHS.index(scope) + 1] if required else WIDTHS
    possible = [width for width in widths if any(_fits(place, parts) for place in plain.places(width, frozenset()))]
    assert (found and found.scope) == (possible[0] if possible else None)
    assert calendar.version == version
    if found is None:
        return
    for moment in range(HORIZON):
        legs = [leg for leg in found.placements if leg.start <= moment < leg.end]
        assert sum(leg.nodes for leg in legs) == sum(n for n, start, end in schedule if start <= moment < end)
    for leaf in plain.leaves:
        for n, leg in enumerate(found.placements):
            if leg.leaf == leaf.name:
                calendar.book(leaf.key, Booking(f"sold-{n}", leg.nodes, leg.start, leg.end))
        assert calendar.shortages(leaf.key, 0) == built(plain.leaves).shortages(leaf.key, 0)


def test_inner_layers_use_the_leaves_of_outer_ones() -> None:
    leaves = [PlainLeaf(f"leaf-{n}", "a", "N", [(0, 4)]) for n in range(3)]
    found = place_schedule(built(leaves), layers([(2, 0, 10), (4, 10, 20)]), Demand(SKU, 1, 1, 0, 1), 0)
    assert found is not None
    assert found.scope is Scope.LEAF
    assert len({leg.leaf for leg in found.placements}) == 1


def _fits(place: list[PlainLeaf], parts: list[Layer]) -> bool:
    """What outer layers take is the same over an inner one's window, whichever leaves they use."""
    for at, part in enumerate(parts):
        taken = sum(outer.nodes for outer in parts[:at] if outer.start <= part.start and part.end <= outer.end)
        if sum(leaf.free(part.start, part.end, 0) for leaf in place) < taken + part.nodes:
            return False
    return True
