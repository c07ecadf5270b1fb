"""Windows, groups and buckets of a query; which hours a cut splits."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.kernel.errors import Invalid
from skerry.kernel.windows import Window
from skerry.metering import rules
from skerry.metering.model import Bucket

NOW = datetime(2026, 11, 22, 10, 20, 30, tzinfo=UTC)


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")),
        ("2026-11-22T10:20:00Z", "2026-11-22T10:40:00Z", ("2026-11-22T10:00:00Z", "2026-11-22T11:00:00Z")),
        ("2026-11-22T10:00:00Z", "2026-11-22T11:00:00Z", ("2026-11-22T10:00:00Z", "2026-11-22T11:00:00Z")),
        ("2026-11-22T12:00:00+02:00", None, ("2026-11-22T10:00:00Z", "2026-12-01T00:00:00Z")),
        ("2026-11-22T12:00:00 02:00", None, ("2026-11-22T10:00:00Z", "2026-12-01T00:00:00Z")),
        (None, "2026-11-01", ("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z")),
        ("2026-10-01", "2026-10-02", ("2026-10-01T00:00:00Z", "2026-10-02T00:00:00Z")),
    ],
)
def test_a_window_is_widened_to_full_hours(start: str | None, end: str | None, expected: tuple[str, str]) -> None:
    assert rules.query_window(start, end, NOW) == Window(*map(_at, expected))


@pytest.mark.parametrize(
    ("start", "end", "code"),
    [
        ("2026-11-22T10:00:00", None, "bad_time"),
        ("yesterday", None, "bad_time"),
        ("0001-01-01T00:00:00+14:00", None, "bad_time"),
        (None, "9999-12-31T23:59:59Z", "bad_time"),
        ("2026-11-22", "2026-11-22", "empty_window"),
        ("2026-11-22", "2026-11-21", "empty_window"),
        ("2020-01-01", "2026-01-01", "window_too_long"),
    ],
)
def test_an_impossible_window_is_refused_by_name(start: str | None, end: str | None, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        rules.query_window(start, end, NOW)
    assert refused.value.code == code
    assert refused.value.errors[0].path in ("from", "to")


def test_group_names_come_repeated_or_joined() -> None:
    assert rules.group_names(["model, key", "tag:team", "meter", "model"]) == ("model", "key", "tag:team")
    with pytest.raises(Invalid, match="colour"):
        rules.group_names(["colour"])
    with pytest.raises(Invalid):
        rules.group_names(["tag:"])


instants = st.datetimes(datetime(2026, 1, 1), datetime(2026, 3, 1), timezones=st.just(UTC))


@given(instants, st.sampled_from([None, *Bucket]))
def test_each_instant_lies_in_its_bucket(at: datetime, bucket: Bucket | None) -> None:
    within = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))
    window = rules.bucket_window(bucket, rules.bucket_start(bucket, at, within), within)
    assert window.contains(at)


@given(st.lists(instants, max_size=5), instants)
def test_cuts_split_only_hours_they_are_inside_of(cuts: list[datetime], at: datetime) -> None:
    window = Window(rules.floor_hour(at), rules.floor_hour(at) + timedelta(days=7))
    inside = rules.inner_cuts(window, cuts)
    assert list(inside) == sorted(set(inside)) and set(inside) <= set(cuts)
    for hour in rules.split_hours(inside):
        assert any(hour < cut < hour + rules.HOUR for cut in inside)
