"""Hourly sums: recomputed from the facts of a touched hour, never incremented."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import delete, func, literal, select, text
from sqlalchemy.dialects.postgresql import insert as upsert

from skerry.db.database import Tx
from skerry.db.partitions import Partitions
from skerry.kernel.ids import ProjectId
from skerry.metering.rules import HOUR
from skerry.metering.tables import usage_dirty, usage_facts, usage_rollups

_LOCK = "skerry.metering.roller"


class RollupStore:
    def __init__(self) -> None:
        self._months = Partitions("usage_rollups", "month")

    async def lock(self, tx: Tx) -> bool:
        """Be the one roller until the transaction ends; False where another is at work."""
        locked = await tx.execute(text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": _LOCK})
        return bool(locked.scalar_one())

    async def take_marks(self, tx: Tx, limit: int) -> tuple[dict[datetime, set[ProjectId]], int]:
        """Remove up to `limit` marks: the projects to recompute by hour, and how many marks there were.

        Only marks that this statement sees are removed. Facts of theirs are visible from here on; whatever commits
        later has a mark of its own, which stays.
        """
        oldest = select(usage_dirty.c.id).order_by(usage_dirty.c.id).limit(limit)
        taken = delete(usage_dirty).where(usage_dirty.c.id.in_(oldest))
        marks = taken.returning(usage_dirty.c.project, usage_dirty.c.hour)
        touched: dict[datetime, set[ProjectId]] = {}
        count = 0
        for project, hour in await tx.execute(marks):
            touched.setdefault(hour, set()).add(project)
            count += 1
        return touched, count

    async def recompute(self, tx: Tx, touched: Mapping[datetime, set[ProjectId]]) -> None:
        """Bring the sums of these hours in line with their facts, which are all there is: none is ever deleted."""
        for hour in sorted(touched):
            await self._months.cover(tx, hour)
            await self._recompute(tx, hour, sorted(touched[hour]))

    async def _recompute(self, tx: Tx, hour: datetime, projects: list[ProjectId]) -> None:
        f, r = usage_facts.c, usage_rollups.c
        key = (f.project, f.meter, f.resource, f.dims)
        sums = (
            select(*key, literal(hour, r.hour.type).label("hour"), func.sum(f.quantity))
            .where(f.t1 > hour, f.t1 <= hour + HOUR, f.project.in_(projects))
            .group_by(*key)
        )
        names = ["project", "meter", "resource", "dims", "hour", "quantity"]
        written = upsert(usage_rollups).from_select(names, sums)
        await tx.execute(
            written.on_conflict_do_update(
                index_elements=names[:5],
                set_={"quantity": written.excluded.quantity},
                where=r.quantity != written.excluded.quantity,
            )
        )
