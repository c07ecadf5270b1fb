"""The gateway's counters as Prometheus families. No project, key or customer's word is a label (API §0)."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from skerry.inference.gateway.metrics import GatewayMetrics, RouteMetrics

OTHERS = "other"
"""Stands for endpoints that have no counters (yet)."""
ROUTE = ["endpoint", "model"]

Gauge = tuple[str, str, Callable[[], float]]


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """How busy this gateway keeps one replica. `endpoint` is an id, as is `replica`."""

    endpoint: str
    replica: str
    in_flight: int
    slots: int


def _no_loads() -> Iterable[ReplicaLoad]:
    return ()


class GatewayCollector(Collector):
    """Shows the counters, and gauges that are read at the moment of asking.

    `queues`: requests that wait, by the endpoint's id. `loads`: its replicas.
    """

    def __init__(
        self,
        metrics: GatewayMetrics,
        gauges: list[Gauge],
        queues: Callable[[], dict[str, int]],
        loads: Callable[[], Iterable[ReplicaLoad]] = _no_loads,
    ) -> None:
        self._metrics, self._gauges, self._queues, self._loads = metrics, gauges, queues, loads

    def collect(self) -> Iterator[Metric]:
        yield from self._totals()
        routes = list(self._metrics.routes.values())
        yield from _answers(routes)
        yield from _histograms(routes)
        yield from _pace(routes)
        yield self._waiting()
        yield from self._replicas()
        for name, text, read in self._gauges:
            yield GaugeMetricFamily(f"skerry_gateway_{name}", text, value=read())

    def _totals(self) -> Iterator[Metric]:
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

    def _waiting(self) -> Metric:
        family = GaugeMetricFamily("skerry_gateway_queue", "Requests that wait for a replica.", labels=ROUTE)
        depths: dict[tuple[str, str], int] = {}
        for endpoint, depth in self._queues().items():
            labels = self._labels(endpoint)
            depths[labels] = depths.get(labels, 0) + depth
        for labels, depth in depths.items():
            family.add_metric([*labels], depth)
        return family

    def _replicas(self) -> Iterator[Metric]:
        labels = [*ROUTE, "replica"]
        busy = GaugeMetricFamily(
            "skerry_inference_replica_in_flight", "Requests this gateway has at a replica.", labels=labels
        )
        slots = GaugeMetricFamily(
            "skerry_inference_replica_slots", "Requests a replica works on at once.", labels=labels
        )
        for load in self._loads():
            own = [*self._labels(load.endpoint), load.replica]
            busy.add_metric(own, load.in_flight)
            slots.add_metric(own, load.slots)
        yield busy
        yield slots

    def _labels(self, endpoint: str) -> tuple[str, str]:
        """Only what has counters is shown by name: anything else might be somebody's word."""
        route = self._metrics.routes.get(endpoint)
        return (route.endpoint, route.model) if route is not None else (OTHERS, "")


def registry_of(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def _answers(routes: list[RouteMetrics]) -> Iterator[Metric]:
    answers = CounterMetricFamily("skerry_inference_answers", "Answers, by endpoint.", labels=[*ROUTE, "kind"])
    tokens = CounterMetricFamily("skerry_inference_tokens", "Tokens, by endpoint.", labels=[*ROUTE, "kind"])
    for route in routes:
        labels = [route.endpoint, route.model]
        answers.add_metric([*labels, "stream"], route.streams)
        answers.add_metric([*labels, "plain"], route.plain)
        tokens.add_metric([*labels, "prompt"], route.prompt)
        tokens.add_metric([*labels, "cached"], route.cached)
        tokens.add_metric([*labels, "completion"], route.completion)
    yield answers
    yield tokens


def _histograms(routes: list[RouteMetrics]) -> Iterator[Metric]:
    for name, text, attribute in (
        ("first_token_seconds", "From admission to the first byte of a stream.", "first"),
        ("inter_token_seconds", "Mean time between a stream's tokens, after the first.", "gap"),
        ("queue_seconds", "Waited for a replica.", "queue"),
        ("answer_seconds", "From admission to the record.", "answers"),
    ):
        family = HistogramMetricFamily(f"skerry_inference_{name}", text, labels=ROUTE)
        for route in routes:
            histogram = getattr(route, attribute)
            family.add_metric([route.endpoint, route.model], histogram.buckets(), histogram.total)
        yield family


def _pace(routes: list[RouteMetrics]) -> Iterator[Metric]:
    requests = GaugeMetricFamily("skerry_inference_requests_per_minute", "Answers of the last minute.", labels=ROUTE)
    tokens = GaugeMetricFamily(
        "skerry_inference_tokens_per_second", "Completion tokens a second, over the last ten.", labels=ROUTE
    )
    share = GaugeMetricFamily(
        "skerry_inference_cached_share", "Of all prompt tokens, those that a replica still had.", labels=ROUTE
    )
    for route in routes:
        labels = [route.endpoint, route.model]
        per_minute, per_second, _ = route.last_minute(route.now())
        requests.add_metric(labels, per_minute)
        tokens.add_metric(labels, per_second)
        share.add_metric(labels, route.cached_share())
    yield requests
    yield tokens
    yield share
