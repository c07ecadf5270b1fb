"""Between datetimes, which the outside speaks, and Unix seconds, which the calendar counts in."""

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)


def seconds(moment: datetime) -> int:
    """Unix seconds; a second that has begun counts from its beginning."""
    return (moment - _EPOCH) // _SECOND


def instant(unix: int) -> datetime:
    return _EPOCH + timedelta(seconds=unix)


def ceil_second(moment: datetime) -> datetime:
    """The first whole second that is not before."""
    floor = moment.replace(microsecond=0)
    return floor if floor == moment else floor + _SECOND
