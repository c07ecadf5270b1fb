"""The gateway's counters, and what of them is shown."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from skerry.inference.gateway.collector import GatewayCollector, ReplicaLoad, registry_of
from skerry.inference.gateway.metrics import SAMPLES, GatewayMetrics, Histogram, RouteMetrics


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def route(clock: Clock) -> RouteMetrics:
    return RouteMetrics("ep_1", "smol", clock)


def page(metrics: GatewayMetrics, queues=dict, loads=tuple) -> dict[tuple[str, tuple], float]:
    """Samples by name and sorted labels."""
    text = generate_latest(registry_of(GatewayCollector(metrics, [], queues, loads))).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def labels(**given: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(given.items()))


def stream(route: RouteMetrics, *, completion: int = 11, queue_us: int = 0, first_us: int = 100_000) -> None:
    route.answered(True, 10, 30, completion, queue_us, first_us, 1_100_000)


def test_a_minute_is_counted_and_forgotten(route: RouteMetrics, clock: Clock) -> None:
    for _ in range(30):
        stream(route)
        clock.now += 1
    requests, tokens, first = route.last_minute(clock.now)
    assert (requests, first) == (30.0, 100.0)
    assert tokens == pytest.approx(11.0)
    clock.now += 45
    assert route.last_minute(clock.now) == (14.0, 0.0, 100.0)
    clock.now += 3600
    assert route.last_minute(clock.now) == (0.0, 0.0, 0.0)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 100)), max_size=40))
def test_the_last_minute_is_that_of_a_plain_list(steps: list[tuple[float, int]]) -> None:
    """Whatever the pace, gaps longer than what is remembered included."""
    clock = Clock()
    route, seen = RouteMetrics("ep", "", clock), []
    for pause, completion in steps:
        clock.now += pause
        route.answered(True, 0, 0, completion, 0, completion * 1000, 10**6)
        seen.append((int(clock.now), completion))
    requests, tokens, first = route.last_minute(clock.now)
    second = int(clock.now)
    recent = [completion for at, completion in seen if at > second - 60]
    assert requests == len(recent)
    window = 10 + clock.now - second
    assert tokens == pytest.approx(sum(c for at, c in seen if at >= second - 10) / window)
    assert first == (statistics.median_high(recent) if recent else 0)


def test_a_clock_that_steps_back_loses_nothing(route: RouteMetrics, clock: Clock) -> None:
    stream(route)
    clock.now -= 5
    stream(route)
    clock.now += 5
    assert route.last_minute(clock.now)[0] == 2


def test_many_answers_keep_the_newest_times(route: RouteMetrics, clock: Clock) -> None:
    for n in range(SAMPLES * 3):
        stream(route, first_us=1_000 if n < SAMPLES * 2 else 9_000)
    assert route.last_minute(clock.now)[2] == 9.0


def test_the_time_between_tokens_leaves_out_the_first(route: RouteMetrics) -> None:
    stream(route, completion=11, first_us=100_000)
    assert (sum(route.gap.counts), route.gap.total) == (1, pytest.approx(0.1))
    stream(route, completion=1)
    route.answered(True, 1, 0, 5, 0, 0, 100)
    route.answered(False, 1, 0, 5, 0, 50, 100)
    assert sum(route.gap.counts) == 1
    assert sum(route.first.counts) == 2
    assert (route.streams, route.plain) == (3, 1)


def test_the_cached_share_is_of_all_prompt_tokens(route: RouteMetrics) -> None:
    assert route.cached_share() == 0.0
    stream(route)
    assert route.cached_share() == 0.75


@given(st.lists(st.floats(0, 1000)))
def test_a_histogram_s_last_bucket_holds_everything(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    rows = histogram.buckets()
    assert rows[-1] == ("+Inf", len(values))
    for bound, count in rows[:-1]:
        assert count == sum(value <= float(bound) for value in values)


def test_each_endpoint_has_its_own_figures() -> None:
    metrics = GatewayMetrics()
    stream(metrics.of("ep_1", "smol"), queue_us=2_000_000)
    metrics.of("ep_2", "big").answered(False, 1, 0, 2, 0, 0, 10)
    loads = [ReplicaLoad("ep_1", "rep_1", 3, 8)]
    shown = page(metrics, lambda: {"ep_1": 4}, lambda: loads)
    one = {"endpoint": "ep_1", "model": "smol"}
    assert shown["skerry_inference_answers_total", labels(**one, kind="stream")] == 1
    assert shown["skerry_inference_tokens_total", labels(**one, kind="cached")] == 30
    assert shown["skerry_inference_first_token_seconds_bucket", labels(**one, le="0.1")] == 1
    assert shown["skerry_inference_inter_token_seconds_sum", labels(**one)] == pytest.approx(0.1)
    assert shown["skerry_inference_queue_seconds_sum", labels(**one)] == 2.0
    assert shown["skerry_inference_answer_seconds_count", labels(**one)] == 1
    assert shown["skerry_inference_cached_share", labels(**one)] == 0.75
    assert shown["skerry_inference_requests_per_minute", labels(**one)] == 1
    assert shown["skerry_inference_replica_in_flight", labels(**one, replica="rep_1")] == 3
    assert shown["skerry_inference_replica_slots", labels(**one, replica="rep_1")] == 8
    assert shown["skerry_gateway_queue", labels(**one)] == 4
    assert shown["skerry_inference_answers_total", labels(endpoint="ep_2", model="big", kind="plain")] == 1


def test_a_name_that_a_customer_chose_is_never_a_label() -> None:
    """Dedicated endpoints have their id alone, and a queue under an unknown name is shown under none."""
    metrics = GatewayMetrics()
    stream(metrics.of("ep_theirs", ""))
    loads = [ReplicaLoad("acme secret plan", "rep_1", 1, 1)]
    collector = GatewayCollector(metrics, [], lambda: {"ep_theirs": 1, "acme": 2, "acme-2": 3}, lambda: loads)
    text = generate_latest(registry_of(collector)).decode()
    assert "acme" not in text
    shown = page(metrics, lambda: {"ep_theirs": 1, "acme": 2, "acme-2": 3})
    assert shown["skerry_gateway_queue", labels(endpoint="other", model="")] == 5
    assert shown["skerry_gateway_queue", labels(endpoint="ep_theirs", model="")] == 1


def test_figures_survive_a_new_route_and_go_with_the_endpoint() -> None:
    metrics = GatewayMetrics()
    stream(metrics.of("ep_1", "smol"))
    assert metrics.of("ep_1", "smol").streams == 1
    metrics.keep(["ep_2"])
    assert metrics.routes == {}
