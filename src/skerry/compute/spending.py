"""What runs by the second keeps to its limits: budgets, credit, `max_cost` and `max_duration_seconds`.

What it costs is booked every few seconds (`Running`). When a limit is about to be reached its owner is warned by an
event, once for each attempt; when it is reached the workload is stopped, in order and never deleted. A warning always
comes before: a limit that is smaller than a warning's lead is warned of at the first look, and acted on at a later one.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Protocol

import structlog
from sqlalchemy import and_, or_, select

from skerry.billing.service.running import Run, Standing
from skerry.compute.changes import Changes
from skerry.compute.metered import Metered
from skerry.compute.model import Attempt, ChargeBy, Desired, Exclusion, StopReason, Workload, WorkloadStatus
from skerry.compute.rules.usage import accelerator_seconds, dims_of
from skerry.compute.service import Compute
from skerry.compute.store import WorkloadStore, attempt_of
from skerry.compute.tables import attempts as a
from skerry.compute.tables import workloads as w
from skerry.db.database import Database, Tx
from skerry.kernel.clock import Clock, rfc3339
from skerry.kernel.errors import Unavailable
from skerry.kernel.ids import ProjectId, WorkloadId
from skerry.kernel.money import plain
from skerry.metering.model import Meter

LOOK_SECONDS: Final = 5.0
_SELDOM_SECONDS: Final = 60.0
"""Between looks at what has no limit near."""
AHEAD: Final = timedelta(seconds=120)
"""What so long a time costs is set aside, so that others do not spend it meanwhile."""
LEAD: Final = timedelta(minutes=10)
"""A warning comes so long before, at the present rate, or when nine tenths are used."""
_SHARE: Final = Decimal("0.9")
_LAST_SECONDS: Final = LOOK_SECONDS * 2
"""It is stopped when less than this is left: by the next look it would be over."""
_SECOND: Final = timedelta(seconds=1)
_FAR_SECONDS: Final = 10 * 365 * 86400.0
A_PASS: Final = 200
_LENGTH: Final = "max_duration_seconds"


class Money(Protocol):
    """What is needed of billing (`Running`)."""

    async def book(
        self, tx: Tx, project: ProjectId, thing: str, runs: Sequence[Run], rate: Sequence[Run], ahead: timedelta
    ) -> Standing: ...


@dataclass(frozen=True, slots=True)
class Limit:
    """One that is coming near. `seconds` left, None: at no known time; `share` of it is used."""

    name: str
    seconds: float
    share: Decimal
    reason: StopReason
    data: Mapping[str, Any]

    @property
    def near(self) -> bool:
        return self.share >= _SHARE or self.seconds <= LEAD.total_seconds()

    @property
    def reached(self) -> bool:
        return self.share >= 1 or self.seconds <= _LAST_SECONDS


class Spending:
    """One pass looks at all that runs, or has run since it was booked last."""

    def __init__(self, db: Database, clock: Clock, compute: Compute, changes: Changes, money: Money) -> None:
        self._db = db
        self._clock = clock
        self._compute = compute
        self._changes = changes
        self._money = money
        self._metered: Metered = compute.metered
        self._store = WorkloadStore()
        self._next: dict[str, datetime] = {}
        self._log = structlog.get_logger("skerry.compute")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look_once()
            except Unavailable as error:
                self._log.info("spending_waits", reason=error.detail)
            await asyncio.sleep(LOOK_SECONDS)

    async def look_once(self) -> int:
        """How many workloads it looked at."""
        after, seen = "", 0
        while True:
            async with self._db.reading() as tx:
                limited = or_(w.c.spec["charge_by"].astext == ChargeBy.TIME, w.c.spec[_LENGTH].astext.is_not(None))
                query = select(w.c.id, w.c.project, w.c.status).where(
                    w.c.booked.is_(False), w.c.attempts > 0, w.c.id > after, limited
                )
                there = list(await tx.execute(query.order_by(w.c.id).limit(A_PASS)))
            now = self._clock.now()
            due = [row for row in there if row.status == WorkloadStatus.ENDED or self._next.get(row.id, now) <= now]
            for row in due:
                seconds = await self._look_safely(ProjectId(row.project), WorkloadId(row.id))
                if row.status == WorkloadStatus.ENDED:
                    self._next.pop(row.id, None)
                else:
                    self._next[row.id] = now + timedelta(seconds=seconds)
            seen += len(due)
            if len(there) < A_PASS:
                return seen
            after = there[-1].id

    async def _look_safely(self, project: ProjectId, id: WorkloadId) -> float:
        """What is wrong with one workload keeps none of the others from being looked at."""
        try:
            async with self._db.transaction() as tx:
                return await self._look(tx, project, id)
        except Unavailable:
            raise
        except Exception:
            self._log.exception("spending_not_looked_at", workload=id)
            return _SELDOM_SECONDS

    async def _look(self, tx: Tx, project: ProjectId, id: WorkloadId) -> float:
        """In how many seconds to look again."""
        workload = await self._store.find(tx, project, id, lock=True)
        if workload is None:
            return _SELDOM_SECONDS
        standing = await self._book(tx, workload) if workload.spec.charge_by is ChargeBy.TIME else None
        if workload.status is WorkloadStatus.ENDED:
            await self._store.update(tx, project, id, {"booked": True})
        attempt = workload.open_attempt
        if attempt is None or workload.desired is not Desired.RUN:
            return LOOK_SECONDS
        if attempt.ready_at is None:
            return LOOK_SECONDS
        limits = [*_of_money(workload, standing), *_of_time(workload, attempt, self._clock.now())]
        for limit in limits:
            # The first of several that were reached at once decides; stopping it again changes nothing.
            await self._keep_to(tx, workload, limit)
        nearest = min((limit.seconds for limit in limits), default=_SELDOM_SECONDS)
        return min(max(LOOK_SECONDS, nearest / 4), _SELDOM_SECONDS)

    async def _keep_to(self, tx: Tx, workload: Workload, limit: Limit) -> None:
        if limit.near:
            ends = self._clock.now() + timedelta(seconds=min(limit.seconds, _FAR_SECONDS))
            data = {"limit": limit.name, "stops_at": rfc3339(ends), **limit.data}
            if await self._compute.warn_once(tx, workload, limit.name, "workload.limit_near", data):
                return  # whoever was only now warned is stopped at a later look
        if limit.reached and limit.reason is not StopReason.MAX_DURATION:
            await self._changes.record(tx, workload, "workload.limit_reached", {"limit": limit.name, **limit.data})
            await self._compute.stop_workload(tx, workload.project, workload.id, limit.reason)
        elif limit.reached and not workload.spec.accelerators:
            # What holds accelerators is told by admission, which has given them for a time (`Evictions`).
            await self._compute.stop_workload(tx, workload.project, workload.id, limit.reason)

    async def _book(self, tx: Tx, workload: Workload) -> Standing:
        now = self._clock.now()
        mine = and_(a.c.project == workload.project, a.c.workload_id == workload.id, a.c.ready_at.is_not(None))
        attempts = [attempt_of(row) for row in await tx.execute(select(a).where(mine).order_by(a.c.id))]
        exclusions = await self._metered.exclusions(tx, attempts)
        runs = [run for one in attempts for run in runs_of(workload, one, exclusions[one.id], now)]
        up = workload.open_attempt
        rate = []
        if up is not None:
            held = up.accelerators if up.ready_at is not None else 0
            rate = [Run(Meter.ACCELERATOR_SECONDS, dims_of(workload, up), now, now + _SECOND, lambda *_: held)]
        return await self._money.book(tx, workload.project, workload.id, runs, rate, AHEAD)


def runs_of(workload: Workload, attempt: Attempt, exclusions: Sequence[Exclusion], now: datetime) -> list[Run]:
    """What an attempt used so far, less what is not charged."""
    assert attempt.ready_at is not None
    end = attempt.ended_at or now
    dims = dims_of(workload, attempt)

    def seconds(t0: datetime, t1: datetime) -> int:
        off = (accelerator_seconds(attempt, max(t0, one.start), min(t1, one.end)) for one in exclusions)
        return accelerator_seconds(attempt, t0, t1) - sum(one for one in off if one > 0)

    runs = [Run(Meter.ACCELERATOR_SECONDS, dims, attempt.ready_at, end, seconds)]
    if attempt.egress_bytes:
        # Booked as a whole at its last moment.
        last = end - timedelta(microseconds=1)
        runs.append(Run(Meter.EGRESS_BYTES, dims, last, end, lambda *_: attempt.egress_bytes))
    return runs


def _of_money(workload: Workload, standing: Standing | None) -> list[Limit]:
    if standing is None or not standing.per_second:
        return []
    found = []
    if standing.short is not None:
        short = standing.short
        share = 1 - short.left / short.limit if short.limit else Decimal(1)
        words = {"left": plain(short.left), "currency": standing.currency, "budget": short.account}
        found.append(Limit(f"{short.kind.value}:{short.account}", short.seconds, share, StopReason.BUDGET, words))
    if workload.spec.max_cost is not None:
        most = Decimal(workload.spec.max_cost)
        left = most - standing.cost
        words = {"max_cost": workload.spec.max_cost, "cost": plain(standing.cost), "currency": standing.currency}
        seconds = max(0.0, float(left / standing.per_second))
        found.append(Limit("max_cost", seconds, standing.cost / most, StopReason.BUDGET, words))
    return found


def _of_time(workload: Workload, attempt: Attempt, now: datetime) -> list[Limit]:
    length = workload.spec.max_duration_seconds
    if length is None:
        return []
    passed = (now - attempt.created_at).total_seconds()
    left = max(0.0, length - passed - workload.spec.grace_seconds)
    share = Decimal(passed) / Decimal(length) if left else Decimal(1)
    data = {"max_duration_seconds": length}
    return [Limit("max_duration", left, min(share, Decimal(1)), StopReason.MAX_DURATION, data)]
