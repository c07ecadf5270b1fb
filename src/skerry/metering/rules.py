"""Decisions of metering: what is refused, which hours a query covers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from skerry.kernel.clock import floor_hour, require_utc
from skerry.kernel.errors import FieldError, Invalid
from skerry.kernel.quantities import QUANTITY_MAX
from skerry.kernel.windows import Window
from skerry.metering.model import GROUPS, Bucket, Reason, UsageFact, UsageQuery, is_dimension

ID_WINDOW = timedelta(days=35)
"""How far back `t1` of a fact may lie; ids are remembered at least as long."""
ID_MARGIN = timedelta(days=2)
"""How much longer ids are kept than the window says, so that clocks that differ leave no gap."""
AHEAD = timedelta(days=1)
"""How far ahead of our clock `t1` may lie."""

LONGEST_QUERY = timedelta(days=3 * 366)
HOUR = timedelta(hours=1)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between which instants `t1` of a fact may lie."""

    earliest: datetime
    latest: datetime

    @classmethod
    def at(cls, now: datetime, id_window: timedelta = ID_WINDOW) -> "Bounds":
        return cls(now - id_window, now + AHEAD)


def refusal(fact: UsageFact, bounds: Bounds) -> Reason | None:
    """Why a fact cannot be taken, or None. Raises TypeError where its times are naive: that is a defect of ours."""
    if fact.t1 < bounds.earliest:
        return Reason.TOO_OLD
    if fact.t1 > bounds.latest:
        return Reason.IN_FUTURE
    if fact.t0 > fact.t1:
        return Reason.BAD_INTERVAL
    if not -QUANTITY_MAX <= fact.quantity <= QUANTITY_MAX:
        return Reason.QUANTITY_OUT_OF_RANGE
    return None


def query_window(start: str | datetime | None, end: str | datetime | None, now: datetime) -> Window:
    """The full hours that `[start, end)` touches: roll-ups are hourly, and `to` is most often "now".

    Defaults: `end` the end of this month (UTC), `start` the beginning of the month of the window's last instant.
    Raises Invalid for a window that is empty or longer than three years.
    """
    last = month_after(now) if end is None else _ceil_hour(instant(end, "to"))
    first = month_of(last - timedelta(microseconds=1)) if start is None else floor_hour(instant(start, "from"))
    if first >= last:
        raise _invalid("to", "empty_window", "from must lie before to")
    if last - first > LONGEST_QUERY:
        raise _invalid("from", "window_too_long", "a window can be three years long at most: ask for parts of it")
    return Window(first, last)


def group_names(values: Iterable[str]) -> tuple[str, ...]:
    """Names to group by, from `?group_by=a,b&group_by=c`; `meter` may be named and is there anyway. Raises Invalid."""
    names: list[str] = []
    for name in (part.strip() for value in values for part in value.split(",")):
        if name in ("", "meter") or name in names:
            continue
        if name not in GROUPS and not is_dimension(name):
            known = ", ".join((*GROUPS, "tag:NAME"))
            raise _invalid("group_by", "unknown_group", f"usage cannot be grouped by {name!r}; there are {known}")
        names.append(name)
    return tuple(names)


def inner_cuts(window: Window, cuts: Iterable[datetime]) -> tuple[datetime, ...]:
    """The cuts that lie inside the window, in order, each once. One at its start changes nothing within it."""
    return tuple(sorted({cut for cut in map(require_utc, cuts) if window.start < cut < window.end}))


def split_hours(cuts: Sequence[datetime]) -> tuple[datetime, ...]:
    """Starts of the hours that have a cut strictly inside: their roll-ups cannot be used."""
    return tuple(sorted({floor_hour(cut) for cut in cuts if cut != floor_hour(cut)}))


def bucket_window(bucket: Bucket | None, start: datetime, within: Window) -> Window:
    """The bucket that begins at `start`, cut to the window asked for."""
    if bucket is None:
        return within
    ends = {Bucket.HOUR: start + HOUR, Bucket.DAY: start + timedelta(days=1), Bucket.MONTH: month_after(start)}
    return Window(max(start, within.start), min(ends[bucket], within.end))


def bucket_start(bucket: Bucket | None, at: datetime, within: Window) -> datetime:
    """The beginning of the bucket in which `at` lies, as it is in the calendar."""
    if bucket is None:
        return within.start
    hour = floor_hour(at)
    return {Bucket.HOUR: hour, Bucket.DAY: hour.replace(hour=0), Bucket.MONTH: month_of(at)}[bucket]


def narrowed(query: UsageQuery, bucket_begin: datetime) -> UsageQuery:
    """The same query from the bucket beginning at `bucket_begin` on, for the pages after it."""
    if query.bucket is None or bucket_begin <= query.window.start or bucket_begin >= query.window.end:
        return query
    return UsageQuery(Window(bucket_begin, query.window.end), query.group_by, query.bucket)


def month_of(at: datetime) -> datetime:
    return require_utc(at).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def month_after(at: datetime) -> datetime:
    return (month_of(at) + timedelta(days=32)).replace(day=1)


def _ceil_hour(at: datetime) -> datetime:
    floor = floor_hour(at)
    return floor if floor == at else floor + HOUR


def instant(value: str | datetime, path: str) -> datetime:
    """A time as a caller words it: RFC 3339 with its zone, or a date for its first instant in UTC. Raises Invalid."""
    try:
        if isinstance(value, str):
            text = value.strip().replace(" ", "+")  # a plus sign in a URL that was not encoded
            day = date.fromisoformat(text) if len(text) == 10 else None
            value = datetime(day.year, day.month, day.day, tzinfo=UTC) if day else datetime.fromisoformat(text)
        at = require_utc(value)
    except (ValueError, OverflowError) as error:
        example = "2026-11-22T10:00:00Z or 2026-11-22"
        raise _invalid(path, "bad_time", f"{path} must be a time with its zone or a date, such as {example}") from error
    if not EARLIEST <= at <= LATEST:
        raise _invalid(path, "bad_time", f"{path} must lie between the years {EARLIEST.year} and {LATEST.year}")
    return at


def _invalid(path: str, code: str, message: str) -> Invalid:
    return Invalid(message, code=code, errors=[FieldError(path, code, message)])
