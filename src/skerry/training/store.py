"""SQL of training jobs. Methods take the project; `JobWork` leases across projects."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Row, Table, and_, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from skerry.db.claim import claim_rows, guarded_update
from skerry.db.database import Tx
from skerry.kernel.ids import AttemptId, KeyId, ProjectId, TrainingJobId, WorkloadId
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.state import Reason
from skerry.training.model import Ending, Job, JobStatus, NewJob, Restart, Told, Wish
from skerry.training.tables import attempts as a
from skerry.training.tables import jobs as j

JOBS: Final[Table] = j
"""For `runtime.state.transition`."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job under lease. `hints` is the count of hints when it was claimed."""

    job: Job
    lease_token: str
    hints: int
    failures: int


class JobStore:
    """Jobs of one project, and what their supervisors said last."""

    async def insert(self, tx: Tx, job: Job, due_at: datetime) -> None:
        await tx.execute(
            insert(j).values(
                id=job.id,
                project=job.project,
                key=job.key,
                name=job.name,
                # The values of variables may be secrets: those are with the workload, encrypted.
                spec=msgspec.to_builtins(replace(job.spec, env=dict.fromkeys(job.spec.env, ""))),
                status=job.status.value,
                status_reason=job.reason.to_json(),
                wish=job.wish.value,
                workload_id=job.workload,
                due_at=due_at,
                created_at=job.created_at,
                updated_at=job.updated_at,
            )
        )

    async def find(self, tx: Tx, project: ProjectId, id: str, *, lock: bool = False) -> Job | None:
        query = select(j).where(j.c.project == project, j.c.id == id)
        row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
        return job_of(row) if row is not None else None

    async def of_workload(self, tx: Tx, project: ProjectId, workload: WorkloadId) -> Job | None:
        """Locked, so that reports of one job come one after the other."""
        query = select(j).where(j.c.project == project, j.c.workload_id == workload).with_for_update()
        row = (await tx.execute(query)).one_or_none()
        return job_of(row) if row is not None else None

    async def page(
        self, tx: Tx, project: ProjectId, statuses: Sequence[JobStatus], name: str | None, request: PageRequest
    ) -> Page[Job]:
        """Newest first. `statuses` empty: any."""
        query = select(j).where(j.c.project == project)
        if statuses:
            query = query.where(j.c.status.in_([status.value for status in statuses]))
        if name is not None:
            query = query.where(j.c.name == name)
        if request.after is not None:
            query = query.where(j.c.id < request.after[0])
        rows = (await tx.execute(query.order_by(j.c.id.desc()).limit(request.limit + 1))).all()
        return Page.cut([job_of(row) for row in rows], request, lambda job: (job.id,))

    async def update(self, tx: Tx, job: Job, values: Mapping[str, Any]) -> None:
        await tx.execute(update(j).where(j.c.project == job.project, j.c.id == job.id).values(**values))

    async def hint(self, tx: Tx, project: ProjectId, id: TrainingJobId, now: datetime) -> None:
        """Have it looked at now."""
        values = {"due_at": now, "hints": j.c.hints + 1}
        await tx.execute(update(j).where(j.c.project == project, j.c.id == id).values(**values))

    async def told(self, tx: Tx, project: ProjectId, jobs: Sequence[TrainingJobId]) -> dict[AttemptId, Told]:
        """What the supervisors of these jobs' attempts said last."""
        rows = await tx.execute(select(a).where(a.c.project == project, a.c.job.in_(list(jobs))))
        return {AttemptId(row.attempt): _told(row) for row in rows}

    async def put_told(self, tx: Tx, told: Told) -> None:
        values = {
            "seq": told.seq,
            "generation": told.generation,
            "phase": told.phase,
            "step": told.step,
            "checkpoint_step": told.checkpoint_step,
            "checkpoint_at": told.checkpoint_at,
            "restarts": told.restarts,
            "last_restart": told.last_restart.to_json() if told.last_restart is not None else None,
            "productive_ms": told.productive_ms,
            "losses_ms": dict(told.losses_ms),
            "stragglers": [dict(one) for one in told.stragglers],
            "ending": asdict(told.ending) if told.ending is not None else None,
            "excluded": told.excluded,
            "reported_at": told.reported_at,
        }
        row = upsert(a).values(attempt=told.attempt, job=told.job, project=told.project, **values)
        await tx.execute(row.on_conflict_do_update(index_elements=[a.c.attempt], set_=values))


