"""All leaves of one SKU in order of site, hall and name, and the searches over them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from skerry.capacity.calendar import kernels
from skerry.capacity.calendar.kernels import BEGINNING, NEVER, Flags, Ints
from skerry.capacity.calendar.model import WIDTHS, Booking, Demand, Found, Free, LeafKey, Placement, Shortage
from skerry.capacity.calendar.steps import Row, Steps
from skerry.capacity.model import Scope

GARBAGE = 256
"""A group's row is made anew when times at which nothing changes any more are as many as the others, and this."""


@dataclass(slots=True)
class Leaf:
    """What the step function of a leaf is made of."""

    key: LeafKey
    name: str
    hall: str
    site: str
    size: int
    supply: tuple[tuple[int, int], ...]
    bookings: dict[str, Booking] = field(default_factory=dict)

    @property
    def place(self) -> tuple[str, str, str, str]:
        return self.site, self.hall, self.name, self.key.leaf

    @property
    def full(self) -> int:
        return max((nodes for _, nodes in self.supply), default=0)

    def row(self) -> Row:
        """Supply less bookings, equal neighbours joined."""
        changes = {BEGINNING: 0}
        before = 0
        for start, nodes in self.supply:
            changes[start] = changes.get(start, 0) + nodes - before
            before = nodes
        for booking in self.bookings.values():
            if not booking.pool:
                changes[booking.start] = changes.get(booking.start, 0) - booking.nodes
                changes[booking.end] = changes.get(booking.end, 0) + booking.nodes
        times = sorted(moment for moment, change in changes.items() if change or moment == BEGINNING)
        counts = np.cumsum([changes[moment] for moment in times])
        return np.array(times, np.int64), counts.astype(np.int32)


