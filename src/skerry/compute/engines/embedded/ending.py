"""From what the kernel says of an ended process to whose doing it was. Pure."""

import errno
import os
import signal
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from skerry.compute.engines.base import EndCause, RankEnd
from skerry.compute.model import Outcome

_SIGNAL_BASE: Final = 128
# Exit codes as a shell gives them.
_OWNERS_MISTAKES: Final[Mapping[int | None, tuple[int, str]]] = {
    errno.ENOENT: (127, "no such command (or the interpreter it names is missing)"),
    errno.ENOTDIR: (127, "no such command: a part of its path is no folder"),
    errno.EACCES: (126, "may not be executed by the user that tasks run as"),
    errno.EPERM: (126, "may not be executed by the user that tasks run as"),
    errno.ENOEXEC: (126, "not an executable file"),
    errno.E2BIG: (126, "its arguments and environment are too long"),
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """`status` is a wait status, None where nobody could collect it. Times in seconds of CPU."""

    at: datetime
    status: int | None
    asked: EndCause | None = None
    """Why the engine itself was ending it, if it was: CANCELLED, PEER_ENDED or ENGINE_STOPPED."""
    signals_sent: Set[int] = frozenset()
    """Signals that the owner asked to have sent."""
    oom_kills: int = 0
    cpu_seconds: float = 0.0
    cpu_limit: int | None = None
    adopted: bool = False


def judge(seen: Evidence) -> RankEnd:
    """A rank ended by a SIGKILL that was neither for memory nor asked for is `lost`: our fault."""
    code, number = _code_and_signal(seen.status)
    cause, outcome, message = _judge(seen, code, number)
    return RankEnd(cause, outcome, seen.at, exit_code=code, signal=number, message=message)


def never_started(at: datetime, error: OSError, command: str) -> RankEnd:
    """The command could not be executed. What is wrong with the command is the owner's; all else is ours."""
    if error.errno not in _OWNERS_MISTAKES:
        why = f"could not be started: {error.strerror or error}"
        return RankEnd(EndCause.NOT_STARTED, Outcome.LOST, at, message=why)
    code, why = _OWNERS_MISTAKES[error.errno]
    return RankEnd(EndCause.NOT_STARTED, Outcome.FAILED, at, exit_code=code, message=f"{command}: {why}")


def decisive(ends: Sequence[RankEnd]) -> RankEnd:
    """Which of a gang's ends decided: the first that was other than well and of its own doing, else the last."""
    own = [end for end in ends if end.cause is not EndCause.PEER_ENDED]
    unwell = [end for end in own if end.outcome is not Outcome.SUCCEEDED]
    if unwell:
        return min(unwell, key=lambda end: end.at)
    return max(own or ends, key=lambda end: end.at)


def _judge(seen: Evidence, code: int | None, number: int | None) -> tuple[EndCause, Outcome, str]:
    match seen.asked:
        case EndCause.CANCELLED:
            return EndCause.CANCELLED, Outcome.CANCELLED, "it was told to end"
        case EndCause.ENGINE_STOPPED:
            return EndCause.ENGINE_STOPPED, Outcome.LOST, "the agent was shut down, or its node fenced, and ended it"
        case EndCause.PEER_ENDED:
            return EndCause.PEER_ENDED, Outcome.CANCELLED, "another rank of its gang ended first"
    if code == 0:
        return EndCause.EXITED, Outcome.SUCCEEDED, "exit code 0"
    if seen.oom_kills:
        return EndCause.OUT_OF_MEMORY, Outcome.OUT_OF_MEMORY, "killed by the kernel at its memory limit"
    if code is None:
        why = "it ended while the agent was away, and nobody could collect its exit code"
        return EndCause.UNOBSERVED, Outcome.LOST, why
    if number is not None:
        return _judge_signal(seen, number)
    return EndCause.EXITED, Outcome.FAILED, f"exit code {code}"


def _judge_signal(seen: Evidence, number: int) -> tuple[EndCause, Outcome, str]:
    name = _signal_name(number)
    spent = seen.cpu_limit is not None and seen.cpu_seconds >= seen.cpu_limit
    if number == signal.SIGXCPU or (number == signal.SIGKILL and spent):
        return EndCause.CPU_LIMIT, Outcome.TIMED_OUT, f"used up its {seen.cpu_limit} s of CPU time"
    if number in seen.signals_sent:
        return EndCause.SIGNALLED, Outcome.FAILED, f"ended by {name}, which its owner had sent"
    if number == signal.SIGKILL:
        return EndCause.SIGNALLED, Outcome.LOST, "ended by a SIGKILL that nobody asked for"
    return EndCause.SIGNALLED, Outcome.FAILED, f"ended by {name}"


def _code_and_signal(status: int | None) -> tuple[int | None, int | None]:
    """The exit code as a shell would show it, and the signal."""
    if status is None:
        return None, None
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return _SIGNAL_BASE + number, number
    return os.WEXITSTATUS(status), None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
