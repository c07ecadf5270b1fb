"""One batch while it is being run: rows read ahead, rows under way, results that are not in the database yet."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from skerry.inference.batches import rules
from skerry.inference.batches.model import Batch, Result, Row, RowErrorCode
from skerry.inference.batches.rules import BadLine
from skerry.kernel.ids import BatchId, ProjectId

LOOKAHEAD_ROWS: Final = 64
LOOKAHEAD_BYTES: Final = 1024 * 1024
"""Read ahead of one batch: at least a row, whatever its size."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A row that is to be sent, not before `not_before` (monotonic seconds). `faults`: how often it broke something."""

    row: Row
    not_before: float = 0.0
    faults: int = 0


class Run:
    """Its rows in the order of the file, those sent back first. `lease_token` is our right to it.

    Moments are monotonic seconds.
    """

    def __init__(self, batch: Batch, lease_token: str, now: float) -> None:
        self.batch = batch
        self.lease_token = lease_token
        self.began = self.renewed = now
        self.close_by: float | None = None
        """Nothing new is sent, and what is under way then is dropped: it was cancelled, its window has ended, it is
        another's turn, or its file cannot be read. None: it goes on."""
        self.lost = False
        """The lease is gone."""
        self.trouble = ""
        """Why the file cannot be read now."""
        self.input_gone = False
        self.exhausted = False
        """The file has been read to its end."""
        self.lines: AsyncIterator[tuple[int, bytes]] | None = None
        self.known: set[int] = set()
        """Lines that had results before."""
        self.reader: asyncio.Task[None] | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        """Rows under way."""
        self.ready: deque[Waiting] = deque()
        self.results: list[Result] = []
        """Not in the database yet."""
        self._ready_bytes = 0
        self._number = 0

    @property
    def id(self) -> BatchId:
        return self.batch.id

    @property
    def project(self) -> ProjectId:
        return self.batch.project

    @property
    def closing(self) -> bool:
        return self.close_by is not None or self.lost or self.input_gone

    @property
    def wants_rows(self) -> bool:
        return self.reader is None and not self.exhausted and self._has_room()

    @property
    def over(self) -> bool:
        """Nothing is left to be done with it here."""
        if self.tasks or self.results or self.reader is not None:
            return False
        return self.closing or (self.exhausted and not self.ready)

    def close(self, by: float) -> None:
        self.close_by = by if self.close_by is None else min(by, self.close_by)

    def take(self, now: float, open_for: Callable[[str], bool]) -> Waiting | None:
        """The first row that may go now. `open_for`: whether a model takes one more."""
        if self.closing:
            return None
        for place, waiting in enumerate(self.ready):
            if waiting.not_before <= now and open_for(waiting.row.model):
                del self.ready[place]
                self._ready_bytes -= len(waiting.row.body)
                return waiting
        return None

    def put_back(self, waiting: Waiting) -> None:
        self.ready.appendleft(waiting)
        self._ready_bytes += len(waiting.row.body)

    async def read_ahead(self) -> None:
        """Fill `ready` from `lines` until there is enough, or no more. Raises whatever reading a file may raise."""
        assert self.lines is not None
        while self._has_room():
            following = await anext(self.lines, None)
            if following is None:
                self.exhausted = True
                return
            self._number += 1
            line = following[1]
            if self._number in self.known or not line.strip():
                continue
            try:
                row = rules.parse_line(self._number, line, self.batch.endpoint)
            except BadLine as bad:
                # The file was good when it was checked and has not changed since: the rules have.
                words = bad.error.message
                self.results.append(rules.failed(self.batch, self._number, None, RowErrorCode.INVALID, words))
                continue
            self.ready.append(Waiting(row))
            self._ready_bytes += len(row.body)

    def _has_room(self) -> bool:
        full = len(self.ready) >= LOOKAHEAD_ROWS or (bool(self.ready) and self._ready_bytes >= LOOKAHEAD_BYTES)
        return not full and not self.closing
