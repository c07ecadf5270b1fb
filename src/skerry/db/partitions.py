"""Tables partitioned by time: `facts` has `facts_p20260131` (a day) or `facts_p202601` (a month), in UTC."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from sqlalchemy import text

from skerry.db.database import Tx
from skerry.kernel.clock import require_utc

Granularity = Literal["day", "month"]

_FORMATS: dict[Granularity, str] = {"day": "%Y%m%d", "month": "%Y%m"}


@dataclass(frozen=True, slots=True)
class Partition:
    """One piece of a table: rows of `[start, end)`."""

    name: str
    start: datetime
    end: datetime


class Partitions:
    """Keeps pieces in place for one table; remembers those that are, so that it asks the database once for each.

    The piece after the current one is made ahead: whoever makes a piece holds up all who need it until it commits.
    """

    def __init__(self, table: str, granularity: Granularity) -> None:
        self.table = table
        self.granularity = granularity
        self._settled: set[str] = set()

    async def cover(self, tx: Tx, at: datetime) -> None:
        """Make sure that a row of `at` has a place. Costs nothing where it is known to have."""
        piece = partition_of(self.table, at, self.granularity)
        if piece.name not in self._settled and await ensure_partition(tx, self.table, at, self.granularity):
            self._settled.add(piece.name)
        if piece.name not in self._settled:
            return
        ahead = partition_of(self.table, piece.end, self.granularity)
        if ahead.name not in self._settled and await ensure_partition(
            tx, self.table, ahead.start, self.granularity, wait=False
        ):
            self._settled.add(ahead.name)


def partition_of(table: str, at: datetime, granularity: Granularity) -> Partition:
    """The piece that a row of `at` belongs to, whether it exists or not."""
    start = require_utc(at).replace(hour=0, minute=0, second=0, microsecond=0)
    if granularity == "month":
        start = start.replace(day=1)
    return Partition(f"{table}_p{start.strftime(_FORMATS[granularity])}", start, _next(start, granularity))


async def ensure_partition(tx: Tx, table: str, at: datetime, granularity: Granularity, *, wait: bool = True) -> bool:
    """Create the piece for `at` unless it is there; safe to race.

    True: it is there for good. False: this very transaction made it, and it goes if the transaction is rolled back; or
    another is making it and `wait` is not set.
    """
    piece = partition_of(table, at, granularity)
    if (settled := await _is_settled(tx, piece.name)) is not None:
        return settled
    if not await _lock(tx, piece.name, wait=wait):
        return False
    if (settled := await _is_settled(tx, piece.name)) is not None:
        return settled
    # CREATE TABLE … PARTITION OF would lock out all readers of the parent; ATTACH does not.
    await tx.execute(text(f'CREATE TABLE "{piece.name}" (LIKE "{table}" INCLUDING ALL EXCLUDING IDENTITY)'))
    await tx.execute(
        text(
            f'ALTER TABLE "{table}" ATTACH PARTITION "{piece.name}" '
            f"FOR VALUES FROM ('{piece.start.isoformat()}') TO ('{piece.end.isoformat()}')"
        )
    )
    return False


async def list_partitions(tx: Tx, table: str) -> list[Partition]:
    """All pieces of a table, oldest first."""
    rows = await tx.execute(
        text("SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
             "WHERE i.inhparent = to_regclass(:name) ORDER BY c.relname"),
        {"name": f'"{table}"'},
    )  # fmt: skip
    return [_parse(table, name) for name in rows.scalars()]


async def drop_partitions_before(tx: Tx, table: str, before: datetime) -> list[Partition]:
    """Drop every piece that ended at or before `before`; returns what went."""
    gone = [piece for piece in await list_partitions(tx, table) if piece.end <= require_utc(before)]
    for piece in gone:
        await tx.execute(text(f'DROP TABLE "{piece.name}"'))
    return gone


async def _lock(tx: Tx, name: str, *, wait: bool) -> bool:
    """Be the only one that makes this piece, until the transaction ends."""
    function = "pg_advisory_xact_lock" if wait else "pg_try_advisory_xact_lock"
    result = await tx.execute(text(f"SELECT {function}(hashtextextended(:name, 0))"), {"name": name})
    return wait or bool(result.scalar_one())


async def _is_settled(tx: Tx, name: str) -> bool | None:
    """None: not there; False: made by this very transaction; True: there for good."""
    # age() counts from our own transaction: what it or its savepoints made is not older than it.
    result = await tx.execute(
        text("SELECT age(xmin) > 0 FROM pg_class WHERE oid = to_regclass(:name)"), {"name": f'"{name}"'}
    )
    settled = result.scalar_one_or_none()
    return None if settled is None else bool(settled)


def _parse(table: str, name: str) -> Partition:
    digits = name.removeprefix(f"{table}_p")
    granularity: Granularity = "month" if len(digits) == 6 else "day"
    start = datetime.strptime(digits, _FORMATS[granularity]).replace(tzinfo=UTC)
    return Partition(name, start, _next(start, granularity))


def _next(start: datetime, granularity: Granularity) -> datetime:
    if granularity == "day":
        return start + timedelta(days=1)
    return (start + timedelta(days=31)).replace(day=1)
