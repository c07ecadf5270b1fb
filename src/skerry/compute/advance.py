"""Writing down what a look at the engine brought: the second half of a reconciler's step, in its transaction."""

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from skerry.capacity.admission.model import Leaving
from skerry.capacity.admission.service import Admission
from skerry.compute.changes import KIND, Changes
from skerry.compute.engines.base import EndCause, GangState, GangStatus, RankEnd
from skerry.compute.metered import Metered
from skerry.compute.model import (
    Attempt,
    Desired,
    Outcome,
    ReasonCode,
    StatusReason,
    Workload,
    WorkloadKind,
    WorkloadStatus,
)
from skerry.compute.placing import Jurisdictions, KeepsApart, Placing, anywhere, goes_back
from skerry.compute.queueing import Queue
from skerry.compute.rules.restarts import Sequel, Verdict, judge, sequel, with_last_lines
from skerry.compute.rules.usage import Egress
from skerry.compute.steps import Away, Dropped, Finding, Next, Nodes, Refused, Seen
from skerry.compute.store import WorkloadStore
from skerry.db.database import Tx
from skerry.db.notify import WORK, notify
from skerry.fleet.service import Fleet
from skerry.kernel.clock import Clock, floor_hour
from skerry.kernel.ids import IdFactory, new_id
from skerry.metering.service import Metering

_AWAY_SECONDS: Final = 2.0
_STARTING_SECONDS: Final = 2.0
_STOPPING_SECONDS: Final = 1.0
_RUNNING_SECONDS: Final = 30.0
"""Between looks that nothing asked for: the engine's events bring a look at once."""


