"""Brings each job to where its workload is, and its workload to where the job's end wants it.

It looks at rows alone, so a step has nothing to do outside a transaction: all of it is in `apply`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from skerry.compute.model import Attempt, Outcome, StopReason
from skerry.db.database import Tx
from skerry.kernel.ids import AttemptId
from skerry.runtime.reconciler import back_off_seconds
from skerry.runtime.state import transition
from skerry.training import deriving
from skerry.training.deriving import Outlook
from skerry.training.excluding import NODE_LOST
from skerry.training.model import ENDED, TRANSITIONS, Job, JobStatus, Told
from skerry.training.service import KIND, Jobs
from skerry.training.store import JOBS, Claimed, JobWork

LEASE_SECONDS: Final = 15.0
_UNASKED_SECONDS: Final = 60.0
"""Between looks that nothing asked for: its workload's changes and its supervisor's reports bring a look at once."""


class JobReconciler:
    kind = KIND

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.db = jobs.db
        self.clock = jobs.clock
        self.store = jobs.store
        self.work = JobWork()

    async def claim(self, limit: int) -> Sequence[Claimed]:
        async with self.db.transaction() as tx:
            return await self.work.claim(tx, self.clock.now(), limit, LEASE_SECONDS)

    async def step(self, row: Claimed) -> None:
        return None

    async def apply(self, row: Claimed, change: None) -> bool:
        async with self.db.transaction() as tx:
            current = await self.work.lock(tx, row)
            if current is None:
                return False
            job, now = current.job, self.clock.now()
            settled = await self._bring(tx, job)
            hinted = current.hints != row.hints
            due = now if hinted else None if settled else now + timedelta(seconds=_UNASKED_SECONDS)
            await self.work.release(tx, row, due)
        return hinted

    async def failed(self, row: Claimed, error: Exception) -> None:
        failures = row.failures + 1
        due = self.clock.now() + timedelta(seconds=back_off_seconds(failures, 60.0))
        async with self.db.transaction() as tx:
            await self.work.release(tx, row, due, failures)

    async def _bring(self, tx: Tx, job: Job) -> bool:
        """Whether nothing more will happen to it by itself."""
        if job.status in ENDED:
            return True
        workload = await self.jobs.compute.get(tx, job.project, job.workload)
        told = await self.store.told(tx, job.project, [job.id])
        newest = told.get(workload.attempt.id) if workload.attempt is not None else None
        seen = deriving.outlook(job, workload, newest)
        attempts = await self.jobs.attempts(tx, job)
        await self._excuse(tx, job, attempts, told)
        count, last = deriving.restarts(attempts, told)
        if (count, last) != (job.restarts, job.last_restart):
            restart = last.to_json() if last is not None else None
            await self.store.update(tx, job, {"restarts": count, "last_restart": restart})
        await self._move(tx, job, seen)
        if seen.stop_workload:
            await self.jobs.compute.stop_workload(tx, job.project, job.workload, StopReason.BY_OWNER)
        if seen.start_again:
            await self.jobs.compute.start_workload(tx, job.project, job.workload)
        return seen.status in ENDED or seen.status is JobStatus.PAUSED

    async def _excuse(self, tx: Tx, job: Job, attempts: Sequence[Attempt], told: dict[AttemptId, Told]) -> None:
        """What lost nodes took with them is not charged."""
        for attempt in attempts:
            said = told.get(attempt.id)
            taken = await self.jobs.excluding.lost(tx, attempt, said) if attempt.outcome is Outcome.LOST else 0
            if taken:
                now = self.clock.now()
                said = said or Told(attempt.id, job.id, job.project, now)
                told[attempt.id] = replace(said, excluded=said.excluded + taken)
                await self.store.put_told(tx, told[attempt.id])
                data = {"cause": NODE_LOST, "attempt": attempt.n, "node": attempt.died_on, "step": said.step}
                data |= {"resumed_step": said.checkpoint_step or 0, "not_charged": taken}
                await self.jobs.record(tx, job, f"{KIND}.restarted", data)

    async def _move(self, tx: Tx, job: Job, seen: Outlook) -> None:
        before = job.status
        for after in deriving.path(job.status, seen.status):
            values: dict[str, Any] = {}
            if after is JobStatus.RUNNING and job.started_at is None:
                values["started_at"] = self.clock.now()
            if after is seen.status and (after in ENDED or after is JobStatus.PAUSED):
                values |= {"ended_at": seen.ended_at, "exit_code": seen.exit_code}
            moved = await transition(
                tx,
                self.jobs.events,
                TRANSITIONS,
                JOBS,
                id=job.id,
                project=job.project,
                before=before,
                after=after,
                reason=seen.reason,
                values=values,
                kind=KIND,
            )
            assert moved, "the row is locked, its status is what was read"
            before = after
        if job.status is seen.status and job.reason != seen.reason:
            await self.store.update(tx, job, {"status_reason": seen.reason.to_json(), "updated_at": self.clock.now()})
            if job.reason.code != seen.reason.code:
                await self.jobs.record(tx, job, f"{KIND}.reason", {"reason": seen.reason.to_json()})
