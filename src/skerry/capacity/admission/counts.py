"""How many nodes of a leaf are free for how long, from counts alone. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from skerry.capacity.calendar.model import Booking
from skerry.capacity.moments import seconds
from skerry.fleet.model import Step

Level = tuple[int, int]
"""(from, free nodes), until the next."""


def levels(supply: Sequence[Step], bookings: Iterable[Booking], start: int) -> list[Level]:
    """Free nodes from `start` on (Unix seconds): supply less bookings outside the pool. May be negative.

    A hold counts until it has lapsed, as if it were to be confirmed.
    """
    deltas: dict[int, int] = {start: 0}
    before = 0
    for step in supply:
        at = max(seconds(step.start), start)
        deltas[at] = deltas.get(at, 0) + step.nodes - before
        before = step.nodes
    for booking in bookings:
        if booking.pool or booking.end <= start:
            continue
        at = max(booking.start, start)
        deltas[at] = deltas.get(at, 0) - booking.nodes
        deltas[booking.end] = deltas.get(booking.end, 0) + booking.nodes
    free, found = 0, []
    for at in sorted(deltas):
        free += deltas[at]
        found.append((at, free))
    return found


def least(levels: Sequence[Level], start: int, end: int) -> int:
    """The fewest free nodes at any moment of `[start, end)`; `start` is not before the first level."""
    return min(
        (free for at, until, free in _stretches(levels) if at < end and (until is None or until > start)), default=0
    )


def first(levels: Sequence[Level], nodes: int, length: int, horizon: int) -> int | None:
    """The first moment before the horizon from which so many nodes stay free for so long (seconds), or beyond it."""
    since: int | None = None
    for at, until, free in _stretches(levels):
        if at >= horizon:
            return since
        if free < nodes:
            since = None
            continue
        since = at if since is None else since
        if until is None or until - since >= length or until >= horizon:
            return since
    return None


def together(several: Sequence[Sequence[Level]]) -> list[Level]:
    """The sum of levels that begin at the same moment. A leaf that is short lends nothing to its neighbours."""
    if len(several) == 1:
        return list(several[0])
    deltas: dict[int, int] = {}
    for one in several:
        before = 0
        for at, free in one:
            deltas[at] = deltas.get(at, 0) + max(free, 0) - before
            before = max(free, 0)
    total, found = 0, []
    for at in sorted(deltas):
        total += deltas[at]
        found.append((at, total))
    return found


def _stretches(levels: Sequence[Level]) -> Iterator[tuple[int, int | None, int]]:
    """(from, to, free); the last is open."""
    for n, (at, free) in enumerate(levels):
        yield at, levels[n + 1][0] if n + 1 < len(levels) else None, free
