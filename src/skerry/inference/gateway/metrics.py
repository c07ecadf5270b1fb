"""The gateway's counters: plain integers on the hot path. `collector` turns them into Prometheus families.

Ready for compiling: plain classes with typed attributes, nothing looked up by name.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
GAP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
"""Bounds for the time between two tokens."""
RING = 64
"""Seconds remembered, a power of two above the minute that is asked for."""
SAMPLES = 256
"""Newest first-token times kept for their median."""
TOKEN_WINDOW = 10
"""Seconds over which tokens per second are taken."""


class Histogram:
    """Counts by upper bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds: tuple[float, ...] = bounds
        self.counts: list[int] = [0] * (len(bounds) + 1)
        self.total: float = 0.0

    def add(self, seconds: float) -> None:
        place = 0
        for bound in self.bounds:
            if seconds <= bound:
                break
            place += 1
        self.counts[place] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Running counts, as Prometheus has them."""
        running = 0
        rows: list[tuple[str, float]] = []
        for place, count in enumerate(self.counts):
            running += count
            bound = str(self.bounds[place]) if place < len(self.bounds) else "+Inf"
            rows.append((bound, float(running)))
        return rows


class RouteMetrics:
    """One endpoint's answers. `model` is shown as a label: empty where its name is not the operator's choice."""

    __slots__ = (
        "_clock", "_first", "_first_at", "_first_count", "_requests", "_second", "_tokens",
        "answers", "cached", "completion", "endpoint", "first", "gap", "model", "plain", "prompt", "queue", "streams",
    )  # fmt: skip

    def __init__(self, endpoint: str, model: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.endpoint: str = endpoint
        self.model: str = model
        self.streams: int = 0
        self.plain: int = 0
        self.prompt: int = 0
        self.cached: int = 0
        self.completion: int = 0
        self.answers: Histogram = Histogram()
        """From admission to the record."""
        self.first: Histogram = Histogram()
        """From admission to the first byte of a stream."""
        self.gap: Histogram = Histogram(GAP_SECONDS)
        """Mean time between the tokens of a stream, after the first."""
        self.queue: Histogram = Histogram()
        self._clock: Callable[[], float] = clock
        self._second: int = int(clock())
        self._requests: list[int] = [0] * RING
        self._tokens: list[int] = [0] * RING
        self._first: list[int] = [0] * SAMPLES
        self._first_at: list[int] = [0] * SAMPLES
        self._first_count: int = 0

    def answered(
        self, stream: bool, prompt: int, cached: int, completion: int, queue_us: int, first_us: int, total_us: int
    ) -> None:
        """One record was written. `prompt` leaves out what was cached; `first_us` 0: no first byte was seen."""
        second = int(self._clock())
        if second != self._second:
            self._advance(second)
        place = second % RING
        self._requests[place] += 1
        self._tokens[place] += completion
        self.prompt += prompt
        self.cached += cached
        self.completion += completion
        self.queue.add(queue_us / 1e6)
        self.answers.add(total_us / 1e6)
        if not stream:
            self.plain += 1
            return
        self.streams += 1
        if first_us > 0:
            self.first.add(first_us / 1e6)
            sample = self._first_count % SAMPLES
            self._first[sample] = first_us
            self._first_at[sample] = second
            self._first_count += 1
            if completion > 1:
                self.gap.add((total_us - first_us) / (completion - 1) / 1e6)

    def last_minute(self, now: float) -> tuple[float, float, float]:
        """(requests per minute, completion tokens per second, median milliseconds to the first token; 0: none).

        `now` is of the clock it was made with. Tokens count when their answer has ended, over the last ten seconds.
        """
        second = int(now)
        if second > self._second:
            self._advance(second)
        requests = 0
        for ago in range(60):
            requests += self._requests[(second - ago) % RING]
        tokens = 0
        for ago in range(TOKEN_WINDOW + 1):
            tokens += self._tokens[(second - ago) % RING]
        recent: list[int] = []
        for sample in range(min(self._first_count, SAMPLES)):
            if self._first_at[sample] > second - 60:
                recent.append(self._first[sample])
        recent.sort()
        median = recent[len(recent) // 2] / 1e3 if recent else 0.0
        return float(requests), tokens / (TOKEN_WINDOW + now - second), median

    def now(self) -> float:
        """Of the clock that `last_minute` is asked with."""
        return self._clock()

    def cached_share(self) -> float:
        """Of all prompt tokens since the start, those that a replica still had; 0.0 where there were none."""
        tokens = self.prompt + self.cached
        return self.cached / tokens if tokens else 0.0

    def _advance(self, second: int) -> None:
        """Empty the seconds that have come since the last answer."""
        steps = second - self._second
        if steps < 0:
            return  # a clock that stood still for a moment: `second` is still in the ring
        for step in range(min(steps, RING)):
            place = (second - step) % RING
            self._requests[place] = 0
            self._tokens[place] = 0
        self._second = second


class GatewayMetrics:
    """What happened since the start. No project, key or customer's word is a label."""

    __slots__ = (
        "cached", "cancelled", "completion", "connections", "first_seconds", "interrupted", "passed", "plain",
        "prompt", "refusals", "retries", "routes", "seconds", "streams",
    )  # fmt: skip

    def __init__(self) -> None:
        self.connections: int = 0
        self.cancelled: int = 0
        self.interrupted: int = 0
        self.retries: int = 0
        self.passed: int = 0
        self.streams: int = 0
        self.plain: int = 0
        self.prompt: int = 0
        self.cached: int = 0
        self.completion: int = 0
        self.refusals: Counter[tuple[int, str]] = Counter()
        self.seconds: Histogram = Histogram()
        self.first_seconds: Histogram = Histogram()
        self.routes: dict[str, RouteMetrics] = {}
        """By the endpoint's id."""

    def of(self, endpoint: str, model: str) -> RouteMetrics:
        """One endpoint's counters; kept over changes of its route.

        `model` becomes a label: give the name of shared endpoints only, and "" for those of one project.
        """
        found = self.routes.get(endpoint)
        if found is None or found.model != model:
            found = self.routes[endpoint] = RouteMetrics(endpoint, model)
        return found

    def keep(self, endpoints: Iterable[str]) -> None:
        """Forget the endpoints that are no longer among these."""
        wanted = set(endpoints)
        for endpoint in [endpoint for endpoint in self.routes if endpoint not in wanted]:
            del self.routes[endpoint]

    def answered(self, stream: bool, prompt: int, cached: int, completion: int, begun: int, ended: int) -> None:
        """One record was written. Times are Unix microseconds."""
        if stream:
            self.streams += 1
        else:
            self.plain += 1
        self.prompt += prompt
        self.cached += cached
        self.completion += completion
        self.seconds.add((ended - begun) / 1e6)

    def first_token(self, seconds: float) -> None:
        self.first_seconds.add(seconds)

    def refused(self, status: int, code: str) -> None:
        self.refusals[status, code] += 1
