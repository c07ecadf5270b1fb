"""What the leader knows of the ranks' progress: steps and their times, silence, stragglers, metrics."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from skerry.training.reporting import Metric, Straggler
from skerry.training.rules import hangs, stragglers
from skerry.training.spec import HangSettings
from skerry.training.supervisor.wire import Progress, RankMetric, RankSteps

_STEPS_KEPT: Final = 200
_TIMES_KEPT: Final = 50
_METRICS_KEPT: Final = 10_000


@dataclass(slots=True)
class _RankTimes:
    step_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_TIMES_KEPT))
    busy_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_TIMES_KEPT))


class Watch:
    """`nodes`: names by node rank. `patient`: no silence is a hang before a first step was seen."""

    def __init__(self, settings: HangSettings, nodes: Sequence[str], tasks_per_node: int, *, patient: bool) -> None:
        self._settings = settings
        self._nodes = nodes
        self._tasks = tasks_per_node
        self._patient = patient
        self._ranks: dict[int, _RankTimes] = {}
        self._recent: deque[float] = deque(maxlen=_STEPS_KEPT)
        self._numbered = False
        self._owners: dict[str, int] = {}
        self._metrics: deque[Metric] = deque()
        self.dropped = 0
        self.generation = 0
        self.step = 0
        """Highest of this generation."""
        self.stepped = False
        """In this generation."""
        self._ever = False
        self._alive_at = 0

    def begin(self, generation: int, now: int) -> None:
        self.generation, self.step, self.stepped, self._alive_at = generation, 0, False, now
        self._ranks.clear()

    def alive(self, at: int) -> None:
        """A sign of life that is no step: output, a checkpoint that grows."""
        self._alive_at = max(self._alive_at, at)

    def take(self, progress: Progress, now: int) -> list[tuple[int, int]]:
        """(when, number) of the steps that the gang has made, in order. Another generation's news is no news."""
        for metric in progress.metrics:
            self._metric(metric, now)
        self.dropped += progress.dropped
        if progress.generation != self.generation:
            return []
        if progress.output_age_ms is not None:
            self.alive(now - progress.output_age_ms)
        made = []
        for steps in progress.steps:
            self._times(steps)
            at = now - steps.age_ms
            self.alive(at)
            self._numbered |= steps.numbered
            self.stepped = self._ever = True
            if steps.step > self.step and steps.numbered == self._numbered:
                self.step = steps.step
                made.append((at, steps.step))
        return sorted(made)

    @property
    def step_ms(self) -> float | None:
        return hangs.typical_ms(self._recent)

    def silence(self, now: int) -> tuple[int, float] | None:
        """(how long, the limit) in milliseconds once it is too long."""
        if self._patient and not self._ever:
            return None
        limit = hangs.limit_ms(self._settings, self.step_ms)
        if not self.stepped:
            limit = max(limit, hangs.before_first_step_ms(self._settings))
        silent = now - self._alive_at
        return (silent, limit) if silent > limit else None

    def slow(self) -> tuple[Straggler, ...]:
        busy = {rank: list(times.busy_ms) for rank, times in self._ranks.items()}
        times = busy if all(busy.values()) else {rank: list(one.step_ms) for rank, one in self._ranks.items()}
        return tuple(
            Straggler(rank=one.rank, node=self.node_of(one.rank), step_ms=round(one.step_ms), ratio=round(one.ratio, 2))
            for one in stragglers.slow_ranks(times)
        )

    def node_of(self, rank: int) -> str:
        return self._nodes[rank // self._tasks]

    def metrics(self, most: int) -> tuple[Metric, ...]:
        return tuple(self._metrics.popleft() for _ in range(min(most, len(self._metrics))))

    @property
    def has_metrics(self) -> bool:
        return bool(self._metrics)

    def _times(self, steps: RankSteps) -> None:
        one = self._ranks.setdefault(steps.rank, _RankTimes())
        one.step_ms.extend(steps.step_ms)
        one.busy_ms.extend(steps.busy_ms)
        self._recent.extend(steps.step_ms)

    def _metric(self, metric: RankMetric, now: int) -> None:
        """Where several ranks print the same name, the lowest one's counts."""
        owner = self._owners.setdefault(metric.name, metric.rank)
        if metric.rank > owner:
            return
        self._owners[metric.name] = metric.rank
        if len(self._metrics) >= _METRICS_KEPT:
            self._metrics.popleft()
            self.dropped += 1
        self._metrics.append(Metric(name=metric.name, step=metric.step, at=now - metric.age_ms, value=metric.value))
