"""Spans of records, and their way to a collector."""

import asyncio
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.inference.requests import tracing
from skerry.inference.requests.otlp import OtlpSink, TracingUnavailable
from skerry.inference.requests.spans import is_sampled, parent_of, spans_of
from skerry.inference.requests.tracing import TracedIntake, Tracer
from skerry.metering.journal_intake import WrongPosition
from skerry.runtime.journal.reader import Position
from skerry.runtime.journal.records import AnswerRecord, Mark

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CLIENT = f"00-{TRACE}-{SPAN}-01"
T0 = 1_767_225_600_000_000


def record(**changes: object) -> AnswerRecord:
    made = AnswerRecord(
        id=bytes(range(1, 17)), project="proj", key="key", model="smol", endpoint="ep", replica="rep", site="local",
        capacity_class="on_demand", charge_by="tokens", prompt=7, cached=3, completion=5, egress_bytes=1, t0=T0,
        t1=T0 + 1_000, counted="engine", status=200, stream=True, queue_us=100, first_us=300,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


# --- spans
def test_a_streamed_answer_has_a_span_for_each_part_of_its_way() -> None:
    spans = {span.name: span for span in spans_of(record())}
    times = {name: (span.start // 1000 - T0, span.end // 1000 - T0) for name, span in spans.items()}
    assert times == {
        "chat smol": (0, 1000), "queue": (0, 100), "replica": (100, 1000), "first_token": (100, 300),
        "stream": (300, 1000),
    }  # fmt: skip
    root, replica = spans["chat smol"], spans["replica"]
    assert root.parent is None and {spans["queue"].parent, replica.parent} == {root.id}
    assert {spans["first_token"].parent, spans["stream"].parent} == {replica.id}
    assert {span.trace for span in spans.values()} == {int.from_bytes(record().id)}
    assert root.attributes["gen_ai.usage.input_tokens"] == 10
    assert root.attributes["skerry.request_id"] == record().id.hex()


def test_an_answer_that_did_not_wait_has_no_queue() -> None:
    names = [span.name for span in spans_of(record(queue_us=0, stream=False))]
    assert names == ["chat smol", "replica", "first_token"]
    assert [span.name for span in spans_of(record(queue_us=0, first_us=0))] == ["chat smol", "replica"]


def test_a_client_s_trace_goes_on_here() -> None:
    root = spans_of(record(trace=CLIENT))[0]
    assert (f"{root.trace:032x}", f"{root.parent:016x}", root.remote_parent) == (TRACE, SPAN, True)


def test_a_failure_of_ours_is_an_error() -> None:
    assert all(span.failed for span in spans_of(record(status=502)))
    assert not any(span.failed for span in spans_of(record(status=499)))


numbers = st.integers(-(2**40), 2**40)


@given(numbers, numbers, numbers)
def test_spans_nest_whatever_the_clocks_say(total: int, queue: int, first: int) -> None:
    spans = spans_of(record(t1=T0 + total, queue_us=queue, first_us=first))
    by_id = {span.id: span for span in spans}
    assert len(by_id) == len(spans)
    for span in spans:
        assert span.start <= span.end
        if span.parent is not None:
            assert by_id[span.parent].start <= span.start <= span.end <= by_id[span.parent].end


@pytest.mark.parametrize(
    "header",
    [
        "", "x", CLIENT[:-1], CLIENT.upper(), f"ff{CLIENT[2:]}", f"{CLIENT}-more", f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01", CLIENT.replace("-", "_"), f"{CLIENT}\n",
    ],
)  # fmt: skip
def test_a_wrong_header_begins_a_trace_of_its_own(header: str) -> None:
    assert parent_of(header) is None
    assert spans_of(record(trace=header))[0].parent is None


def test_a_later_version_s_header_is_read_as_far_as_it_is_known() -> None:
    assert parent_of(f"01-{TRACE}-{SPAN}-03-what-comes") is not None


def test_the_client_decides_whether_its_trace_is_kept() -> None:
    assert is_sampled(record(trace=CLIENT), 0.0)
    assert not is_sampled(record(trace=CLIENT[:-1] + "0"), 1.0)


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=50), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_keeps_what_a_smaller_one_keeps(ids: list[bytes], one: float, other: float) -> None:
    less, more = sorted((one, other))
    for id in ids:
        assert not is_sampled(record(id=id), 0.0) and is_sampled(record(id=id), 1.0)
        assert is_sampled(record(id=id), more) or not is_sampled(record(id=id), less)


# --- the way out
class Sink:
    """A collector that may be away."""

    def __init__(self, takes: bool = True) -> None:
        self.takes, self.spans = takes, []

    def export(self, spans) -> bool:
        self.spans += spans
        return self.takes


async def test_records_are_traced_beside_marks_and_in_bounded_batches() -> None:
    sink = Sink()
    tracer = Tracer(sink, 1.0)
    tracer.offer([Mark(1), *(record(id=n.to_bytes(16)) for n in range(1, 1001))])
    await tracer.flush()
    assert (tracer.exported, tracer.dropped, len(sink.spans)) == (1000, 0, 5000)


async def test_what_a_collector_does_not_take_is_dropped_and_counted() -> None:
    tracer = Tracer(Sink(takes=False), 1.0)
    tracer.offer([record()])
    await tracer.flush()
    assert (tracer.exported, tracer.dropped) == (0, 1)


async def test_memory_is_bounded_while_the_collector_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "WAITING", 10)
    sink = Sink()
    tracer = Tracer(sink, 1.0)
    tracer.offer([record(id=n.to_bytes(16)) for n in range(1, 26)])
    await tracer.flush()
    assert (tracer.dropped, tracer.exported) == (15, 10)
    assert {span.trace for span in sink.spans} == set(range(16, 26))


async def test_only_what_was_committed_is_traced() -> None:
    class Inner:
        async def position(self, journal):
            return Position()

        async def ship(self, journal, start, end, records):
            raise WrongPosition(journal, start, Position(2))

    sink = Sink()
    tracer = Tracer(sink, 1.0)
    with pytest.raises(WrongPosition):
        await TracedIntake(Inner(), tracer).ship("j", Position(), Position(1, 1), [record()])
    await tracer.flush()
    assert sink.spans == []


async def test_the_tracer_sends_as_records_come() -> None:
    sink = Sink()
    tracer = Tracer(sink, 1.0)
    running = asyncio.create_task(tracer.run())
    try:
        async with asyncio.timeout(30):
            for n in (1, 2):
                tracer.offer([record(id=n.to_bytes(16))])
                while tracer.exported < n:
                    await asyncio.sleep(0.005)
    finally:
        running.cancel()


# --- OpenTelemetry itself
class Collector:
    """An OTLP/HTTP collector on loopback."""

    def __init__(self, status: int = 200) -> None:
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.paths.append(self.path)
                collector.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self) -> "Collector":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


