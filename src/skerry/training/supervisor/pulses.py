"""Signs of life of a node's ranks, gathered until they are sent on. Times: milliseconds of this node's own clock."""

from dataclasses import dataclass, field
from typing import Final

from skerry.training.rules.metrics import parse
from skerry.training.supervisor.wire import Progress, RankMetric, RankSteps

_MOST_METRICS: Final = 2_000
_MOST_TIMES: Final = 256


@dataclass(slots=True)
class _Rank:
    step: int = 0
    at: int = 0
    pulses: int = 0
    told: bool = False
    """It calls `user.step`: its own times are the better ones."""
    timed_at: int = 0
    fresh: bool = False
    announced: bool = False
    step_ms: list[float] = field(default_factory=list)
    busy_ms: list[float] = field(default_factory=list)


class Pulses:
    """One generation's. `numbered` is the node's knowledge of the program and outlives generations."""

    def __init__(self, generation: int, base: int, numbered: set[int]) -> None:
        self.generation = generation
        self._base = base
        self._numbered = numbered
        self._ranks: dict[int, _Rank] = {}
        self._metrics: list[tuple[int, RankMetric]] = []
        self._dropped = 0
        self._stall_ms = 0
        self._output_at: int | None = None

    @property
    def urgent(self) -> bool:
        """A rank has made its first step: that is waited for."""
        return any(rank.fresh and not rank.announced for rank in self._ranks.values())

    def told(self, line: str, now: int) -> None:
        """A line of the step pipe (`user.py`, `pulse.py`). Any program may write there: nonsense is passed over."""
        kind, *words = line.split()
        numbers = [int(word) for word in words if word.lstrip("-").isdigit()]
        if len(numbers) != len(words) or not numbers:
            return
        if kind == "s" and len(numbers) == 3:
            self._step(numbers[0], numbers[1], numbers[2] / 1000, now)
        elif kind == "p":
            self._pulse(numbers[0], now)
        elif kind == "c" and len(numbers) == 2:
            self._stall_ms = max(self._stall_ms, numbers[1])
        elif kind == "a":
            self._output_at = now

    def printed(self, rank: int, line: str, now: int) -> None:
        self._output_at = now
        found = parse(line)
        if found is None:
            return
        state = self._rank(rank)
        if not state.told and found.step > state.step:
            self._numbered.add(rank)
            if not state.pulses and state.at:
                self._timed(state, (now - state.at) / max(1, found.step - state.step))
            self._reach(state, found.step, now)
        for name, value in found.values.items():
            self.metric(rank, name, found.step, now, value)

    def metric(self, rank: int, name: str, step: int, at: int, value: float | None) -> None:
        if len(self._metrics) >= _MOST_METRICS:
            self._dropped += 1
            return
        self._metrics.append((at, RankMetric(rank, name, step, 0, value)))

    def wrote(self, now: int) -> None:
        self._output_at = now

    def take(self, now: int) -> Progress | None:
        """All since the last time. None: nothing."""
        steps = []
        for number, rank in self._ranks.items():
            if rank.fresh:
                steps.append(
                    RankSteps(
                        number,
                        rank.step,
                        number in self._numbered,
                        now - rank.at,
                        not rank.announced,
                        rank.step_ms[-_MOST_TIMES:],
                        rank.busy_ms[-_MOST_TIMES:],
                    )
                )
                rank.fresh, rank.announced, rank.step_ms, rank.busy_ms = False, True, [], []
        if not steps and not self._metrics and self._output_at is None and not self._dropped:
            return None
        metrics = [RankMetric(m.rank, m.name, m.step, max(0, now - at), m.value) for at, m in self._metrics]
        age = None if self._output_at is None else now - self._output_at
        progress = Progress(self.generation, steps, metrics, age, self._stall_ms, self._dropped)
        self._metrics, self._dropped, self._stall_ms, self._output_at = [], 0, 0, None
        return progress

    def _step(self, number: int, step: int, busy_ms: float, now: int) -> None:
        rank = self._rank(number)
        self._numbered.add(number)
        if rank.told and step > rank.step:
            self._timed(rank, (now - rank.timed_at) / (step - rank.step))
        if busy_ms >= 0:
            rank.busy_ms.append(busy_ms)
        rank.told, rank.timed_at = True, now
        self._reach(rank, step, now)

    def _pulse(self, number: int, now: int) -> None:
        rank = self._rank(number)
        rank.pulses += 1
        if not rank.told:
            if rank.timed_at:
                self._timed(rank, now - rank.timed_at)
            rank.timed_at = now
        if number in self._numbered:
            self._output_at = now  # a sign of life; its number is told otherwise
        else:
            self._reach(rank, self._base + rank.pulses, now)

    def _reach(self, rank: _Rank, step: int, now: int) -> None:
        if step > rank.step:
            rank.step, rank.at, rank.fresh = step, now, True

    def _timed(self, rank: _Rank, milliseconds: float) -> None:
        rank.step_ms.append(milliseconds)
        if len(rank.step_ms) > 4 * _MOST_TIMES:
            del rank.step_ms[:_MOST_TIMES]

    def _rank(self, number: int) -> _Rank:
        return self._ranks.setdefault(number, _Rank())
