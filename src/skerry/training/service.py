"""What people do about training jobs: run, look at, pause, resume, cancel. What becomes of them is in `reconciler`."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Protocol

from skerry.compute.model import Attempt, StopReason, Workload, WorkloadSpec, WorkloadStatus
from skerry.db.database import Database, Tx
from skerry.db.notify import WORK, notify
from skerry.identity.model import Principal
from skerry.kernel.clock import Clock
from skerry.kernel.ids import AttemptId, IdFactory, ProjectId, TrainingJobId, WorkloadId, new_id
from skerry.kernel.paging import MAX_LIMIT, Page, PageRequest
from skerry.runtime.events import EventLog
from skerry.runtime.outbox import Message
from skerry.runtime.state import transition
from skerry.training import deriving
from skerry.training.asking import Asked, Asking
from skerry.training.errors import NotNow, UnknownJob
from skerry.training.excluding import Excluding
from skerry.training.making import workload_spec
from skerry.training.measured import DAYS, Measured
from skerry.training.model import (
    TRANSITIONS,
    Estimate,
    Goodput,
    Job,
    JobStatus,
    JobView,
    NewJob,
    Point,
    ReasonCode,
    Series,
    Told,
    Verb,
    Wish,
    because,
)
from skerry.training.pricing import Pricing, Run
from skerry.training.store import JOBS, JobStore, JobWork

KIND: Final = "training_job"
"""Kind of the resource, and payload of the hint to the reconciler."""
_SECRET_BYTES: Final = 32
_FORGOTTEN_AT_ONCE: Final = 100


class Workloads(Protocol):
    """What is needed of compute."""

    async def create_workload(self, tx: Tx, project: ProjectId, spec: WorkloadSpec) -> Workload: ...

    async def stop_workload(self, tx: Tx, project: ProjectId, id: WorkloadId, reason: StopReason) -> Workload: ...

    async def start_workload(self, tx: Tx, project: ProjectId, id: WorkloadId) -> Workload: ...

    async def get(self, tx: Tx, project: ProjectId, id: WorkloadId) -> Workload: ...

    async def attempts(self, tx: Tx, project: ProjectId, id: WorkloadId, page: PageRequest) -> Page[Attempt]: ...


class Isolation(Protocol):
    """What is needed of compute, to know that a project's code may run at all."""

    async def require(self, tx: Tx, project: ProjectId) -> None:
        """Raises IsolationUnavailable."""
        ...


