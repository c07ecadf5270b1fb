"""Copies journals into the database: those of living gateways as they grow, those of dead ones to their end."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from skerry.kernel.errors import Unavailable
from skerry.metering.journal_intake import ShipResult, WrongPosition
from skerry.runtime.journal import reader
from skerry.runtime.journal.reader import Position, Tail
from skerry.runtime.journal.records import Mark, Record
from skerry.runtime.journal.segments import is_unfinished

PAUSE_SECONDS = 0.2
AWAY_SECONDS = 1.0
FOR_EVER = 253_370_764_800_000_000
"""Unix microseconds of the year 9999: the watermark of a journal that has ended."""


class Intake(Protocol):
    """Where batches go; `JournalIntake` is the real one."""

    async def position(self, journal: str) -> Position: ...

    async def ship(self, journal: str, start: Position, end: Position, records: list[Record]) -> ShipResult: ...


class Shipper:
    """Ships all journals below `root`; a folder's name is the journal's id.

    A gateway that died leaves its folder unlocked: it is shipped to the end, all its leases are closed by a last
    watermark, and the folder goes. Two shippers on a host share the work by lock; the database's position decides.
    """

    def __init__(self, root: Path, intake: Intake, now: Callable[[], float] = time.time) -> None:
        self._root, self._intake, self._now = root, intake, now
        self._positions: dict[str, Position] = {}
        self._unreadable: dict[str, Position] = {}
        """Where journals hold what cannot be read: said once."""
        self._log = structlog.get_logger("shipper")
        self.shipped = 0
        """Records sent since the start."""
        self.behind_seconds = 0.0
        """How long ago everything was last found to be shipped."""
        self._level_at = now()

    async def run(self, stopping: asyncio.Event) -> None:
        """Ship until told to stop, and then once more."""
        away = False
        while True:
            last = stopping.is_set()
            try:
                busy = await self.ship_all()
                away = False
            except Unavailable as error:
                if not away:
                    self._log.warning("database_away", reason=error.detail)
                away, busy = True, False
            self.behind_seconds = self._now() - self._level_at
            if last and (away or not busy):
                return
            if not busy:
                await _sleep(stopping, AWAY_SECONDS if away else PAUSE_SECONDS)

    async def ship_all(self) -> bool:
        """One pass over all journals; True where there may be more at once."""
        busy = False
        for folder in sorted(path for path in self._root.iterdir() if path.is_dir() and not is_unfinished(path)):
            with reader.shipping(folder) as mine:
                if mine:
                    busy = await self._ship_some(folder) or busy
        if not busy:
            self._level_at = self._now()
        return busy

    async def _ship_some(self, folder: Path) -> bool:
        journal = folder.name
        # Asked before reading: what a gateway wrote before it died is then surely read.
        alive = reader.is_alive(folder)
        start = self._positions.get(journal) or await self._intake.position(journal)
        try:
            batch = reader.read_batch(folder, start)
        except reader.UnreadableRecord as error:
            if self._unreadable.get(journal) != start:
                self._log.error("journal_unreadable", journal=journal, reason=str(error))
            self._unreadable[journal] = start
            return False
        if batch.end != batch.start:
            if await self._ship(journal, batch.start, batch.end, list(batch.records)):
                reader.drop_segments_before(folder, batch.end.segment)
            return True
        if not alive and batch.tail is not Tail.MORE:
            if batch.tail is Tail.TORN:
                self._log.warning("journal_torn", journal=journal, segment=batch.end.segment, offset=batch.end.offset)
            if not await self._ship(journal, batch.end, batch.end, [Mark(FOR_EVER)]):
                return True
            reader.remove_journal(folder)
            self._positions.pop(journal, None)
            self._log.info("journal_finished", journal=journal)
        return False

    async def _ship(self, journal: str, start: Position, end: Position, records: list[Record]) -> bool:
        """False where another shipper was ahead: read on from where it came to."""
        try:
            result = await self._intake.ship(journal, start, end, records)
        except WrongPosition as error:
            self._positions[journal] = error.position
            return False
        self._positions[journal] = result.position
        self.shipped += len(records)
        return True


async def _sleep(stopping: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
    await asyncio.sleep(0)