class Advance:
    """`chance` gives numbers in [0, 1): the jitter of back-offs."""

    def __init__(
        self,
        clock: Clock,
        changes: Changes,
        fleet: Fleet,
        metering: Metering,
        chance: random.Random,
        new_id: IdFactory = new_id,
        *,
        admission: Admission | None = None,
        jurisdictions: Jurisdictions = anywhere,
        isolation: KeepsApart | None = None,
    ) -> None:
        """`jurisdictions` of a project: where its workloads may run. `isolation`: on which engines what customers
        bring may run; None: on all."""
        self._clock = clock
        self._changes = changes
        self._metered = Metered(clock, metering)
        self._chance = chance
        self.admission = admission or Admission(clock, fleet, new_id)
        self.isolation = isolation
        self._placing = Placing(clock, changes, fleet, new_id, self.admission, jurisdictions, isolation)
        self._store = WorkloadStore()
        self._queue = Queue()

    async def write(self, tx: Tx, workload: Workload, finding: Finding) -> Next:
        """The workload is locked and as it is now; the finding was made a moment ago."""
        match finding:
            case Away(detail):
                await self._changes.explain(tx, workload, StatusReason.of(ReasonCode.ENGINE_UNAVAILABLE, detail))
                return Next(_AWAY_SECONDS)
            case Nodes() if workload.desired is Desired.RUN:
                return await self._placing.place(tx, workload, finding)
            case Nodes() | Dropped():
                return await self._drop(tx, workload)
            case Refused():
                return await self._refuse(tx, workload, finding)
            case Seen():
                return await self._see(tx, workload, finding)

    async def leaving(self, tx: Tx, workload: Workload) -> Leaving | None:
        """That its capacity is needed elsewhere, or that its reservation ends. Not that its own time is over: then it
        is stopped for good (`watching.Evictions`)."""
        if not workload.spec.accelerators or workload.open_attempt is None:
            return None
        grace = timedelta(seconds=workload.spec.grace_seconds)
        found = await self.admission.leaving(tx, grace, workload.id)
        return next((one for one in found if goes_back(one)), None)

    # Before an attempt

    async def _drop(self, tx: Tx, workload: Workload) -> Next:
        await self._end(tx, workload, _stopped(workload), Outcome.CANCELLED, self._clock.now())
        return Next(0, changed=True)

    async def _refuse(self, tx: Tx, workload: Workload, refused: Refused) -> Next:
        attempt = workload.open_attempt
        assert attempt is not None
        end = RankEnd(EndCause.NOT_STARTED, Outcome.FAILED, self._clock.now(), message=refused.message)
        if workload.desired is Desired.STOP:
            verdict = judge(workload, end)
            follows = Sequel(_stopped(workload), None, workload.restarts, 0)
        elif not refused.for_good:
            verdict = Verdict(Outcome.LOST, refused.message, counts=False)
            follows = Sequel(
                StatusReason.of(ReasonCode.NO_NODE, f"{refused.message}."), _AWAY_SECONDS, workload.restarts, 0
            )
        else:
            verdict = Verdict(Outcome.FAILED, refused.message)
            follows = Sequel(StatusReason.of(ReasonCode.REFUSED, f"{refused.message}."), None, workload.restarts, 0)
        await self._close(tx, workload, attempt, end, verdict, {})
        return await self._continue(tx, workload, verdict, follows, end.at)

    # During and after one

    async def _see(self, tx: Tx, workload: Workload, seen: Seen) -> Next:
        attempt, state = workload.open_attempt, seen.state
        assert attempt is not None
        values: dict[str, Any] = _facts_of(attempt, state)
        if seen.submitted:
            values |= {"submitted_at": self._clock.now(), "engine_ref": state.ref if state is not None else None}
        if state is None:
            gone = RankEnd(
                EndCause.UNOBSERVED, Outcome.LOST, self._clock.now(), message="the engine no longer knows it"
            )
            gone = replace(gone, at=attempt.seen_at or attempt.started_at or attempt.created_at)
            node = attempt.nodes[0] if len(attempt.nodes) == 1 else None
            return await self._finish(tx, workload, attempt, gone, b"", {**values, "died_on": node})
        if state.status is GangStatus.ENDED:
            assert state.end is not None, "what has ended has an end"
            node = next((rank.node for rank in state.ranks if rank.end == state.end), None)
            return await self._finish(tx, workload, attempt, state.end, seen.log, {**values, "died_on": node})
        return await self._go_on(tx, workload, attempt, state, values, cancelled=seen.cancelled)

    async def _go_on(
        self,
        tx: Tx,
        workload: Workload,
        attempt: Attempt,
        state: GangState,
        values: dict[str, Any],
        *,
        cancelled: bool,
    ) -> Next:
        if state.status is not GangStatus.PENDING:
            values["seen_at"] = max(self._clock.now(), attempt.seen_at or attempt.created_at)
        starting = workload.status is WorkloadStatus.STARTING
        up = starting and workload.desired is Desired.RUN and _is_up(workload, state)
        if up and workload.kind is WorkloadKind.JOB:
            values["ready_at"] = attempt.ready_at or values.get("started_at") or attempt.started_at
        await self._write_attempt(tx, workload, attempt, values)
        if workload.desired is Desired.STOP:
            return await self._stopping(tx, workload, cancelled=cancelled)
        if up:
            await self._changes.move(tx, workload, WorkloadStatus.RUNNING, StatusReason.of(ReasonCode.UP))
            return Next(_RUNNING_SECONDS, changed=True)
        if starting:
            waiting = state.status is GangStatus.PENDING
            code = ReasonCode.QUEUED if waiting else ReasonCode.WAITING_FOR_REPORT
            await self._changes.explain(tx, workload, StatusReason.of(code, f"{state.reason}." if state.reason else ""))
            return Next(_STARTING_SECONDS)
        await self._changes.explain(tx, workload, StatusReason.of(ReasonCode.UP))
        return Next(_RUNNING_SECONDS)

    async def _stopping(self, tx: Tx, workload: Workload, *, cancelled: bool) -> Next:
        if not cancelled:
            return Next(0, changed=True)  # the wish came during the look: the engine has yet to be told
        if workload.status is WorkloadStatus.STOPPING:
            await self._changes.explain(tx, workload, StatusReason.of(ReasonCode.STOP_REQUESTED))
        else:
            await self._changes.move(tx, workload, WorkloadStatus.STOPPING, StatusReason.of(ReasonCode.STOP_REQUESTED))
        return Next(_STOPPING_SECONDS)

    async def _write_attempt(self, tx: Tx, workload: Workload, attempt: Attempt, values: dict[str, Any]) -> None:
        """With facts for the hours that are over, now that it has been seen to run past their end."""
        now = replace(attempt, **values)
        if now.ready_at is not None and now.seen_at is not None:
            through = floor_hour(now.seen_at)
            if through > (now.metered_through or now.ready_at):
                values |= await self._metered.close(tx, workload, now, through)
        await self._store.update_attempt(tx, attempt.project, attempt.id, values)
        if "reports" in values:
            await self._changes.tell(tx, workload)

    async def _finish(
        self, tx: Tx, workload: Workload, attempt: Attempt, end: RankEnd, log: bytes, values: dict[str, Any]
    ) -> Next:
        verdict = judge(workload, end, preempted=await self.leaving(tx, workload) is not None)
        verdict = replace(verdict, message=with_last_lines(verdict.message, log))
        if verdict.outcome is not Outcome.LOST or not verdict.counts:
            values["died_on"] = None
        closed = await self._close(tx, workload, attempt, end, verdict, values)
        assert closed.ended_at is not None
        ready_for = closed.ended_at - closed.ready_at if closed.ready_at is not None else timedelta(0)
        follows = sequel(workload, verdict, ready_for, self._chance.random())
        return await self._continue(tx, workload, verdict, follows, closed.ended_at)

    async def _close(
        self, tx: Tx, workload: Workload, attempt: Attempt, end: RankEnd, verdict: Verdict, values: dict[str, Any]
    ) -> Attempt:
        """End the attempt's row and meter what is left of it. It ended no earlier than it was last seen."""
        started = values.get("started_at") or attempt.started_at
        if workload.kind is WorkloadKind.JOB and started is not None:
            values["ready_at"] = attempt.ready_at or started
        moments = [min(end.at, self._clock.now()), attempt.created_at, attempt.seen_at, started, attempt.ready_at]
        values |= {
            "ended_at": max(moment for moment in moments if moment is not None),
            "outcome": verdict.outcome,
            "exit_code": end.exit_code,
            "message": verdict.message,
        }
        closed = replace(attempt, **values)
        assert closed.ended_at is not None
        values |= await self._metered.close(tx, workload, closed, closed.ended_at)
        await self._store.update_attempt(tx, attempt.project, attempt.id, values)
        await self._placing.give_back(tx, workload)
        return closed

    async def _continue(
        self, tx: Tx, workload: Workload, verdict: Verdict, follows: Sequel, ended_at: datetime
    ) -> Next:
        counts = {"restarts": follows.restarts, "failures": follows.failures}
        if follows.after_seconds is None:
            await self._end(tx, workload, follows.reason, verdict.outcome, ended_at, **counts)
        else:
            start = self._clock.now() + timedelta(seconds=follows.after_seconds) if follows.after_seconds else None
            await self._changes.move(
                tx, workload, WorkloadStatus.PENDING, follows.reason, **counts, estimated_start=start
            )
        sku = workload.attempt.sku if workload.attempt is not None else None
        if await self._queue.hint(tx, self._clock.now(), sku=sku):
            await notify(tx, WORK, KIND)
        return Next(follows.after_seconds or 0, changed=True, forget=True)

    async def _end(
        self, tx: Tx, workload: Workload, reason: StatusReason, outcome: Outcome, at: datetime, **values: object
    ) -> None:
        """Through `stopping`, as every end."""
        if workload.status is not WorkloadStatus.STOPPING:
            await self._changes.move(tx, workload, WorkloadStatus.STOPPING, StatusReason.of(ReasonCode.REAPING))
            workload = replace(workload, status=WorkloadStatus.STOPPING)
        await self._changes.move(
            tx, workload, WorkloadStatus.ENDED, reason, outcome=outcome, ended_at=at, desired=Desired.STOP, **values
        )


