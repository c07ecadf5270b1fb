import itertools
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.kernel.windows import Schedule, Span, Window

START = datetime(2026, 1, 1, tzinfo=UTC)

seconds = st.integers(0, 200_000)


@st.composite
def windows(draw):
    start = draw(seconds)
    return Window(START + timedelta(seconds=start), START + timedelta(seconds=start + draw(st.integers(1, 20_000))))


spans = st.builds(Span, windows(), st.integers(-5, 50))
instants = seconds.map(lambda s: START + timedelta(seconds=s))


def test_window_is_half_open():
    window = Window(START, START + timedelta(seconds=10))
    assert window.contains(window.start)
    assert not window.contains(window.end)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (datetime(2026, 1, 1), START + timedelta(hours=1)),
        (START, START),
        (START + timedelta(seconds=1), START),
        (START, START + timedelta(milliseconds=1500)),
    ],
    ids=["naive", "empty", "backwards", "fraction"],
)
def test_window_refuses(start, end):
    with pytest.raises(ValueError):
        Window(start, end)


def test_window_turns_other_zones_into_utc():
    oslo = timezone(timedelta(hours=1))
    window = Window(datetime(2026, 1, 1, 1, tzinfo=oslo), datetime(2026, 1, 1, 2, tzinfo=oslo))
    assert window == Window(START, START + timedelta(hours=1))


@given(windows(), windows())
def test_overlap_is_symmetric_and_means_a_common_second(a, b):
    common = a.intersection(b)
    assert a.overlaps(b) == b.overlaps(a) == (common is not None)
    if common:
        assert a.contains(common.start) and b.contains(common.start)
        assert common.seconds <= min(a.seconds, b.seconds)


@given(windows())
def test_hours_cut_a_window_without_gap_or_overlap(window):
    pieces = list(window.hours())
    assert pieces[0].start == window.start and pieces[-1].end == window.end
    assert sum(piece.seconds for piece in pieces) == window.seconds
    for left, right in itertools.pairwise(pieces):
        assert left.end == right.start
        assert right.start.minute == right.start.second == 0


@given(st.lists(spans, max_size=12), instants)
def test_schedule_is_the_sum_of_its_spans_at_every_instant(parts, instant):
    expected = sum(span.count for span in parts if span.window.contains(instant))
    assert Schedule.of(parts).at(instant) == expected


@given(st.lists(spans, max_size=12))
def test_schedule_is_in_normal_form(parts):
    schedule = Schedule.of(parts)
    for left, right in zip(schedule.spans, schedule.spans[1:], strict=False):
        assert left.window.end <= right.window.start
        assert left.window.end < right.window.start or left.count != right.count
    assert all(span.count for span in schedule.spans)
    assert schedule.unit_seconds == sum(span.count * span.window.seconds for span in parts)
    assert Schedule.of(schedule.spans) == schedule


@given(st.lists(spans, max_size=8), st.lists(spans, max_size=8))
def test_adding_and_taking_away_cancel(left, right):
    a, b = Schedule.of(left), Schedule.of(right)
    assert a + b == b + a == Schedule.of([*left, *right])
    assert (a + b) - b == a
    assert (a - a).spans == ()