class Auditor(Protocol):
    async def audit(
        self, tx: Tx, principal: Principal | None, action: str, resource: str, *, detail: dict[str, Any] | None = None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class JobFilter:
    """None, or empty: any."""

    statuses: tuple[JobStatus, ...] = ()
    name: str | None = None


class Jobs:
    def __init__(
        self,
        db: Database,
        clock: Clock,
        events: EventLog,
        compute: Workloads,
        asking: Asking,
        pricing: Pricing,
        isolation: Isolation,
        auditor: Auditor,
        excluding: Excluding,
        *,
        ids: IdFactory = new_id,
    ) -> None:
        self.db = db
        self.clock = clock
        self.events = events
        self.compute = compute
        self.asking = asking
        self.pricing = pricing
        self.isolation = isolation
        self.auditor = auditor
        self.excluding = excluding
        self.new_id = ids
        self.store = JobStore()
        self.measured = Measured()
        self._work = JobWork()

    # --- made and changed

    async def estimate(self, principal: Principal, new: NewJob) -> Estimate:
        """What it would cost. Raises what `create` raises, but for what cannot be paid."""
        asked = await self._asked(principal, new)
        return await self.pricing.estimate(principal.project_id, asked.job, asked.sku)

    async def create(self, principal: Principal, new: NewJob) -> JobView:
        """Queued at once. Raises BadJob, UnknownReservation, UnknownFile, IsolationUnavailable, CannotPay."""
        asked = await self._asked(principal, new)
        estimate = await self.pricing.estimate(principal.project_id, asked.job, asked.sku)
        await self.pricing.require_payable(principal, estimate)
        id = TrainingJobId(self.new_id("trn"))
        spec = workload_spec(id, asked.job, asked.source, secrets.token_hex(_SECRET_BYTES))
        now = self.clock.now()
        async with self.db.transaction() as tx:
            workload = await self.compute.create_workload(tx, principal.project_id, spec)
            job = Job(
                id=id,
                project=principal.project_id,
                key=principal.key_id,
                spec=asked.job,
                status=JobStatus.QUEUED,
                reason=because(ReasonCode.NEW),
                wish=Wish.RUN,
                workload=workload.id,
                created_at=now,
                updated_at=now,
            )
            await self.store.insert(tx, job, now)
            await self.record(tx, job, f"{KIND}.created", _described(job))
            await self.auditor.audit(tx, principal, "training_job.create", id, detail=_described(job))
            await notify(tx, WORK, KIND)
            return (await self._views(tx, job.project, [job]))[0]

    async def cancel(self, principal: Principal, id: str) -> JobView:
        """End it for good; its checkpoints stay. Raises UnknownJob, NotNow."""
        return await self._want(principal, id, Verb.CANCEL, Wish.CANCEL)

    async def pause(self, principal: Principal, id: str) -> JobView:
        """Have it write a checkpoint and stop. Raises UnknownJob, NotNow."""
        return await self._want(principal, id, Verb.PAUSE, Wish.PAUSE)

    async def resume(self, principal: Principal, id: str) -> JobView:
        """Queue it again; it goes on from its newest complete checkpoint. Raises UnknownJob, NotNow."""
        async with self.db.transaction() as tx:
            job = await self._locked(tx, principal, id, Verb.RESUME)
            await self.isolation.require(tx, job.project)
            await self.compute.start_workload(tx, job.project, job.workload)
            await self._queue_again(tx, job)
            return await self._wished(tx, principal, job, Verb.RESUME, Wish.RUN)

    # --- looked at

    async def get(self, principal: Principal, id: str) -> JobView:
        """Raises UnknownJob."""
        async with self.db.reading() as tx:
            job = await self._require(tx, principal.project_id, id)
            return (await self._views(tx, job.project, [job]))[0]

    async def list(self, principal: Principal, wanted: JobFilter, page: PageRequest) -> Page[JobView]:
        """Newest first."""
        async with self.db.reading() as tx:
            found = await self.store.page(tx, principal.project_id, wanted.statuses, wanted.name, page)
            views = await self._views(tx, principal.project_id, found.data)
        return Page(tuple(views), found.next_cursor)

    async def goodput(self, principal: Principal, id: str) -> Goodput:
        """Raises UnknownJob."""
        async with self.db.reading() as tx:
            job = await self._require(tx, principal.project_id, id)
            attempts = await self.attempts(tx, job)
            told = await self.store.told(tx, job.project, [job.id])
        return deriving.goodput(job, attempts, told, self.clock.now())

    async def series(self, principal: Principal, id: str) -> Sequence[Series]:
        """Raises UnknownJob."""
        async with self.db.reading() as tx:
            job = await self._require(tx, principal.project_id, id)
            return await self.measured.series(tx, job.project, job.id)

    async def points(self, principal: Principal, id: str, names: Sequence[str], page: PageRequest) -> Page[Point]:
        """By step. Raises UnknownJob."""
        async with self.db.reading() as tx:
            job = await self._require(tx, principal.project_id, id)
            return await self.measured.points(tx, job.project, job.id, names, page)

    async def found(self, principal: Principal, id: str) -> Job:
        """Raises UnknownJob."""
        async with self.db.reading() as tx:
            return await self._require(tx, principal.project_id, id)

    # --- for others

    async def workload_changed(self, message: Message) -> None:
        """Handler of the outbox topic `workload`: look at the job it belongs to."""
        resource = str(message.payload["resource"])
        if not resource.startswith("trn_"):
            return
        async with self.db.transaction() as tx:
            project = ProjectId(message.payload["project"])
            await self.store.hint(tx, project, TrainingJobId(resource), self.clock.now())
            await notify(tx, WORK, KIND)

    async def keep_house(self, tx: Tx) -> int:
        """Drop the metrics of jobs that ended long ago; of how many."""
        before = self.clock.now() - timedelta(days=DAYS)
        gone = await self._work.ended_before(tx, before, _FORGOTTEN_AT_ONCE)
        if gone:
            await self.measured.forget(tx, gone)
        return len(gone)

    async def attempts(self, tx: Tx, job: Job) -> Sequence[Attempt]:
        """All of them, in the order in which they ran."""
        found: list[Attempt] = []
        page = PageRequest(MAX_LIMIT)
        while True:
            more = await self.compute.attempts(tx, job.project, job.workload, page)
            found.extend(more.data)
            if more.next_cursor is None:
                return found
            page = PageRequest.parse(MAX_LIMIT, more.next_cursor)

    async def record(self, tx: Tx, job: Job, type: str, data: dict[str, Any]) -> None:
        await self.events.record(tx, project=job.project, resource=job.id, resource_kind=KIND, type=type, data=data)

    # --- inside

    async def _asked(self, principal: Principal, new: NewJob) -> Asked:
        asked = await self.asking.complete(principal, new)
        async with self.db.reading() as tx:
            await self.isolation.require(tx, principal.project_id)
        return asked

    async def _want(self, principal: Principal, id: str, verb: Verb, wish: Wish) -> JobView:
        async with self.db.transaction() as tx:
            job = await self._locked(tx, principal, id, verb)
            workload = await self.compute.get(tx, job.project, job.workload)
            if workload.status is not WorkloadStatus.ENDED:
                await self.compute.stop_workload(tx, job.project, job.workload, StopReason.BY_CUSTOMER)
            return await self._wished(tx, principal, job, verb, wish)

    async def _wished(self, tx: Tx, principal: Principal, job: Job, verb: Verb, wish: Wish) -> JobView:
        now = self.clock.now()
        await self.store.update(tx, job, {"wish": wish.value, "updated_at": now})
        await self.store.hint(tx, job.project, job.id, now)
        await self.record(tx, job, f"{KIND}.{verb.value}_requested", {})
        await self.auditor.audit(tx, principal, f"training_job.{verb.value}", job.id)
        await notify(tx, WORK, KIND)
        return (await self._views(tx, job.project, [await self._require(tx, job.project, job.id)]))[0]

    async def _queue_again(self, tx: Tx, job: Job) -> None:
        moved = await transition(
            tx,
            self.events,
            TRANSITIONS,
            JOBS,
            id=job.id,
            project=job.project,
            before=job.status,
            after=JobStatus.QUEUED,
            reason=because(ReasonCode.NEW),
            values={"ended_at": None, "exit_code": None},
            kind=KIND,
        )
        assert moved, "the row is locked"

    async def _locked(self, tx: Tx, principal: Principal, id: str, verb: Verb) -> Job:
        """Raises UnknownJob; NotNow where the verb is not available."""
        job = await self._require(tx, principal.project_id, id, lock=True)
        if (why := deriving.why_not(job, verb)) is not None:
            raise NotNow(f"{job.name} cannot be {_DONE[verb]}: {why}", suggestion="GET it to see what it does.")
        return job

    async def _require(self, tx: Tx, project: ProjectId, id: str, *, lock: bool = False) -> Job:
        job = await self.store.find(tx, project, id, lock=lock)
        if job is None:
            words = f"there is no training job {id[:64]}"
            raise UnknownJob(words, suggestion="GET /api/v1/training/jobs lists them.")
        return job

    async def _views(self, tx: Tx, project: ProjectId, jobs: Sequence[Job]) -> Sequence[JobView]:
        told = await self.store.told(tx, project, [job.id for job in jobs])
        runs = [await self._runs(tx, job, told) for job in jobs]
        workloads = [await self.compute.get(tx, project, job.workload) for job in jobs]
        costs = await self.pricing.costs(tx, project, list(zip(workloads, runs, strict=True)))
        views = []
        for job, workload, own, cost in zip(jobs, workloads, runs, costs, strict=True):
            newest = told.get(workload.attempt.id) if workload.attempt is not None else None
            excluded = sum(run.excluded for run in own)
            views.append(JobView(_as_of(job, workload), workload, newest, cost, excluded, workload.estimated_start))
        return views

    async def _runs(self, tx: Tx, job: Job, told: Mapping[AttemptId, Told]) -> Sequence[Run]:
        return [
            Run(attempt, told[attempt.id].excluded if attempt.id in told else 0)
            for attempt in await self.attempts(tx, job)
        ]


_DONE: Final = {Verb.CANCEL: "cancelled", Verb.PAUSE: "paused", Verb.RESUME: "resumed"}


def _as_of(job: Job, workload: Workload) -> Job:
    """While it is queued, why is what its workload says at this moment."""
    if job.status is not JobStatus.QUEUED or job.wish is not Wish.RUN or workload.status is WorkloadStatus.ENDED:
        return job
    seen = deriving.outlook(job, workload, None)
    return replace(job, reason=seen.reason) if seen.status is JobStatus.QUEUED else job


def _described(job: Job) -> dict[str, Any]:
    spec = job.spec
    return {
        "name": spec.name,
        "nodes": spec.nodes,
        "accelerators": spec.accelerators,
        "sku": spec.sku,
        "capacity_class": spec.capacity_class.value if spec.capacity_class is not None else None,
        "reservation_id": spec.reservation_id,
        "workload_id": job.workload,
    }
