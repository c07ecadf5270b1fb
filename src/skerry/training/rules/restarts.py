"""What ended a generation of ranks, whose fault it was, and whether another one is started. Times in milliseconds."""

import signal
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from skerry.training.reporting import Cause

OURS_BORNE: Final = 10
"""Generations within the window that may be lost through our fault. More, and a restart does not mend it."""
_LONGEST_BACK_OFF_MS: Final = 60_000
_OURS: Final = frozenset({Cause.RANK_KILLED, Cause.NODE_AWAY})
_NOT_FOUND: Final = (126, 127)


@dataclass(frozen=True, slots=True)
class RankEnd:
    """How a rank ended. `asked`: we ended it. `tail`: the last lines it wrote."""

    rank: int
    node: str
    at: int
    exit_code: int | None = None
    signal: int | None = None
    asked: bool = False
    out_of_memory: bool = False
    tail: str = ""

    @property
    def well(self) -> bool:
        return self.exit_code == 0

    @property
    def code(self) -> int:
        """As a shell says it."""
        return self.exit_code if self.exit_code is not None else 128 + (self.signal or 0)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a generation ended. `progress`: it had made a step, or had run for long enough, before."""

    cause: Cause
    at: int
    node: str | None = None
    rank: int | None = None
    code: int = 1
    signal: int | None = None
    detail: str = ""
    progress: bool = True

    @property
    def ours(self) -> bool:
        return self.cause in _OURS


@dataclass(frozen=True, slots=True)
class Again:
    """Start another generation after `delay_ms`. `deaths`: how often in a row it ended without progress."""

    delay_ms: int
    deaths: int = 0


@dataclass(frozen=True, slots=True)
class GiveUp:
    """`ours`: killed from outside more often than we bear."""

    ours: bool
    detail: str


def blame(ends: Iterable[RankEnd], *, progress: bool) -> Failure | None:
    """The end that brought the others down. A killed rank makes its peers fail with broken connections within
    milliseconds, so what a rank did to itself comes after what was done to one. None: nobody ended badly by itself.
    """
    own = [end for end in ends if not end.asked and not end.well]
    if not own:
        return None
    first = min(own, key=lambda end: (_ORDER[_cause(end)], end.at, end.rank))
    cause = _cause(first)
    return Failure(cause, first.at, first.node, first.rank, first.code, first.signal, _words(first, cause), progress)


def decide(history: Sequence[Failure], *, now: int, max_restarts: int, window_ms: int) -> Again | GiveUp:
    """After the last failure of `history`. What is not the job's fault does not count against its restarts."""
    last = history[-1]
    recent = [failure for failure in history if failure.at > now - window_ms]
    ours = sum(failure.ours for failure in recent)
    own = len(recent) - ours
    if last.ours and ours > OURS_BORNE:
        times = f"{ours} times within {_span(window_ms)}"
        return GiveUp(True, f"ranks were lost through no fault of the job {times}: {last.detail}")
    if not last.ours and last.code in _NOT_FOUND and not last.progress:
        return GiveUp(False, last.detail)
    if not last.ours and own > max_restarts:
        used = f"{max_restarts} restarts within {_span(window_ms)} are used up" if max_restarts else "max_restarts is 0"
        return GiveUp(False, f"{last.detail} ({used})")
    deaths = 0
    for failure in reversed(history):
        if failure.progress:
            break
        deaths += 1
    delay = min(1000 << (deaths - 1), _LONGEST_BACK_OFF_MS) if deaths else 0
    return Again(delay, deaths)


def suspects(history: Sequence[Failure], *, now: int, window_ms: int) -> tuple[dict[int, int], dict[str, int]]:
    """Ranks and nodes that were the first to go more than once within the window, with how often."""
    recent = [failure for failure in history if failure.at > now - window_ms]
    ranks = Counter(failure.rank for failure in recent if failure.rank is not None)
    nodes = Counter(failure.node for failure in recent if failure.node is not None)
    return (
        {rank: times for rank, times in ranks.items() if times > 1},
        {node: times for node, times in nodes.items() if times > 1},
    )


_ORDER: Final = {
    Cause.OUT_OF_MEMORY: 0,
    Cause.RANK_KILLED: 0,
    Cause.RANK_CRASHED: 1,
    Cause.RANK_FAILED: 2,
}


def _cause(end: RankEnd) -> Cause:
    if end.out_of_memory:
        return Cause.OUT_OF_MEMORY
    if end.signal == signal.SIGKILL:
        return Cause.RANK_KILLED
    return Cause.RANK_CRASHED if end.signal is not None else Cause.RANK_FAILED


def _words(end: RankEnd, cause: Cause) -> str:
    who = f"rank {end.rank} on {end.node}"
    if cause is Cause.OUT_OF_MEMORY:
        return f"{who} was ended because memory ran out"
    if cause is Cause.RANK_KILLED:
        return f"{who} was killed from outside (SIGKILL)"
    if end.signal is not None:
        return f"{who} was ended by {_name(end.signal)}"
    last = next((line.strip() for line in reversed(end.tail.splitlines()) if line.strip()), "")
    return f"{who} exited with {end.exit_code}" + (f": {last[:300]}" if last else "")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _span(milliseconds: int) -> str:
    seconds = milliseconds // 1000
    return f"{seconds // 60} min" if seconds >= 60 else f"{seconds} s"