class JobWork:
    """Leases of the reconciler, across projects."""

    async def claim(self, tx: Tx, now: datetime, limit: int, lease_seconds: float) -> list[Claimed]:
        rows = await claim_rows(
            tx,
            j,
            where=and_(j.c.due_at.is_not(None), j.c.due_at <= now),
            order_by=[j.c.due_at, j.c.id],
            limit=limit,
            lease_seconds=lease_seconds,
            now=now,
        )
        return [_claimed(row) for row in rows]

    async def lock(self, tx: Tx, claimed: Claimed) -> Claimed | None:
        """The row as it is now, locked; None where the lease was lost."""
        held = and_(j.c.id == claimed.job.id, j.c.lease_token == claimed.lease_token)
        row = (await tx.execute(select(j).where(held).with_for_update())).one_or_none()
        return _claimed(row) if row is not None else None

    async def release(self, tx: Tx, claimed: Claimed, due_at: datetime | None, failures: int = 0) -> bool:
        values = {"due_at": due_at, "failures": failures}
        return await guarded_update(tx, j, claimed.job.id, claimed.lease_token, values)

    async def ended_before(self, tx: Tx, moment: datetime, limit: int) -> list[TrainingJobId]:
        """Jobs that have been over since before then, and still have a series."""
        over = or_(*(j.c.status == status.value for status in (JobStatus.SUCCEEDED, JobStatus.CANCELLED)))
        query = select(j.c.id).where(over, j.c.ended_at < moment).order_by(j.c.ended_at).limit(limit)
        return [TrainingJobId(row.id) for row in await tx.execute(query)]

    async def count_open(self, tx: Tx, project: ProjectId) -> int:
        open_ = j.c.status.in_([JobStatus.QUEUED.value, JobStatus.RUNNING.value])
        query = select(func.count()).select_from(j).where(j.c.project == project, open_)
        return int((await tx.execute(query)).scalar_one())


def _claimed(row: Row[Any]) -> Claimed:
    return Claimed(job_of(row), row.lease_token, row.hints, row.failures)


def job_of(row: Row[Any]) -> Job:
    return Job(
        id=TrainingJobId(row.id),
        project=ProjectId(row.project),
        key=KeyId(row.key),
        spec=msgspec.convert(row.spec, NewJob),
        status=JobStatus(row.status),
        reason=Reason(row.status_reason["code"], row.status_reason["message"]),
        wish=Wish(row.wish),
        workload=WorkloadId(row.workload_id),
        created_at=row.created_at,
        updated_at=row.updated_at,
        restarts=row.restarts,
        last_restart=Restart.of_json(row.last_restart),
        started_at=row.started_at,
        ended_at=row.ended_at,
        exit_code=row.exit_code,
    )


def _told(row: Row[Any]) -> Told:
    return Told(
        attempt=AttemptId(row.attempt),
        job=TrainingJobId(row.job),
        project=ProjectId(row.project),
        reported_at=row.reported_at,
        seq=row.seq,
        generation=row.generation,
        phase=row.phase,
        step=row.step,
        checkpoint_step=row.checkpoint_step,
        checkpoint_at=row.checkpoint_at,
        restarts=row.restarts,
        last_restart=Restart.of_json(row.last_restart),
        productive_ms=row.productive_ms,
        losses_ms=row.losses_ms,
        stragglers=tuple(row.stragglers),
        ending=Ending(**row.ending) if row.ending is not None else None,
        excluded=row.excluded,
    )
