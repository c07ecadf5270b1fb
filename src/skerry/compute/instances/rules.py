"""What becomes of an instance, given what its owner wants and what its workload does. Pure."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from skerry.compute.instances.host.spec import EXIT_REFUSED, InstanceReport, StartScriptState
from skerry.compute.instances.model import (
    INSTANCE_TRANSITIONS,
    Instance,
    InstanceReason,
    InstanceStatus,
    NodeView,
    Wish,
)
from skerry.compute.model import Attempt, Desired, Outcome, ReasonCode, StopReason, Workload, WorkloadStatus
from skerry.kernel.ids import AttemptId
from skerry.runtime.state import Reason

_S = InstanceStatus
ENDED: Final = frozenset({_S.STOPPED, _S.FAILED, _S.TERMINATED})
"""Nothing happens in these until somebody wants something."""

_STOPPED: Final = {
    StopReason.MAX_DURATION: (
        InstanceReason.MAX_DURATION,
        "Its max_duration_seconds were over. Start it again to go on; its home folder and volumes are kept.",
    ),
    StopReason.BUDGET: (
        InstanceReason.BUDGET,
        "It was stopped before it cost more than it may. Raise the limit and start it again; its data is kept.",
    ),
}


@dataclass(frozen=True, slots=True)
class Decision:
    """`ready`: the attempt of which metering is to begin. `stop`: the workload is wanted no longer. `settle`: the wish
    that its end has answered. `gone`: what it held is to be let go."""

    status: InstanceStatus
    reason: Reason
    ready: AttemptId | None = None
    stop: StopReason | None = None
    settle: Wish | None = None
    gone: bool = False
    due_in: float | None = 30.0


def decide(instance: Instance, workload: Workload) -> Decision:
    if instance.status is _S.TERMINATED:
        return Decision(_S.TERMINATED, instance.reason, due_in=None)
    ended = workload.status is WorkloadStatus.ENDED
    if instance.wish is Wish.TERMINATE and ended:
        words = "It was terminated; its home folder is removed, volumes that were attached are free."
        return Decision(_S.TERMINATED, Reason(InstanceReason.TERMINATED, words), gone=True, due_in=None)
    if instance.wish is not Wish.RUN and not ended:
        stop = StopReason.BY_CUSTOMER if workload.desired is Desired.RUN else None
        return Decision(_S.STOPPING, stop_requested(), stop=stop, due_in=2.0)
    if ended:
        return _ended(instance, workload)
    if workload.desired is Desired.STOP:
        code, words = _stopped_by(workload.stop_reason)
        return Decision(_S.STOPPING, Reason(code, words), due_in=2.0)
    return _wanted(workload)


def steps(before: InstanceStatus, after: InstanceStatus) -> list[InstanceStatus]:
    """The shortest way from one status to another: what was not seen in between happened all the same."""
    came_from: dict[InstanceStatus, InstanceStatus] = {}
    waiting = deque([before])
    while waiting:
        at = waiting.popleft()
        if at is after:
            break
        for follower in sorted(INSTANCE_TRANSITIONS.after(at), key=lambda one: (one is _S.FAILED, one)):
            if follower not in came_from and follower is not before:
                came_from[follower] = at
                waiting.append(follower)
    way: list[InstanceStatus] = []
    while after is not before:
        way.append(after)
        after = came_from[after]
    return way[::-1]


def resumed() -> Reason:
    return Reason(InstanceReason.NEW, "Wait: it is about to start.")


def why_not(instance: Instance) -> dict[str, str | None]:
    """For each verb, why it cannot be done now; None: it can."""
    status = instance.status
    gone = "it is terminated" if status is _S.TERMINATED or instance.wish is Wish.TERMINATE else None
    return {
        "stop": gone or (None if instance.wish is Wish.RUN and status not in ENDED else f"it is {status}"),
        "start": gone or (None if status in ENDED else f"it is {status}"),
        "terminate": gone,
    }


def reports_of(attempt: Attempt | None, count: int) -> list[InstanceReport | None]:
    """What each rank said, in their order; None for what is none."""
    if attempt is None or attempt.ended_at is not None:
        return [None] * count
    told: Sequence[Mapping[str, Any] | None] = attempt.reports or (attempt.report,)
    found = [_report(one) for one in told[:count]]
    return found + [None] * (count - len(found))


def nodes_of(instance: Instance, workload: Workload) -> tuple[NodeView, ...]:
    attempt = workload.open_attempt
    placed = attempt.nodes if attempt is not None else ()
    reports = reports_of(attempt, instance.nodes)
    views = []
    for number, (name, report) in enumerate(zip(instance.hostnames, reports, strict=True)):
        node = placed[number] if number < len(placed) else None
        if report is None:
            views.append(NodeView(name, node))
            continue
        ssh = report.ssh
        views.append(NodeView(name, node, report.ready, report.address, ssh.host, ssh.port, ssh.user))
    return tuple(views)


def _wanted(workload: Workload) -> Decision:
    attempt = workload.open_attempt
    if workload.reason.code is ReasonCode.BACKING_OFF and _was_refused(workload):
        # Trying again would change nothing.
        return Decision(_S.STOPPING, _refused(workload), stop=StopReason.BY_OWNER, due_in=1.0)
    if workload.status is WorkloadStatus.PENDING or attempt is None:
        return Decision(_S.PENDING, Reason(workload.reason.code, workload.reason.message), due_in=10.0)
    if workload.status is WorkloadStatus.STOPPING:
        return Decision(_S.STOPPING, Reason(workload.reason.code, workload.reason.message), due_in=2.0)
    reports = reports_of(attempt, max(1, workload.spec.nodes))
    missing = sum(report is None or not report.ready for report in reports)
    if missing and attempt.submitted_at is None:
        return Decision(_S.STARTING, Reason(workload.reason.code, workload.reason.message), due_in=5.0)
    if missing:
        which = f"{len(reports) - missing} of {len(reports)} nodes answer on SSH. " if len(reports) > 1 else ""
        words = f"{which}Wait: it comes up."
        return Decision(_S.STARTING, Reason(InstanceReason.COMING_UP, words), due_in=5.0)
    return Decision(_S.RUNNING, _up(reports), ready=None if attempt.ready_at is not None else attempt.id)


def _up(reports: Sequence[InstanceReport | None]) -> Reason:
    for report in reports:
        if report is not None and report.start_script is StartScriptState.FAILED:
            tail = report.start_script_tail.strip()[-1000:]
            code = report.start_script_exit
            words = f"Its start script ended with exit code {code}. Log in and read /var/log/skerry-start.log.\n{tail}"
            return Reason(InstanceReason.START_SCRIPT_FAILED, words.strip())
    return Reason(InstanceReason.READY, "Nothing to do.")


def _ended(instance: Instance, workload: Workload) -> Decision:
    if instance.wish is Wish.STOP:
        words = "Its capacity is given back, its home folder and volumes are kept. Start it again when it is wanted."
        kept = instance.reason if instance.status is _S.STOPPED else Reason(InstanceReason.STOPPED, words)
        status = _S.FAILED if instance.status is _S.FAILED else _S.STOPPED
        return Decision(status, instance.reason if status is _S.FAILED else kept, due_in=None)
    if _was_refused(workload):
        return Decision(_S.FAILED, _refused(workload), due_in=None)
    if workload.stop_reason in _STOPPED or workload.outcome in (Outcome.TIMED_OUT, Outcome.BUDGET_STOPPED):
        code, words = _stopped_by(workload.stop_reason)
        return Decision(_S.STOPPED, Reason(code, words), settle=Wish.STOP, due_in=None)
    words = f"{workload.reason.message} Its home folder and volumes are kept; start it again when the cause is mended."
    return Decision(_S.FAILED, Reason(InstanceReason.ENDED_BY_ITSELF, words), due_in=None)


def _was_refused(workload: Workload) -> bool:
    newest = workload.attempt
    return newest is not None and newest.ended_at is not None and newest.exit_code == EXIT_REFUSED


def _refused(workload: Workload) -> Reason:
    assert workload.attempt is not None
    lines = [line for line in workload.attempt.message.splitlines() if line.startswith("skerry: ")]
    words = lines[-1].removeprefix("skerry: ") if lines else workload.attempt.message
    return Reason(InstanceReason.REFUSED, f"The node cannot run it: {words}")


def stop_requested() -> Reason:
    return Reason(InstanceReason.STOP_REQUESTED, "Wait: it is told to end, and its capacity is given back.")


def _stopped_by(reason: StopReason | None) -> tuple[InstanceReason, str]:
    if reason in _STOPPED:
        return _STOPPED[reason]
    return InstanceReason.STOPPED, "It was stopped. Start it again when it is wanted."


def _report(told: Mapping[str, Any] | None) -> InstanceReport | None:
    if told is None:
        return None
    try:
        return msgspec.convert(told, InstanceReport)
    except msgspec.ValidationError:
        return None
