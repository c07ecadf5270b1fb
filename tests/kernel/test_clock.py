from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.kernel.clock import FakeClock, SystemClock, floor_hour, require_utc, rfc3339, usage_hour

aware = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(aware)
def test_usage_hour_is_that_of_the_last_instant(end):
    hour = usage_hour(end)
    assert hour < end <= hour + timedelta(hours=1)
    assert hour == floor_hour(hour)


def test_a_fact_closed_on_the_hour_belongs_to_the_hour_before():
    assert usage_hour(datetime(2026, 1, 1, 11, tzinfo=UTC)) == datetime(2026, 1, 1, 10, tzinfo=UTC)


@given(aware)
def test_written_times_can_be_read(value):
    assert rfc3339(value).endswith("Z")
    assert datetime.fromisoformat(rfc3339(value)) == value


def test_naive_times_are_refused():
    with pytest.raises(ValueError, match="naive"):
        require_utc(datetime(2026, 1, 1))
    oslo = timezone(timedelta(hours=1))
    assert require_utc(datetime(2026, 1, 1, 1, tzinfo=oslo)) == datetime(2026, 1, 1, tzinfo=UTC)


def test_clocks():
    assert SystemClock().now().tzinfo is UTC
    clock = FakeClock()
    before = clock.now()
    assert clock.advance(minutes=1) == clock.now() == before + timedelta(minutes=1)