class Shelf:
    """Step functions of the leaves, and of their halls, sites and all together, which rule out much at once."""

    def __init__(self, leaves: Iterable[Leaf]) -> None:
        self.leaves = sorted(leaves, key=lambda leaf: leaf.place)
        self.position = {leaf.key.leaf: at for at, leaf in enumerate(self.leaves)}
        self.steps = Steps([leaf.row() for leaf in self.leaves])
        count = len(self.leaves)
        bounds: list[tuple[int, int]] = []
        levels = [0]
        self._groups = np.zeros((count, 3), np.int64)
        for level, depth in enumerate((2, 1, 0)):  # of a place: site and hall, site, nothing
            places = [leaf.place[:depth] for leaf in self.leaves]
            for _, members in groupby(range(count), key=places.__getitem__):
                inside = list(members)
                self._groups[inside, level] = len(bounds)
                bounds.append((inside[0], inside[-1] + 1))
            levels.append(len(bounds))
        self._low = np.array([low for low, _ in bounds], np.int64)
        self._high = np.array([high for _, high in bounds], np.int64)
        self._levels = np.array(levels, np.int64)
        self._sums = Steps([self._sum(group) for group in range(len(bounds))])
        self._fresh = self._sums.length.copy()
        self._full = np.array([leaf.full for leaf in self.leaves], np.int64)
        self._nobody = np.zeros(count, np.uint8)
        self._usable: dict[frozenset[str], Flags] = {frozenset(): np.ones(count, np.uint8)}

    # Changes

    def replace(self, leaf: Leaf) -> None:
        """Another content for a leaf that stays at its place."""
        at = self.position[leaf.key.leaf]
        self.leaves[at] = leaf
        self._full[at] = leaf.full
        new = leaf.row()
        before, had = self.steps.row(at)
        for group in self._groups[at]:
            moments, sums = self._sums.row(group)
            size = len(moments) + len(before) + len(new[0])
            times, counts = np.empty(size, np.int64), np.empty(size, np.int32)
            length = kernels.amend(moments, sums, before, had, new[0], new[1], times, counts)
            self._sums.write(group, times[:length], counts[:length])
        self.steps.write(at, *new)
        self._tidy(at)

    def shift(self, at: int, start: int, end: int, nodes: int) -> None:
        """Give (negative: take) nodes of the leaf at this position over a window."""
        steps, sums, groups = self.steps, self._sums, self._groups[at]
        steps.reserve(at, 2)
        for group in groups:
            sums.reserve(group, int(steps.length[at]) + 2)
        kernels.shift(
            steps.t, steps.f, steps.offset, steps.length, at,
            sums.t, sums.f, sums.offset, sums.length, groups, start, end, nodes,
        )  # fmt: skip
        self._tidy(at)

    # Searches

    def earliest(self, demand: Demand, scope: Scope, first: int, last: int) -> int | None:
        """The earliest start in [first, last] at which one place of the scope has room."""
        steps, sums, usable = self.steps, self._sums, self.usable(demand.sites)
        if last < first or not self.leaves:
            return None
        if scope is Scope.LEAF:
            start = kernels.earliest_leaf(
                steps.t, steps.f, steps.offset, steps.length, usable, demand.nodes, demand.seconds, first, last
            )
        else:
            level = WIDTHS.index(scope)
            start = kernels.earliest_group(
                steps.t, steps.f, steps.offset, steps.length, self._full, usable,
                sums.t, sums.f, sums.offset, sums.length, self._low, self._high,
                np.arange(self._levels[level - 1], self._levels[level]),
                demand.nodes, demand.seconds, first, last, demand.whole_leaves,
            )  # fmt: skip
        return None if start == NEVER else start

    def settle(
        self, demand: Demand, start: int, scope: Scope, usable: Flags, prefer: Collection[str] = ()
    ) -> Found | None:
        """Choose leaves for exactly this start, in the narrowest scope with room."""
        end = start + demand.seconds
        free = self.free(usable, start, end)
        taken = np.empty(len(free), np.int64)
        level, low, high = kernels.settle(
            free, self._full, usable, self.flags(prefer) if prefer else self._nobody, self._low, self._high,
            self._levels, WIDTHS.index(scope), demand.nodes, demand.whole_leaves, taken,
        )  # fmt: skip
        if level < 0:
            return None
        chosen = low + np.flatnonzero(taken[low:high])
        placements = tuple(Placement(self.leaves[at].key.leaf, int(taken[at]), start, end) for at in chosen)
        return Found(start, WIDTHS[level], placements)

    def free(self, usable: Flags, start: int, end: int) -> Ints:
        """What each leaf has free all through the window."""
        steps, free = self.steps, np.empty(len(self.leaves), np.int64)
        kernels.minima(steps.t, steps.f, steps.offset, steps.length, usable, start, end, free)
        return free

    def least(self, at: int, start: int, end: int) -> int:
        """What one leaf has free all through the window."""
        steps = self.steps
        return kernels.least(steps.t, steps.f, int(steps.offset[at]), int(steps.length[at]), start, end)

    def usable(self, sites: frozenset[str]) -> Flags:
        """Which leaves lie at these sites; none named: all."""
        flags = self._usable.get(sites)
        if flags is None:
            flags = np.array([leaf.site in sites for leaf in self.leaves], np.uint8)
            self._usable[sites] = flags
        return flags

    def flags(self, leaves: Collection[str]) -> Flags:
        """Which leaves are among these ids."""
        flags = np.zeros(len(self.leaves), np.uint8)
        for leaf in leaves:
            if (at := self.position.get(leaf)) is not None:
                flags[at] = 1
        return flags

    def largest(self, counts: Sequence[int] | Ints, scope: Scope) -> int:
        """The most that one place of this scope has, of counts of all leaves."""
        each = np.asarray(counts, np.int64)
        if scope is Scope.LEAF or not len(each):
            return int(each.max(initial=0))
        return int(np.add.reduceat(each, self._lows(scope)).max())

    def places(self, scope: Scope) -> list[range]:
        """Positions of the leaves of each place of this scope."""
        if scope is Scope.LEAF:
            return [range(at, at + 1) for at in range(len(self.leaves))]
        level = WIDTHS.index(scope)
        return [range(self._low[g], self._high[g]) for g in range(self._levels[level - 1], self._levels[level])]

    # Reading

    def schedule(self, site: str | None, start: int, end: int) -> list[Free]:
        """What all leaves (of a site) have free together, at each moment."""
        level = 2 if site is None else 1
        for group in range(self._levels[level], self._levels[level + 1]):
            if site in (None, self.leaves[self._low[group]].site):
                return [Free(*step) for step in _steps(self._sums.row(group), start, end)]
        return [Free(start, end, 0)]

    def shortages(self, at: int) -> list[Shortage]:
        return [
            Shortage(begins, ends, -nodes)
            for begins, ends, nodes in _steps(self.steps.row(at), BEGINNING, NEVER)
            if nodes < 0
        ]

    @property
    def bytes_used(self) -> int:
        return self.steps.bytes_used + self._sums.bytes_used

    @property
    def bytes_allocated(self) -> int:
        return self.steps.bytes_allocated + self._sums.bytes_allocated

    def _lows(self, scope: Scope) -> Ints:
        level = WIDTHS.index(scope)
        lows: Ints = self._low[self._levels[level - 1] : self._levels[level]]
        return lows

    def _sum(self, group: int) -> Row:
        """Of a group's leaves, from scratch."""
        rows = [self.steps.row(at) for at in range(self._low[group], self._high[group])]
        times = np.concatenate([t for t, _ in rows])
        changes = np.concatenate([np.diff(np.maximum(f, 0), prepend=0) for _, f in rows])
        order = np.argsort(times, kind="stable")
        times = times[order]
        last = np.append(times[1:] != times[:-1], True)
        return times[last], np.cumsum(changes[order])[last].astype(np.int32)

    def _tidy(self, at: int) -> None:
        for group in self._groups[at]:
            if self._sums.length[group] > 2 * self._fresh[group] + GARBAGE:
                self._sums.write(group, *self._sum(group))
                self._fresh[group] = self._sums.length[group]


def _steps(row: Row, start: int, end: int) -> list[tuple[int, int, int]]:
    """(from, to, count) of a row within a window, equal neighbours joined."""
    times, counts = row
    first = int(np.searchsorted(times, start, side="right")) - 1
    last = int(np.searchsorted(times, end, side="left"))
    found: list[tuple[int, int, int]] = []
    for at in range(first, last):
        begins = max(int(times[at]), start)
        ends = min(int(times[at + 1]), end) if at + 1 < last else end
        if found and found[-1][2] == counts[at]:
            found[-1] = (found[-1][0], ends, found[-1][2])
        else:
            found.append((begins, ends, int(counts[at])))
    return found
