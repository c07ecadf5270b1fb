"""Traces leave from the shipper, after the usage: gateways pay nothing for them, and no trace holds up a fact."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

import structlog

from skerry.inference.requests.spans import Span, is_sampled, spans_of
from skerry.metering.journal_intake import ShipResult
from skerry.metering.shipper import Intake
from skerry.runtime.journal.reader import Position
from skerry.runtime.journal.records import AnswerRecord, Record

WAITING = 20_000
"""Records that may wait for a slow collector; older ones then go."""
AT_ONCE = 400
"""Records a request to the collector."""


class SpanSink(Protocol):
    def export(self, spans: Sequence[Span]) -> bool:
        """Send them; False where the collector did not take them. Called in a thread, may wait."""
        ...


class Tracer:
    """Turns records into spans and sends them. Traces are a help, not an account: what cannot be sent is dropped."""

    def __init__(self, sink: SpanSink, share: float) -> None:
        self._sink, self._share = sink, share
        self._waiting: deque[AnswerRecord] = deque()
        self._wake = asyncio.Event()
        self._log = structlog.get_logger("traces")
        self._failing = False
        self.exported = 0
        """Records whose spans a collector has taken."""
        self.dropped = 0
        """Records whose spans nobody has."""

    def offer(self, records: Iterable[Record]) -> None:
        for record in records:
            if isinstance(record, AnswerRecord) and is_sampled(record, self._share):
                if len(self._waiting) == WAITING:
                    self._waiting.popleft()
                    self.dropped += 1
                self._waiting.append(record)
        if self._waiting:
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """Send what waits."""
        while self._waiting:
            records = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            taken = await asyncio.to_thread(self._export, records)
            if taken:
                self.exported += len(records)
            else:
                self.dropped += len(records)
                if not self._failing:
                    self._log.warning("traces_not_taken", records=len(records))
            self._failing = not taken

    def _export(self, records: Sequence[AnswerRecord]) -> bool:
        return self._sink.export([span for record in records for span in spans_of(record)])


class TracedIntake:
    """An intake whose batches are traced once they are committed."""

    def __init__(self, intake: Intake, tracer: Tracer) -> None:
        self._intake, self._tracer = intake, tracer

    async def position(self, journal: str) -> Position:
        return await self._intake.position(journal)

    async def ship(self, journal: str, start: Position, end: Position, records: list[Record]) -> ShipResult:
        result = await self._intake.ship(journal, start, end, records)
        self._tracer.offer(records)
        return result
