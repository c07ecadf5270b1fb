"""What state a job is in, seen from its workload and from what its supervisors said. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from skerry.compute.model import (
    Attempt,
    Outcome,
    StopReason,
    Workload,
    WorkloadStatus,
)
from skerry.kernel.ids import AttemptId
from skerry.runtime.state import Reason
from skerry.training.excluding import NODE_LOST, lost_since
from skerry.training.model import (
    ENDED,
    TRANSITIONS,
    Goodput,
    Job,
    JobStatus,
    Loss,
    LossKind,
    ReasonCode,
    Restart,
    Told,
    Verb,
    Wish,
    because,
)
from skerry.training.reporting import EndReason, RunState

_NOT_FOUND: Final = 127
_NO_ISOLATION: Final = 78
"""Exit code of the task wrapper where isolation cannot be had."""
_STABLE: Final = timedelta(minutes=2)
_FINAL: Final = frozenset({EndReason.FAILED, EndReason.REFUSED})
"""After these another attempt would end the same way."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """Where the job is to be, and what is to be done to its workload for it."""

    status: JobStatus
    reason: Reason
    exit_code: int | None = None
    ended_at: datetime | None = None
    start_again: bool = False
    """It ended through our fault, and its owner wants it."""
    stop_workload: bool = False
    """It has failed for good: no other attempt is to be made."""


def outlook(job: Job, workload: Workload, told: Told | None) -> Outlook:
    """`told`: of the newest attempt, if its supervisor has said anything."""
    match workload.status:
        case WorkloadStatus.ENDED:
            return _ended(job, workload, told)
        case WorkloadStatus.RUNNING | WorkloadStatus.STOPPING if job.wish is Wish.RUN and _failed_for_good(told):
            return Outlook(job.status, job.reason, stop_workload=True)
        case _ if job.wish is not Wish.RUN:
            code = ReasonCode.CHECKPOINTING if job.wish is Wish.PAUSE else ReasonCode.CANCELLING
            return Outlook(job.status, because(code))
        case WorkloadStatus.RUNNING:
            return Outlook(JobStatus.RUNNING, _running(workload, told))
        case WorkloadStatus.STOPPING:
            return Outlook(job.status, Reason(workload.reason.code.value, workload.reason.message))
        case _:
            return _waiting(job, workload)


def path(before: JobStatus, after: JobStatus) -> tuple[JobStatus, ...]:
    """The steps from one to the other: what ran without having been seen to run was running in between."""
    if before is after:
        return ()
    if TRANSITIONS.allows(before, after):
        return (after,)
    steps = (JobStatus.QUEUED, JobStatus.RUNNING, after)
    begin = 1 if before is JobStatus.QUEUED else 0
    return steps[begin:]


def why_not(job: Job, verb: Verb) -> str | None:
    """Why something cannot be done with the job now; None: it can."""
    if verb is Verb.RESUME:
        if job.status in (JobStatus.PAUSED, JobStatus.FAILED):
            return None
        if job.wish is Wish.PAUSE:
            return "it is still writing its checkpoint: wait until it is paused"
        return f"it is {job.status}, and only what is paused or has failed can be resumed"
    if job.status in ENDED:
        return f"it is {job.status}"
    if job.wish is Wish.CANCEL:
        return "it is being cancelled already"
    if verb is Verb.PAUSE and job.wish is Wish.PAUSE:
        return "it is paused" if job.status is JobStatus.PAUSED else "it is being paused already"
    return None


def goodput(job: Job, attempts: Sequence[Attempt], told: Mapping[AttemptId, Told], now: datetime) -> Goodput:
    """Over all attempts. What supervisors measured, the rest of each attempt, and the time between them.

    A pause is no loss: what lies between an attempt that was stopped on purpose and the next one does not count.
    """
    productive = 0.0
    losses: dict[str, float] = {}
    since: datetime | None = job.created_at
    for attempt in attempts:
        began = attempt.started_at or attempt.created_at
        ended = attempt.ended_at or now
        if since is not None:
            _add(losses, LossKind.QUEUED, _seconds(began - since))
        said = told.get(attempt.id)
        ran = _seconds(ended - began)
        lost = lost_since(attempt, said)
        measured = 0.0
        if said is not None:
            productive_part, lost_parts = _fitted(said, ran)
            if lost is not None:
                gone = min(productive_part, _seconds(ended - lost))
                lost_parts[LossKind.NODE_LOST.value] = gone
                productive_part -= gone
            productive += productive_part
            for name, seconds in lost_parts.items():
                _add(losses, name, seconds)
            measured = productive_part + sum(lost_parts.values())
        _add(losses, LossKind.UNREPORTED, ran - measured)
        stopped = attempt.outcome in (Outcome.CANCELLED, Outcome.BUDGET_STOPPED, Outcome.TIMED_OUT)
        since = None if stopped else attempt.ended_at
    if since is not None and job.status is JobStatus.QUEUED and (not attempts or attempts[-1].ended_at is not None):
        _add(losses, LossKind.QUEUED, _seconds(now - since))
    total = productive + sum(losses.values())
    ordered = sorted(losses.items(), key=lambda item: (-item[1], item[0]))
    excluded = sum(one.excluded for one in told.values())
    return Goodput(total, productive, tuple(Loss(name, seconds) for name, seconds in ordered if seconds > 0), excluded)


def restarts(attempts: Sequence[Attempt], told: Mapping[AttemptId, Told]) -> tuple[int, Restart | None]:
    """How often all ranks began anew without having been asked to, and the last time that they did."""
    count = sum(one.restarts for one in told.values())
    last = max(
        (one.last_restart for one in told.values() if one.last_restart is not None),
        key=lambda restart: restart.at,
        default=None,
    )
    for before, after in pairwise(attempts):
        if before.outcome is None or not before.outcome.restarts or before.outcome is Outcome.PREEMPTED:
            continue
        count += 1
        assert before.ended_at is not None, "it has an outcome"
        if last is None or before.ended_at > last.at:
            last = _between(before, after, told)
    return count, last


def _between(before: Attempt, after: Attempt, told: Mapping[AttemptId, Told]) -> Restart:
    """A restart on other nodes, or on the same in a new attempt."""
    assert before.ended_at is not None, "another one came after it"
    said, again = told.get(before.id), told.get(after.id)
    began = after.started_at or after.created_at
    lost = _seconds(began - before.ended_at)
    if again is not None and again.step > 0:
        # Until its first new step: the time that its supervisor lost to starting and to doing work again. Of a program
        # that tells no steps nobody knows when that was.
        lost += sum(again.losses_ms.get(name, 0) for name in ("startup", "redone")) / 1000
    return Restart(
        cause=NODE_LOST if before.outcome is Outcome.LOST else "attempt_failed",
        lost_seconds=lost,
        at=before.ended_at,
        node=before.nodes[0] if len(before.nodes) == 1 else None,
        exit_code=before.exit_code,
        step=said.step if said is not None else None,
        resumed_step=said.checkpoint_step if said is not None else None,
        our_fault=before.outcome is Outcome.LOST,
        detail=before.message.splitlines()[0] if before.message else "",
    )


def _ended(job: Job, workload: Workload, told: Told | None) -> Outlook:
    attempt, ending = workload.attempt, told.ending if told is not None else None
    exit_code = ending.exit_code if ending is not None else attempt.exit_code if attempt is not None else None
    at = workload.ended_at
    if workload.outcome is Outcome.SUCCEEDED:
        return Outlook(JobStatus.SUCCEEDED, because(ReasonCode.SUCCEEDED), 0, at)
    if job.wish is Wish.CANCEL:
        return Outlook(JobStatus.CANCELLED, because(ReasonCode.BY_OWNER, "Cancelled."), None, at)
    if job.wish is Wish.PAUSE:
        return Outlook(JobStatus.PAUSED, because(ReasonCode.BY_OWNER, _saved(told)), None, at)
    if workload.stop_reason in (StopReason.MAX_DURATION, StopReason.BUDGET):
        code = ReasonCode.MAX_DURATION if workload.stop_reason is StopReason.MAX_DURATION else ReasonCode.BUDGET
        words = "Its time is over." if code is ReasonCode.MAX_DURATION else "Its money is spent."
        return Outlook(JobStatus.FAILED, because(code, f"{words} {_saved(told)}"), exit_code, at)
    if _worth_another_try(workload, told):
        words = "It ended through our fault and is started again."
        return Outlook(job.status, because(ReasonCode.RECOVERING, words), start_again=True)
    code, words = _failure(workload, told, exit_code)
    return Outlook(JobStatus.FAILED, because(code, words), exit_code, at)


def _failure(workload: Workload, told: Told | None, exit_code: int | None) -> tuple[ReasonCode, str]:
    ending = told.ending if told is not None else None
    attempt = workload.attempt
    log = attempt.message if attempt is not None else ""
    _, _, tail = log.partition("; last lines of its log:\n")
    first = ending.detail if ending is not None and ending.detail else log.partition("\n")[0]
    words = f"{first}\n{tail}\n" if tail else f"{first or workload.reason.message}\n"
    if exit_code == _NOT_FOUND:
        return ReasonCode.COMMAND_NOT_FOUND, words
    if ending is not None and ending.reason == EndReason.REFUSED:
        return ReasonCode.REFUSED, words
    if exit_code == _NO_ISOLATION and ending is None:
        return ReasonCode.ISOLATION_UNAVAILABLE, words
    if workload.outcome is Outcome.OUT_OF_MEMORY:
        return ReasonCode.OUT_OF_MEMORY, words
    if workload.outcome is Outcome.LOST or (ending is not None and ending.ours):
        return ReasonCode.NODE_LOST, words
    if ending is not None and told is not None and told.restarts:
        return ReasonCode.NO_RESTARTS_LEFT, words
    return ReasonCode.COMMAND_FAILED, words


def _worth_another_try(workload: Workload, told: Told | None) -> bool:
    """It ended through our fault, and not at once: then it would do so for ever."""
    attempt = workload.attempt
    if attempt is None or attempt.ended_at is None or workload.stop_reason is not None:
        return False
    ours = workload.outcome is Outcome.LOST or (told is not None and told.ending is not None and told.ending.ours)
    began = attempt.started_at
    return ours and began is not None and attempt.ended_at - began >= _STABLE


def _failed_for_good(told: Told | None) -> bool:
    ending = told.ending if told is not None else None
    return ending is not None and not ending.ours and ending.reason in _FINAL


def _running(workload: Workload, told: Told | None) -> Reason:
    if told is None or told.phase == RunState.STARTING:
        return because(ReasonCode.STARTING) if told is None else because(ReasonCode.RUNNING)
    if told.phase == RunState.RECOVERING:
        last = told.last_restart
        return because(ReasonCode.RECOVERING, f"{last.detail}." if last is not None and last.detail else "")
    if told.phase == RunState.STOPPING:
        return because(ReasonCode.CHECKPOINTING)
    return because(ReasonCode.RUNNING)


def _waiting(job: Job, workload: Workload) -> Outlook:
    """Pending or starting. What ran and lost its nodes through our fault is still running, to its owner."""
    why = Reason(workload.reason.code.value, workload.reason.message)
    before = workload.attempt if workload.status is WorkloadStatus.PENDING else None
    gone_back = before is not None and before.outcome is Outcome.PREEMPTED
    if job.status is JobStatus.RUNNING and not gone_back:
        return Outlook(JobStatus.RUNNING, because(ReasonCode.RECOVERING, workload.reason.message))
    return Outlook(JobStatus.QUEUED, why)


def _saved(told: Told | None) -> str:
    if told is None or told.checkpoint_step is None:
        return "There is no checkpoint: it begins anew when it is resumed."
    return f"Its newest complete checkpoint is of step {told.checkpoint_step}."


def _fitted(said: Told, ran: float) -> tuple[float, dict[str, float]]:
    """What a supervisor measured, in seconds; never more than the attempt had."""
    measured = (said.productive_ms + sum(said.losses_ms.values())) / 1000
    scale = min(1.0, ran / measured) / 1000 if measured > 0 else 0.0
    return said.productive_ms * scale, {name: value * scale for name, value in said.losses_ms.items()}


def _add(losses: dict[str, float], name: str, seconds: float) -> None:
    if seconds > 0:
        losses[str(name)] = losses.get(str(name), 0.0) + seconds


def _seconds(span: timedelta) -> float:
    return max(0.0, span.total_seconds())
