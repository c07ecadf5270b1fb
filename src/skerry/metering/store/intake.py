"""Writing facts. Runs inside the caller's transaction, which makes a batch and whatever else it means one thing."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from sqlalchemy import delete, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert

from skerry.db.database import Tx, driver_connection
from skerry.db.partitions import ensure_partition
from skerry.kernel.ids import ProjectId
from skerry.metering.model import Dims, Reason, UsageFact
from skerry.metering.tables import usage_dims, usage_dirty, usage_fact_ids, usage_rejected

_PARTITIONS_LOCK = "skerry.metering.usage_facts"

_COLUMNS = "id, t1, t0, meter, quantity, project, resource, dims"
_TYPES = ("uuid", "timestamptz", "timestamptz", "text", "int8", "text", "text", "uuid")

# In the order of ids, so that batches that share some wait for each other instead of dead-locking. A batch that is
# still open is waited for; what it stored is known then.
_REMEMBER = """
    INSERT INTO usage_fact_ids (id, t1)
    SELECT * FROM unnest(%b::uuid[], %b::timestamptz[]) AS given (id, t1) ORDER BY id
    ON CONFLICT (id) DO NOTHING
"""
_KNOWN_DIMS = "SELECT id FROM usage_dims WHERE id = ANY(%b::uuid[])"
_KNOWN = "SELECT id, t1 FROM usage_fact_ids WHERE id = ANY(%b::uuid[])"
_COPY = f"COPY usage_facts ({_COLUMNS}) FROM STDIN (FORMAT binary)"

_TEMPORARY = """
    CREATE TEMPORARY TABLE IF NOT EXISTS usage_intake (
        id uuid, t1 timestamptz, t0 timestamptz, meter text, quantity bigint, project text, resource text, dims uuid
    ) ON COMMIT DELETE ROWS
"""
_COPY_TEMPORARY = f"COPY pg_temp.usage_intake ({_COLUMNS}) FROM STDIN (FORMAT binary)"
_INSERT_NEW = f"""
    INSERT INTO usage_facts ({_COLUMNS}) SELECT {_COLUMNS} FROM pg_temp.usage_intake ORDER BY id
    ON CONFLICT (id, t1) DO NOTHING RETURNING id
"""  # noqa: S608


class IntakeStore:
    def __init__(self) -> None:
        self._settled: set[datetime] = set()
        """Days known to have their partition for good."""

    async def remember(self, tx: Tx, ends: Mapping[int, datetime]) -> dict[int, datetime]:
        """Note `t1` by source. Returns what was known before of any of them, whoever noted it; empty: all are new."""
        connection = await driver_connection(tx)
        sources = [UUID(int=source) for source in ends]
        noted = await connection.execute(_REMEMBER, [sources, list(ends.values())])
        if noted.rowcount == len(ends):
            return {}
        rows = await connection.execute(_KNOWN, [sources])
        return {row[0].int: row[1] async for row in rows}

    async def add_new(self, tx: Tx, facts: Sequence[UsageFact]) -> bool:
        """Store facts of sources that are all new: the quick way. False, and nothing stored, where one is there."""
        connection = await driver_connection(tx)
        try:
            # A savepoint: `remember` has begun the transaction.
            async with connection.transaction():
                await _copy(connection, _COPY, facts)
        except psycopg.errors.UniqueViolation:
            # Its source was forgotten, though its time is inside the window: that was widened, or a clock set back.
            return False
        return True

    async def add_missing(self, tx: Tx, facts: Sequence[UsageFact]) -> set[UUID]:
        """Store those facts that are not there yet. Returns the ids of these."""
        connection = await driver_connection(tx)
        await connection.execute(_TEMPORARY)
        await connection.execute("DELETE FROM pg_temp.usage_intake")
        await _copy(connection, _COPY_TEMPORARY, facts)
        stored = await connection.execute(_INSERT_NEW)
        return {row[0] async for row in stored}

    async def cover_days(self, tx: Tx, days: Iterable[datetime]) -> None:
        """Make sure that facts of these days (their first instants) have a place."""
        unsure = [day for day in days if day not in self._settled]
        if not unsure:
            return
        # One at a time: two transactions that each make several places could wait for each other.
        await tx.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": _PARTITIONS_LOCK})
        for day in unsure:
            if await ensure_partition(tx, "usage_facts", day, "day"):
                self._settled.add(day)

    async def add_dims(self, tx: Tx, by_id: Mapping[UUID, Dims]) -> None:
        connection = await driver_connection(tx)
        known = await connection.execute(_KNOWN_DIMS, [list(by_id)])
        new = by_id.keys() - {row[0] async for row in known}
        missing = [{"id": key, "dims": dict(by_id[key])} for key in sorted(new)]
        if missing:
            await tx.execute(upsert(usage_dims).on_conflict_do_nothing(), missing)

    async def mark(self, tx: Tx, hours: Iterable[tuple[ProjectId, datetime]]) -> None:
        """Tell the roller which hours of which projects have changed."""
        await tx.execute(insert(usage_dirty), [{"project": project, "hour": hour} for project, hour in hours])

    async def keep_rejected(self, tx: Tx, refused: Sequence[tuple[UsageFact, Reason]], now: datetime) -> None:
        """Once for each (id, t1, reason), however often it is sent."""
        rows = [
            {
                "id": fact.id,
                "t1": fact.t1,
                "reason": reason.value,
                "t0": fact.t0,
                "meter": fact.meter.value,
                "quantity": Decimal(fact.quantity),
                "project": fact.project,
                "resource": fact.resource,
                "dims": json.loads(fact.dims.canonical),
                "received_at": now,
            }
            for fact, reason in refused
        ]
        await tx.execute(upsert(usage_rejected).on_conflict_do_nothing(), rows)

    async def forget_ids(self, tx: Tx, before: datetime, limit: int) -> int:
        """Forget up to `limit` sources that ended before `before`; returns how many went."""
        old = select(usage_fact_ids.c.id).where(usage_fact_ids.c.t1 < before).limit(limit)
        return (await tx.execute(delete(usage_fact_ids).where(usage_fact_ids.c.id.in_(old)))).rowcount


async def _copy(connection: AsyncConnection[object], statement: str, facts: Iterable[UsageFact]) -> None:
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(_TYPES)
        for f in facts:
            await copy.write_row((f.id, f.t1, f.t0, f.meter, f.quantity, f.project, f.resource, f.dims.id))
