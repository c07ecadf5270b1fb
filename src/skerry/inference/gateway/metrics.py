"""The gateway's counters: plain integers on the hot path, turned into Prometheus families when asked."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Histogram:
    """Counts by upper bound."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        running, rows = 0, []
        for bound, count in zip((*map(str, SECONDS), "+Inf"), self.counts, strict=True):
            running += count
            rows.append((bound, float(running)))
        return rows


class GatewayMetrics:
    """What happened since the start. No project, key or customer's word is a label."""

    def __init__(self) -> None:
        self.connections = self.cancelled = self.interrupted = self.retries = self.passed = 0
        self.streams = self.plain = 0
        self.prompt = self.cached = self.completion = 0
        self.refusals: Counter[tuple[int, str]] = Counter()
        self.seconds, self.first_seconds = Histogram(), Histogram()

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


Gauge = tuple[str, str, Callable[[], float]]


class GatewayCollector(Collector):
    """Shows the counters, and gauges that are read at the moment of asking."""

    def __init__(self, metrics: GatewayMetrics, gauges: list[Gauge], queues: Callable[[], dict[str, int]]) -> None:
        self._metrics, self._gauges, self._queues = metrics, gauges, queues

    def collect(self) -> Iterator[Metric]:
        metrics = self._metrics
        answers = CounterMetricFamily("skerry_gateway_answers", "Answers recorded.", labels=["kind"])
        answers.add_metric(["stream"], metrics.streams)
        answers.add_metric(["plain"], metrics.plain)
        yield answers
        tokens = CounterMetricFamily("skerry_gateway_tokens", "Tokens of recorded answers.", labels=["kind"])
        tokens.add_metric(["prompt"], metrics.prompt)
        tokens.add_metric(["cached"], metrics.cached)
        tokens.add_metric(["completion"], metrics.completion)
        yield tokens
        refusals = CounterMetricFamily("skerry_gateway_refusals", "Requests refused.", labels=["status", "code"])
        for (status, code), count in metrics.refusals.items():
            refusals.add_metric([str(status), code], count)
        yield refusals
        for name, text, value in (
            ("connections", "Client connections accepted.", metrics.connections),
            ("cancelled", "Requests whose client went away.", metrics.cancelled),
            ("interrupted", "Streams whose replica failed in the middle.", metrics.interrupted),
            ("retries", "Requests sent to a replica once more.", metrics.retries),
            ("passed", "Requests passed to the control API.", metrics.passed),
        ):
            yield CounterMetricFamily(f"skerry_gateway_{name}", text, value=value)
        for name, text, histogram in (
            ("answer_seconds", "From admission to the record.", metrics.seconds),
            ("first_token_seconds", "From admission to the first byte of a stream.", metrics.first_seconds),
        ):
            family = HistogramMetricFamily(f"skerry_gateway_{name}", text)
            family.add_metric([], histogram.buckets(), histogram.total)
            yield family
        waiting = GaugeMetricFamily("skerry_gateway_queue", "Requests that wait for a replica.", labels=["model"])
        for model, depth in self._queues().items():
            waiting.add_metric([model], depth)
        yield waiting
        for name, text, read in self._gauges:
            yield GaugeMetricFamily(f"skerry_gateway_{name}", text, value=read())


def registry_of(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry
