"""Rows of step functions in flat arrays, with room to grow: what the kernels work on."""

from collections.abc import Sequence

import numpy as np

from skerry.capacity.calendar.kernels import Counts, Ints

Row = tuple[Ints, Counts]
"""Times and counts of one step function."""

SLACK = 8
"""Room that every row has at least beside twice what it needs."""


class Steps:
    """Rows keep their number and move when they have outgrown their room."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.offset = np.zeros(len(rows), np.int64)
        self.length = np.array([len(t) for t, _ in rows], np.int32)
        self._room = 2 * self.length.astype(np.int64) + SLACK
        if len(rows):
            self.offset[1:] = np.cumsum(self._room)[:-1]
        self._end = int(self._room.sum())
        self.t = np.zeros(self._end, np.int64)
        self.f = np.zeros(self._end, np.int32)
        for row, (t, f) in enumerate(rows):
            low = self.offset[row]
            self.t[low : low + len(t)] = t
            self.f[low : low + len(f)] = f

    def row(self, row: int) -> Row:
        """A view, valid until the next change."""
        low, n = self.offset[row], self.length[row]
        return self.t[low : low + n], self.f[low : low + n]

    def write(self, row: int, t: Ints, f: Counts) -> None:
        self.reserve(row, len(t) - int(self.length[row]))
        low = self.offset[row]
        self.t[low : low + len(t)] = t
        self.f[low : low + len(t)] = f
        self.length[row] = len(t)

    def reserve(self, row: int, more: int) -> None:
        """Make sure that so many more times have room in a row."""
        needed = int(self.length[row]) + more
        if needed <= self._room[row]:
            return
        room = 2 * needed + SLACK
        if self._end + room > len(self.t):
            self._pack(room)
        low, n = self.offset[row], self.length[row]
        for array in (self.t, self.f):
            array[self._end : self._end + n] = array[low : low + n]
        self.offset[row], self._room[row] = self._end, room
        self._end += room

    @property
    def bytes_used(self) -> int:
        return int(self.length.sum()) * (self.t.itemsize + self.f.itemsize)

    @property
    def bytes_allocated(self) -> int:
        return self.t.nbytes + self.f.nbytes + self.offset.nbytes + self.length.nbytes + self._room.nbytes

    def _pack(self, more: int) -> None:
        """Put rows side by side in new arrays with `more` at the end, and half as much again as all rows have."""
        size = int(self._room.sum())
        t = np.zeros(size + size // 2 + more, np.int64)
        f = np.zeros(len(t), np.int32)
        end = 0
        for row in range(len(self.offset)):
            low, n = self.offset[row], self.length[row]
            t[end : end + n] = self.t[low : low + n]
            f[end : end + n] = self.f[low : low + n]
            self.offset[row] = end
            end += int(self._room[row])
        self.t, self.f, self._end = t, f, end
