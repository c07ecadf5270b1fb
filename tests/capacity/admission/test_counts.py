"""Counts of free nodes, against counting second by second."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from skerry.capacity.admission.counts import first, least, levels
from skerry.capacity.admission.rules import ranges
from skerry.capacity.calendar.model import Booking
from skerry.fleet.model import Step

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
END = 40

supplies = st.lists(st.tuples(st.integers(1, END), st.integers(0, 5)), max_size=3, unique_by=lambda step: step[0])
bookings = st.lists(st.tuples(st.integers(0, END), st.integers(1, 15), st.integers(1, 3), st.booleans()), max_size=6)


def world(supply, booked):
    steps = [Step(EPOCH, 3), *(Step(EPOCH + timedelta(seconds=at), nodes) for at, nodes in sorted(supply))]
    taken = [Booking(str(n), one[2], one[0], one[0] + one[1], pool=one[3]) for n, one in enumerate(booked)]
    return steps, taken


def free_at(steps, taken, at):
    there = [step.nodes for step in steps if step.start <= EPOCH + timedelta(seconds=at)][-1]
    return there - sum(one.nodes for one in taken if not one.pool and one.start <= at < one.end)


@given(supplies, bookings, st.integers(0, END), st.integers(0, END), st.integers(1, 20))
def test_the_least_is_that_of_any_second(supply, booked, now, later, length):
    steps, taken = world(supply, booked)
    start = now + later
    expected = min(free_at(steps, taken, at) for at in range(start, start + length))
    assert least(levels(steps, taken, now), start, start + length) == expected


@given(supplies, bookings, st.integers(0, END), st.integers(1, 4), st.integers(1, 20), st.integers(1, 90))
def test_the_first_start_is_the_earliest_that_there_is(supply, booked, now, nodes, length, ahead):
    steps, taken = world(supply, booked)
    horizon = now + ahead
    fits = (
        start
        for start in range(now, horizon)
        if all(free_at(steps, taken, at) >= nodes for at in range(start, min(start + length, horizon)))
    )
    assert first(levels(steps, taken, now), nodes, length, horizon) == next(fits, None)


@given(st.sets(st.integers(0, 20)))
def test_ranges_cover_exactly_what_they_are_of(devices):
    found = ranges(devices)
    assert [index for start, end in found for index in range(start, end)] == sorted(devices)
    assert all(before[1] < after[0] for before, after in pairwise(found))
