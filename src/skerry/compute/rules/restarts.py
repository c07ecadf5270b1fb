"""What becomes of a workload when an attempt has ended: whose doing it was, and whether and when it is tried again."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from skerry.compute.engines.base import EndCause, RankEnd
from skerry.compute.model import Desired, Outcome, ReasonCode, StatusReason, StopReason, Workload, WorkloadKind

FIRST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 300.0
JITTER: Final = 0.2
STABLE: Final = timedelta(minutes=2)
"""An attempt that was ready for so long was no failure to start: the back-off begins anew."""
_MESSAGE_MAX: Final = 2000


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the attempt ended, in the workload's terms. `counts`: as a restart and for the back-off."""

    outcome: Outcome
    message: str
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Sequel:
    """What follows. `after_seconds` None: the workload ends."""

    reason: StatusReason
    after_seconds: float | None
    restarts: int
    failures: int


def judge(workload: Workload, end: RankEnd, *, preempted: bool = False) -> Verdict:
    """The engine says what happened; who wanted what is known here. `preempted`: its capacity was asked back."""
    if workload.desired is Desired.STOP:
        if end.outcome is Outcome.SUCCEEDED and workload.kind is WorkloadKind.JOB:
            return Verdict(Outcome.SUCCEEDED, end.message)  # it was faster than the wish to stop it
        return Verdict((workload.stop_reason or StopReason.BY_OWNER).outcome, end.message)
    if end.outcome is Outcome.CANCELLED and preempted:
        return Verdict(Outcome.PREEMPTED, "its capacity went back to whom it belongs", counts=False)
    if end.outcome is Outcome.CANCELLED:
        return Verdict(Outcome.LOST, f"the engine ended it without being asked to: {end.message}")
    if end.outcome is Outcome.SUCCEEDED and workload.kind is not WorkloadKind.JOB:
        return Verdict(Outcome.FAILED, f"it ended by itself: {end.message}")
    orderly = end.cause is EndCause.ENGINE_STOPPED or end.outcome is Outcome.PREEMPTED
    return Verdict(end.outcome, end.message, counts=not orderly)


def sequel(workload: Workload, verdict: Verdict, ready_for: timedelta, chance: float) -> Sequel:
    """`chance` in [0, 1) spreads restarts, so that what failed together does not come back together."""
    restarts, failures = workload.restarts, workload.failures
    if workload.desired is Desired.STOP or not verdict.outcome.restarts:
        return Sequel(_final_reason(workload, verdict), None, restarts, 0)
    if not verdict.counts:
        code = ReasonCode.PREEMPTED if verdict.outcome is Outcome.PREEMPTED else ReasonCode.RESTARTING
        return Sequel(StatusReason.of(code, _words(workload, verdict)), 0, restarts, 0)
    if workload.spec.max_restarts is not None and restarts >= workload.spec.max_restarts:
        code = ReasonCode.NO_RESTARTS_LEFT if workload.spec.max_restarts else ReasonCode.FAILED
        return Sequel(StatusReason.of(code, _words(workload, verdict)), None, restarts, 0)
    failures = 1 if ready_for >= STABLE else failures + 1
    seconds = back_off(failures, chance)
    words = f"Next start in {seconds:.0f} s. {_words(workload, verdict)}"
    return Sequel(StatusReason.of(ReasonCode.BACKING_OFF, words), seconds, restarts + 1, failures)


def back_off(failures: int, chance: float) -> float:
    """Seconds to wait after the `failures`-th failure in a row: 1, 2, 4 … 300, each ± 20 %."""
    plain = min(FIRST_SECONDS * 2.0 ** min(max(failures - 1, 0), 32), LONGEST_SECONDS)
    return plain * (1 - JITTER + 2 * JITTER * chance)


def with_last_lines(message: str, log: bytes) -> str:
    """A message followed by the end of a log, as text that a database can hold."""
    text = log.decode(errors="replace").replace("\0", "\ufffd").strip()
    if not text:
        return message
    lines = "\n".join(text.splitlines()[-10:])[-_MESSAGE_MAX:]
    return f"{message}; last lines of its log:\n{lines}"


def _final_reason(workload: Workload, verdict: Verdict) -> StatusReason:
    if workload.desired is Desired.STOP:
        return StatusReason.of(ReasonCode.STOPPED, f"Stopped {workload.stop_reason or StopReason.BY_OWNER}.")
    if verdict.outcome is Outcome.SUCCEEDED:
        return StatusReason.of(ReasonCode.SUCCEEDED, "")
    return StatusReason.of(ReasonCode.FAILED, _words(workload, verdict))


def _words(workload: Workload, verdict: Verdict) -> str:
    return f"Attempt {workload.attempts}: {verdict.message}\n"