def _facts_of(attempt: Attempt, state: GangState | None) -> dict[str, Any]:
    """What the engine says that the row does not have yet."""
    values: dict[str, Any] = {}
    if state is None:
        return values
    starts = [rank.started_at for rank in state.ranks if rank.started_at is not None]
    if attempt.started_at is None and starts:
        values["started_at"] = min(starts)
    reports = tuple(rank.report for rank in state.ranks)
    if any(report is not None for report in reports) and reports != attempt.reports:
        values["reports"] = reports
        egress = Egress(attempt.egress_bytes, attempt.egress_counters).counted(reports)
        values |= {"egress_bytes": egress.total, "egress_counters": egress.counters}
        if reports[0] is not None and reports[0] != attempt.report:
            values["report"] = dict(reports[0])
    return values


def _is_up(workload: Workload, state: GangState) -> bool:
    """All ranks run; a service has also said where it is."""
    if state.status is not GangStatus.RUNNING or len(state.ranks) < workload.spec.tasks:
        return False
    return workload.kind is not WorkloadKind.SERVICE or state.ranks[0].report is not None


def _stopped(workload: Workload) -> StatusReason:
    return StatusReason.of(ReasonCode.STOPPED, f"Stopped {workload.stop_reason or Desired.STOP} before it was started.")
