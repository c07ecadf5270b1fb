"""Time comes from a `Clock`, so that tests can move it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The present, aware, in UTC, to the microsecond."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(slots=True)
class FakeClock:
    """A clock that stands still until it is told to move."""

    at: datetime = field(default_factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))

    def now(self) -> datetime:
        return self.at

    def advance(self, **delta: float) -> datetime:
        """Move on by a `timedelta(**delta)`; returns the new present."""
        self.at += timedelta(**delta)
        return self.at


def require_utc(value: datetime) -> datetime:
    """The same instant in UTC. Raises ValueError for a naive datetime: its meaning would be a guess."""
    if value.tzinfo is None:
        raise ValueError(f"naive datetime {value.isoformat()}: a time zone is required")
    return value.astimezone(UTC)


def rfc3339(value: datetime) -> str:
    """`2026-11-22T10:00:00Z`, with microseconds only where there are any."""
    return require_utc(value).isoformat().replace("+00:00", "Z")


def floor_hour(value: datetime) -> datetime:
    return require_utc(value).replace(minute=0, second=0, microsecond=0)


def hours(begin: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The interval cut at full hours; nothing where it is empty."""
    while begin < end:
        cut = min(floor_hour(begin) + timedelta(hours=1), end)
        yield begin, cut
        begin = cut


def usage_hour(end: datetime) -> datetime:
    """The hour a usage fact that ended at `end` belongs to.

    It is the hour of the interval's last instant: a fact closed at 11:00:00 sharp belongs to 10:00–11:00.
    """
    return floor_hour(require_utc(end) - timedelta(microseconds=1))
