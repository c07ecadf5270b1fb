"""What of a workload is charged, and what is not: facts as attempts run, and corrections for time that was lost."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy import func, insert, select

from skerry.compute.model import Attempt, Exclusion, ExclusionReason, Workload, WorkloadStatus
from skerry.compute.queueing import since
from skerry.compute.rules import usage as rules
from skerry.compute.tables import attempt_exclusions as x
from skerry.compute.tables import attempts as a
from skerry.db.database import Tx
from skerry.kernel.clock import Clock
from skerry.kernel.ids import AttemptId, ProjectId, WorkloadId
from skerry.metering.model import UsageFact
from skerry.metering.service import Metering

_OUR_FAULT: Final = "attempt"


@dataclass(frozen=True, slots=True)
class Excluded:
    """Time that is not charged, by why not. Accelerators may have been held meanwhile."""

    reason: ExclusionReason
    seconds: int
    accelerator_seconds: int


@dataclass(frozen=True, slots=True)
class Used:
    """Of all attempts so far. `charged`: what is metered less what is taken off again; which meter carries the money is
    the workload's `charge_by`."""

    accelerator_seconds: int
    egress_bytes: int
    excluded: tuple[Excluded, ...]


class Metered:
    """Works in the caller's transaction, which has locked the workload."""

    def __init__(self, clock: Clock, metering: Metering) -> None:
        self._clock = clock
        self._metering = metering
        self._log = structlog.get_logger("skerry.compute")

    async def close(self, tx: Tx, workload: Workload, attempt: Attempt, through: datetime) -> dict[str, Any]:
        """Facts up to `through`, a full hour or the attempt's end; what its row is to say afterwards."""
        known = await self._of(tx, attempt.id)
        if attempt.ended_at is not None and rules.lost_with(workload, attempt) and attempt.ready_at is not None:
            own = await self._write(
                tx, attempt, _OUR_FAULT, ExclusionReason.OUR_FAULT, attempt.ready_at, attempt.ended_at, known
            )
            already = attempt.metered_through or attempt.ready_at
            late = [
                fact for one in own for fact in rules.corrections(workload, attempt, one, attempt.ready_at, already)
            ]
            await self._take_in(tx, late)
            known = [*known, *own]
        await self._take_in(tx, rules.closed_facts(workload, attempt, through, known))
        return {"metered_through": through, "egress_metered": attempt.egress_bytes}

    async def exclude(
        self, tx: Tx, workload: Workload, attempt: Attempt, key: str, start: datetime, end: datetime
    ) -> int:
        """Take a stretch of an attempt off what is charged, once for each `key`; what was taken off before is not
        taken off again. The accelerator-seconds that this takes off."""
        known = await self._of(tx, attempt.id)
        if attempt.ready_at is None or any(one.key.partition("/")[0] == key for one in known):
            return 0
        start, end = max(start, attempt.ready_at), min(end, attempt.ended_at or self._clock.now())
        own = await self._write(tx, attempt, key, ExclusionReason.OUR_FAULT, start, end, known)
        through = attempt.metered_through or attempt.ready_at
        await self._take_in(
            tx,
            [fact for one in own for fact in rules.corrections(workload, attempt, one, attempt.ready_at, through)],
        )
        return sum(rules.accelerator_seconds(attempt, one.start, one.end) for one in own)

    async def used(self, tx: Tx, workload: Workload) -> Used:
        """By the attempts themselves, so it is as fresh as they are: facts of the present hour are yet to come."""
        now = self._clock.now()
        rows = (await tx.execute(_SUMS.where(a.c.project == workload.project, a.c.workload_id == workload.id))).one()
        ran, held, starting, waited = int(rows.ran), int(rows.held), int(rows.starting), int(rows.waited)
        open_attempt = workload.open_attempt
        if open_attempt is not None:
            up = open_attempt.ready_at is not None
            ran += rules.accelerator_seconds(open_attempt, open_attempt.created_at, now)
            begun = open_attempt.ready_at if up and open_attempt.ready_at is not None else now
            length = max(0, int((begun - open_attempt.created_at).total_seconds()))
            starting, held = starting + length, held + length * open_attempt.accelerators
        elif workload.status is WorkloadStatus.PENDING:
            waited += max(0, int((now - waiting_since(workload)).total_seconds()))
        lost = [
            (int((one.end - one.start).total_seconds()), size)
            for one, size in await self._sizes(tx, workload.project, workload.id)
        ]
        off = sum(size for _, size in lost)
        excluded = (
            Excluded(ExclusionReason.QUEUEING, waited, 0),
            Excluded(ExclusionReason.START_UP, starting, held),
            Excluded(ExclusionReason.OUR_FAULT, sum(seconds for seconds, _ in lost), off),
        )
        return Used(ran - off, int(rows.egress), tuple(one for one in excluded if one.seconds))

    async def exclusions(self, tx: Tx, attempts: Sequence[Attempt]) -> dict[AttemptId, list[Exclusion]]:
        found: dict[AttemptId, list[Exclusion]] = {one.id: [] for one in attempts}
        for row in await tx.execute(select(x).where(x.c.attempt_id.in_(list(found)))):
            found[AttemptId(row.attempt_id)].append(_exclusion(row))
        return found

    async def _sizes(self, tx: Tx, project: ProjectId, workload: WorkloadId) -> list[tuple[Exclusion, int]]:
        query = select(x).join(a, a.c.id == x.c.attempt_id)
        rows = await tx.execute(query.where(x.c.project == project, a.c.workload_id == workload))
        return [(_exclusion(row), row.quantity) for row in rows]

    async def _of(self, tx: Tx, attempt: AttemptId) -> list[Exclusion]:
        return [_exclusion(row) for row in await tx.execute(select(x).where(x.c.attempt_id == attempt))]

    async def _write(
        self,
        tx: Tx,
        attempt: Attempt,
        key: str,
        reason: ExclusionReason,
        start: datetime,
        end: datetime,
        known: Sequence[Exclusion],
    ) -> list[Exclusion]:
        made = [Exclusion(f"{key}/{n}", reason, t0, t1) for n, (t0, t1) in enumerate(rules.beside(start, end, known))]
        for one in made:
            await tx.execute(
                insert(x).values(
                    attempt_id=attempt.id,
                    key=one.key,
                    project=attempt.project,
                    reason=one.reason,
                    start_at=one.start,
                    end_at=one.end,
                    quantity=rules.accelerator_seconds(attempt, one.start, one.end),
                )
            )
        return made

    async def _take_in(self, tx: Tx, facts: list[UsageFact]) -> None:
        if not facts:
            return
        result = await self._metering.intake(tx, facts)
        if result.rejected:
            self._log.error("attempt_usage_rejected", facts=[str(rejection.id) for rejection in result.rejected])


def waiting_since(workload: Workload) -> datetime:
    """Of a pending workload, or of one that is just placed: since when it has waited this time."""
    before = workload.attempt.ended_at if workload.attempt is not None else None
    return max(since(workload), before) if before is not None else since(workload)


def _exclusion(row: Any) -> Exclusion:
    return Exclusion(row.key, ExclusionReason(row.reason), row.start_at, row.end_at)


_ready: Final = func.coalesce(a.c.ready_at, a.c.ended_at)
_SUMS: Final = select(
    func.coalesce(func.sum(a.c.accelerators * func.floor(func.extract("epoch", a.c.ended_at - a.c.ready_at))), 0).label(
        "ran"
    ),
    func.coalesce(func.sum(func.floor(func.extract("epoch", _ready - a.c.created_at))), 0).label("starting"),
    func.coalesce(func.sum(a.c.accelerators * func.floor(func.extract("epoch", _ready - a.c.created_at))), 0).label(
        "held"
    ),
    func.coalesce(func.sum(a.c.waited_seconds), 0).label("waited"),
    func.coalesce(func.sum(a.c.egress_bytes), 0).label("egress"),
)
"""Of attempts that have ended, but for the last two: those have no end, which makes the other sums leave them out."""
