"""Whose turn it is among workloads that wait for capacity.

1. Of one project's, the higher priority goes first, and of one priority what has waited longest. Ten minutes of waiting
   count as one step of priority, so that a low one does not starve. Between projects what has waited longest goes
   first: a priority moves a workload among its project's places in the queue only.
2. What goes first and does not fit is gone past by what fits: nothing stands idle for it.
3. But what has waited for ten minutes and knows when it would start is gone past no longer, by work of any project, but
   for what is over by then: gangs do not starve behind what is small.
4. Spot work does not take again what it has just left for somebody.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Subquery, and_, case, exists, func, literal, or_, select, update

from skerry.compute.model import UNPLACED, Desired, ReasonCode, Workload, WorkloadStatus
from skerry.compute.tables import workloads as w
from skerry.db.database import Tx
from skerry.kernel.classes import CapacityClass

STEP: Final = timedelta(minutes=10)
"""So long a wait is worth one step of priority, and is long enough to be gone past no more."""
LOOKED_AT: Final = 8
"""So many are looked at when something has become free; each that is placed brings a look at as many again."""
_LEAST_SECONDS: Final = 10.0
_MOST_SECONDS: Final = 300.0
_PER_SECOND: Final = 10
"""At most so many looks a second, however many wait."""

_since: Final = func.coalesce(w.c.queued_at, w.c.created_at)


def since(workload: Workload) -> datetime:
    return workload.queued_at or workload.created_at


class Queue:
    """Pending workloads of all projects that have been looked at and found no capacity."""

    async def due_before(self, tx: Tx, workload: Workload, now: datetime) -> bool:
        """Another one goes first and is about to be looked at."""
        turns = _turns(or_(and_(_waits(workload), _same_kind(workload)), w.c.id == workload.id), now)
        own = select(turns.c.turn).where(turns.c.id == workload.id).scalar_subquery()
        before = exists().where(turns.c.due_at <= now, turns.c.turn < own, turns.c.id != workload.id)
        return bool((await tx.execute(select(before))).scalar_one())

    async def stands_back(self, tx: Tx, workload: Workload, now: datetime) -> datetime | None:
        """When another one is to start that must not be gone past by this one; None: there is none."""
        if workload.spec.capacity_class is CapacityClass.SPOT:
            reclaiming = w.c.status_reason["code"].astext == ReasonCode.RECLAIMING
            if await self._any(tx, workload, reclaiming):
                return now
        length = workload.spec.max_duration_seconds
        over_by = now + timedelta(seconds=length) if length is not None else None
        held_up = [w.c.estimated_start > now, _since <= now - STEP, _since < since(workload)]
        if over_by is not None:
            held_up.append(w.c.estimated_start < over_by)
        query = select(func.min(w.c.estimated_start)).where(_waits(workload), _same_kind(workload), *held_up)
        found: datetime | None = (await tx.execute(query)).scalar_one()
        return found

    async def hint(
        self, tx: Tx, now: datetime, *, sku: str | None = None, most: int = LOOKED_AT, placing: bool = False
    ) -> int:
        """Have those whose turn it is looked at now; how many there are. `sku`: of what has become free.

        `placing`: the caller has the lock of placement. Who holds a row meanwhile may be waiting for that lock, to look
        at that row: to wait for it would be a deadlock, and it needs no hint.
        """
        code = w.c.status_reason["code"].astext
        waiting = and_(w.c.status == WorkloadStatus.PENDING, code.in_(list(UNPLACED)))
        if sku is not None:
            wanted = w.c.spec["sku"].astext
            waiting = and_(waiting, or_(wanted.is_(None), wanted == sku))
        turns = _turns(waiting, now)
        reclaiming = case((turns.c.code == ReasonCode.RECLAIMING, 0), else_=1)
        first = select(turns.c.id).order_by(reclaiming, turns.c.turn, turns.c.id).limit(most)
        # Without a lock on their rows: in whichever order, one that another transaction is at is waited for.
        ids = sorted((await tx.execute(first)).scalars())
        if placing:
            free = select(w.c.id).where(w.c.id.in_(ids)).with_for_update(skip_locked=True)
            ids = sorted((await tx.execute(free)).scalars())
        hinted = update(w).where(w.c.id.in_(ids)).values(due_at=func.least(w.c.due_at, now), hints=w.c.hints + 1)
        return (await tx.execute(hinted)).rowcount if ids else 0

    async def look_again_seconds(self, tx: Tx, now: datetime, start: datetime | None) -> float:
        """Sooner where it is known to start sooner; later the more there are that wait."""
        waiting = and_(w.c.status == WorkloadStatus.PENDING, w.c.status_reason["code"].astext.in_(list(UNPLACED)))
        count = (await tx.execute(select(func.count()).select_from(w).where(waiting))).scalar_one()
        seconds = min(max(_LEAST_SECONDS, count / _PER_SECOND), _MOST_SECONDS)
        if start is not None:
            seconds = min(seconds, max(1.0, (start - now).total_seconds()))
        return seconds

    async def _any(self, tx: Tx, workload: Workload, *conditions: ColumnElement[bool]) -> bool:
        return bool((await tx.execute(select(exists().where(_waits(workload), *conditions)))).scalar_one())


def _waits(workload: Workload) -> ColumnElement[bool]:
    """For accelerators that this one may want, too."""
    conditions: list[ColumnElement[bool]] = [
        w.c.status == WorkloadStatus.PENDING,
        w.c.desired == Desired.RUN,
        w.c.id != workload.id,
        w.c.status_reason["code"].astext.in_(list(UNPLACED)),
        w.c.spec["accelerators"].astext.cast(BigInteger) > 0,
    ]
    wants: dict[str, Any] = {"sku": workload.spec.sku, "site": workload.spec.site}
    for name, own in wants.items():
        if own is not None:
            other = w.c.spec[name].astext
            conditions.append(or_(other.is_(None), other == own))
    return and_(*conditions)


def _same_kind(workload: Workload) -> ColumnElement[bool]:
    """Of one capacity class, and inside one reservation."""
    spec = workload.spec
    return and_(
        w.c.spec["capacity_class"].astext == spec.capacity_class.value,
        func.coalesce(w.c.spec["reservation"].astext, "") == (spec.reservation or ""),
    )


def _turns(waiting: ColumnElement[bool], now: datetime) -> Subquery:
    """Those that wait, with their turns. The places of a project in the queue are those of its workloads by how long
    they have waited; which of its workloads has which of these places is decided by rank. So the order is total."""
    waited = func.extract("epoch", literal(now) - _since) / STEP.total_seconds()
    rank = w.c.priority + func.floor(waited)
    kind = [w.c.project, w.c.spec["capacity_class"].astext, func.coalesce(w.c.spec["reservation"].astext, "")]
    ranked = select(
        w.c.id,
        w.c.due_at,
        w.c.status_reason["code"].astext.label("code"),
        _since.label("since"),
        func.concat_ws("/", *kind).label("kind"),
        func.row_number().over(partition_by=kind, order_by=[rank.desc(), _since, w.c.id]).label("place"),
        func.row_number().over(partition_by=kind, order_by=[_since, w.c.id]).label("arrival"),
    ).where(waiting)
    mine, place = ranked.cte("mine"), ranked.cte("place")
    same = and_(mine.c.kind == place.c.kind, mine.c.place == place.c.arrival)
    return (
        select(mine.c.id, mine.c.due_at, mine.c.code, place.c.since.label("turn"))
        .join_from(mine, place, same)
        .subquery()
    )
