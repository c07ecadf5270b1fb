"""Journals to ship, and a sink that remembers what it took."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from skerry.kernel.errors import Unavailable
from skerry.metering.journal_intake import ShipResult, WrongPosition
from skerry.metering.model import IntakeResult
from skerry.metering.shipper import Shipper
from skerry.runtime.journal.reader import Position
from skerry.runtime.journal.records import AnswerRecord, Mark, Record
from skerry.runtime.journal.writer import JournalWriter
from tests.journal.records import answer

SEGMENT = 8 * 1024
T0 = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
"""The fake clock's time, in Unix microseconds."""


def record(number: int, **changes: object) -> AnswerRecord:
    """With an id as gateways make them, and a time that the intake takes."""
    id = UUID(int=(T0 // 1000) << 80 | 7 << 76 | 2 << 62 | number).bytes
    return answer(0, **{"id": id, "t0": T0 - 1000, "t1": T0, **changes})


def write(writer: JournalWriter, first: int, count: int) -> list[Record]:
    written: list[Record] = [record(number) for number in range(first, first + count)]
    for one in written:
        writer.append(one)
    return written


class Sink:
    """An intake in memory, with the position rule of the real one."""

    def __init__(self) -> None:
        self.positions: dict[str, Position] = {}
        self.taken: dict[str, list[Record]] = {}
        self.away = False
        self.calls = 0

    async def position(self, journal: str) -> Position:
        if self.away:
            raise Unavailable("the database is away")
        return self.positions.get(journal, Position())

    async def ship(self, journal: str, start: Position, end: Position, records: list[Record]) -> ShipResult:
        self.calls += 1
        at = await self.position(journal)
        if at != start:
            raise WrongPosition(journal, start, at)
        self.taken.setdefault(journal, []).extend(records)
        self.positions[journal] = end
        return ShipResult(len(records), IntakeResult(0, 0), end, None)

    def answers(self, journal: str) -> list[Record]:
        return [one for one in self.taken.get(journal, []) if isinstance(one, AnswerRecord)]

    def marks(self, journal: str) -> list[Mark]:
        return [one for one in self.taken.get(journal, []) if isinstance(one, Mark)]


async def ship_to_the_end(shipper: Shipper) -> None:
    for _ in range(1000):
        if not await shipper.ship_all():
            return
    raise AssertionError("it never ends")


def journal(root: Path, name: str = "gw_1", segment_bytes: int = SEGMENT) -> JournalWriter:
    return JournalWriter(root / name, segment_bytes=segment_bytes)
