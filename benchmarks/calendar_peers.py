"""Two other ways to keep a calendar, with the same bookings: a dense grid of hours, and an interval tree a leaf."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from benchmarks.calendar_load import HORIZON, HOUR, NOW, SKU

from skerry.capacity.calendar.calendar import Calendar
from skerry.capacity.calendar.model import Booking, Demand
from skerry.capacity.model import Scope

_LEAF, _HALL = Scope.LEAF, Scope.HALL


class Grid:
    """Free nodes of each leaf in each hour, and numpy. Whole hours only; one hall, without whole leaves."""

    def __init__(self, calendar: Calendar) -> None:
        keys = calendar.leaves(SKU)
        self.hours = HORIZON // HOUR
        self.free = np.zeros((len(keys), self.hours), np.int16)
        for row, key in enumerate(keys):
            self.free[row] = calendar.largest(SKU, _LEAF, frozenset()) if row < len(keys) - 1 else 20
            for booking in calendar.bookings(key, NOW):
                first, last = (booking.start - NOW) // HOUR, -(-(booking.end - NOW) // HOUR)
                self.free[row, first:last] -= booking.nodes
        positions = {key.leaf: at for at, key in enumerate(keys)}
        self.halls = [[positions[leaf] for leaf in hall] for hall in calendar.places(SKU, _HALL)]

    def earliest(self, demand: Demand) -> int | None:
        first, long = (demand.earliest - NOW) // HOUR, demand.seconds // HOUR
        least = _sliding_minimum(self.free[:, first:], long)
        starts = [
            int(np.argmax(enough))
            for hall in self.halls
            if (enough := least[hall].sum(axis=0, dtype=np.int32) >= demand.nodes).any()
        ]
        return NOW + (first + min(starts)) * HOUR if starts else None


def _sliding_minimum(counts: np.ndarray, long: int) -> np.ndarray:
    """Doubling: the minimum over 2, 4, 8 … hours, then over two windows that overlap."""
    least, width = counts, 1
    while 2 * width <= long:
        least = np.minimum(least[:, :-width], least[:, width:])
        width *= 2
    rest = long - width
    return np.minimum(least[:, : least.shape[1] - rest], least[:, rest:]) if rest else least


@dataclass
class Tree:
    """A centred interval tree, in plain Python."""

    centre: int
    here: list[Booking]
    left: "Tree | None"
    right: "Tree | None"

    @classmethod
    def of(cls, bookings: list[Booking]) -> "Tree | None":
        if not bookings:
            return None
        times = sorted(b.start for b in bookings)
        centre = times[len(times) // 2]
        here = [b for b in bookings if b.start <= centre < b.end]
        return cls(
            centre,
            here,
            cls.of([b for b in bookings if b.end <= centre]),
            cls.of([b for b in bookings if b.start > centre]),
        )

    def overlapping(self, start: int, end: int) -> Iterable[Booking]:
        yield from (b for b in self.here if b.start < end and b.end > start)
        if self.left is not None and start < self.centre:
            yield from self.left.overlapping(start, end)
        if self.right is not None and end > self.centre:
            yield from self.right.overlapping(start, end)


class Trees:
    """Says whether a hall has the nodes at one start: an earliest start would take it minutes."""

    def __init__(self, calendar: Calendar) -> None:
        keys = calendar.leaves(SKU)
        self.trees = {key.leaf: Tree.of(calendar.bookings(key, NOW)) for key in keys}
        self.sizes = {key.leaf: 32 for key in keys} | {keys[-1].leaf: 20}
        self.halls = calendar.places(SKU, _HALL)

    def fits(self, demand: Demand, start: int) -> bool:
        end = start + demand.seconds
        return any(sum(self._free(leaf, start, end) for leaf in hall) >= demand.nodes for hall in self.halls)

    def _free(self, leaf: str, start: int, end: int) -> int:
        tree = self.trees[leaf]
        inside = list(tree.overlapping(start, end)) if tree else []
        moments = {start} | {b.start for b in inside if b.start > start}
        return self.sizes[leaf] - max(sum(b.nodes for b in inside if b.start <= m < b.end) for m in moments)