def test_a_collector_gets_the_spans_in_opentelemetry_s_format() -> None:
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    with Collector() as collector:
        sink = OtlpSink(collector.url + "/", "1.2.3")
        assert sink.export(spans_of(record(trace=CLIENT, status=502)))
        sink.close()
    assert collector.paths == ["/v1/traces"]
    request = service.ExportTraceServiceRequest.FromString(collector.bodies[0])
    (resource,) = request.resource_spans
    assert {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"] == "skerry-gateway"
    spans = {span.name: span for span in resource.scope_spans[0].spans}
    root = spans["chat smol"]
    assert (root.trace_id.hex(), root.parent_span_id.hex(), root.kind, root.status.code) == (TRACE, SPAN, 2, 2)
    assert spans["replica"].parent_span_id == root.span_id
    assert (spans["queue"].start_time_unix_nano, spans["queue"].end_time_unix_nano) == (T0 * 1000, T0 * 1000 + 100_000)
    values = {a.key: a.value for a in root.attributes}
    assert values["gen_ai.usage.output_tokens"].int_value == 5
    assert values["skerry.stream"].bool_value is True


def test_a_collector_that_refuses_is_no_success() -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    with Collector(status=400) as collector:
        sink = OtlpSink(collector.url, "1")
        assert not sink.export(spans_of(record()))
        sink.close()


def test_without_opentelemetry_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(TracingUnavailable, match=r"pip install 'skerry\[otel\]'"):
        OtlpSink("http://127.0.0.1:1", "1")


LATE = """
import json, sys
from skerry.inference.requests.otlp import OtlpSink
from skerry.inference.requests.spans import spans_of
from tests.requests.test_traces import record
spans = spans_of(record())
sink = OtlpSink(sys.argv[1], "1")
late = []
class Closed:
    def find_spec(self, name, path=None, target=None):
        late.append(name)
        raise ImportError(f"{name} is imported late")
sys.meta_path.insert(0, Closed())
print(json.dumps([sink.export(spans), late]))
"""


def test_exporting_imports_nothing_late() -> None:
    """The shipper has dropped root by then, and Python's folders may be closed to it."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    with Collector() as collector:
        done = subprocess.run(
            [sys.executable, "-c", LATE, collector.url.replace("127.0.0.1", "localhost")],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    exported, late = json.loads(done.stdout)
    assert (exported, late) == (True, [])
