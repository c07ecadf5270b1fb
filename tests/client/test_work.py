"""Files, batches, endpoints and the request log: what is asked, and what comes back."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest

from skerry.client import Invalid, NotReachable, StreamBroken, TookTooLong
from skerry.client.answers.base import Money
from tests.client.fakes import ok, page, problem, script

ENDPOINT = {"id": "ep_1", "name": "mine", "status": "ready"}
HOUR = {"amount": "1.20", "currency": "EUR"}
ESTIMATE = {"charge_by": "time", "replica_hour": HOUR, "min_hour": HOUR, "max_hour": {**HOUR, "amount": "2.40"}}
FILE = {"id": "file-1", "filename": "a.jsonl", "bytes": 3, "created_at": 1767225600}
BATCH = {"id": "batch_1", "status": "in_progress", "request_counts": {"total": 3, "completed": 1, "failed": 1}}
LIMITS = {"requests_per_minute": 5}
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("send", "method", "url", "body", "once"),
    [
        (
            lambda c: c.endpoints.create("tiny", name="mine", min_replicas=0, idle_timeout_seconds=60),
            "POST",
            "/api/v1/endpoints",
            {"model": "tiny", "kind": "dedicated", "name": "mine", "min_replicas": 0, "idle_timeout_seconds": 60},
            True,
        ),
        (
            lambda c: c.endpoints.update("org/m", max_replicas=0, defaults=["queue_seconds"]),
            "PATCH",
            "/api/v1/endpoints/org%2Fm",
            {"max_replicas": 0, "queue_seconds": None},
            False,
        ),
        (lambda c: c.endpoints.drain("mine"), "POST", "/api/v1/endpoints/mine/drain", None, True),
        (lambda c: c.endpoints.resume("mine"), "POST", "/api/v1/endpoints/mine/resume", None, True),
        (lambda c: c.endpoints.rollout("mine"), "POST", "/api/v1/endpoints/mine/rollout", None, True),
        (
            lambda c: c.endpoints.rollout("mine", model="new"),
            "POST",
            "/api/v1/endpoints/mine/rollout",
            {"model": "new"},
            True,
        ),
        (lambda c: c.endpoints.remove("mine"), "DELETE", "/api/v1/endpoints/mine", None, False),
        (lambda c: c.files.delete("file-1"), "DELETE", "/v1/files/file-1", None, False),
        (
            lambda c: c.batches.create("file-1", endpoint="/v1/embeddings", metadata={"a": "b"}),
            "POST",
            "/v1/batches",
            {
                "input_file_id": "file-1",
                "endpoint": "/v1/embeddings",
                "completion_window": "24h",
                "metadata": {"a": "b"},
            },
            True,
        ),
        (lambda c: c.batches.cancel("batch_1"), "POST", "/v1/batches/batch_1/cancel", None, True),
        (
            lambda c: list(c.requests.list(model="m", status="5xx", start=START, min_ms=100)),
            "GET",
            "/api/v1/requests?model=m&status=5xx&min_ms=100&from=2026-01-01T00%3A00%3A00Z",
            None,
            False,
        ),
        (
            lambda c: c.projects.update("lab", limits={}, log_content=False),
            "PATCH",
            "/api/v1/projects/lab",
            {"limits": {}, "log_content": False},
            False,
        ),
        (
            lambda c: c.organizations.update("acme", limits=LIMITS, tier="free"),
            "PATCH",
            "/api/v1/organizations/acme",
            {"limits": LIMITS, "tier": "free"},
            False,
        ),
    ],
)
def test_requests(send, method, url, body, once):
    server = script(ok({**ENDPOINT, "data": [], "next_cursor": None}))
    send(server.client())
    [request] = server.requests
    assert (request.method, request.url.raw_path.decode()) == (method, url)
    assert (json.loads(request.content) if request.content else None) == body
    assert ("idempotency-key" in request.headers) == once


def test_an_estimate_changes_nothing_and_may_be_asked_again():
    server = script(problem(503, "busy"), ok(ESTIMATE))
    estimate = server.client().endpoints.estimate("tiny", max_replicas=2)
    assert estimate.max_hour == Money(Decimal("2.40"), "EUR")
    assert [dict(request.url.params) for request in server.requests] == [{"dry_run": "true"}] * 2
    assert "idempotency-key" not in server.requests[0].headers


def test_times_of_v1_become_datetimes():
    file = script(ok(FILE)).client().files.get("file-1")
    assert (file.created, file.expires) == (START, None)


def test_a_file_is_sent_from_disk_as_it_is_read(tmp_path):
    source = tmp_path / "a.jsonl"
    source.write_bytes(b"x" * 200_000)
    told = []
    server = script(ok(FILE))
    client = server.client()
    assert client.files.upload(source, expires_after=3600, progress=told.append).id == "file-1"
    [request] = server.requests
    content = request.read()
    assert content.count(b"x" * 200_000) == 1
    assert content.index(b'name="purpose"') < content.index(b'filename="a.jsonl"')
    assert b"expires_after[seconds]" in content
    assert request.headers["content-length"] == str(len(content))
    # Piece by piece, and at its end.
    assert told == sorted(told)
    assert len(set(told)) > 2
    assert told[-1] == 200_000


async def test_the_asynchronous_client_sends_files_too(tmp_path):
    source = tmp_path / "a.jsonl"
    source.write_bytes(b"abc")
    server = script(ok(FILE))
    async with server.async_client() as client:
        assert (await client.files.upload(source)).id == "file-1"
    assert b"abc" in server.requests[0].content


def test_an_upload_that_may_have_arrived_is_not_sent_again(tmp_path):
    source = tmp_path / "a.jsonl"
    source.write_bytes(b"abc")
    server = script(httpx.ReadError("gone"), ok(FILE))
    with pytest.raises(NotReachable):
        server.client().files.upload(source)
    assert len(server.requests) == 1


def test_an_upload_that_could_not_connect_is_sent_again_from_its_beginning(tmp_path):
    source = tmp_path / "a.jsonl"
    source.write_bytes(b"abc")
    server = script(httpx.ConnectError("refused"), ok(FILE))
    server.client().files.upload(source)
    assert [b"abc" in request.read() for request in server.requests[1:]] == [True]


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        script(ok(FILE)).client().files.upload(tmp_path / "none")


def test_content_comes_as_bytes_from_where_it_is_wanted():
    server = script(httpx.Response(206, content=b"lo"))
    with server.client().files.content("file-1", offset=3) as content:
        assert (content.size, content.read()) == (2, b"lo")
    assert server.requests[0].headers["range"] == "bytes=3-"


def test_content_that_is_refused_is_an_error():
    with pytest.raises(Invalid):
        script(problem(422)).client().files.content("file-1")


def test_content_that_breaks_off_is_an_error():
    class Broken(httpx.SyncByteStream):
        def __iter__(self):
            yield b"half"
            raise httpx.ReadError("gone")

    content = script(lambda request: httpx.Response(200, stream=Broken())).client().files.content("file-1")
    with pytest.raises(StreamBroken):
        content.read()


def test_a_followed_log_may_be_silent_for_long():
    server = script(httpx.Response(200, content=b"line\n"))
    client = server.client()
    assert client.endpoints.logs("mine", tail=5).read() == b"line\n"
    assert client.endpoints.logs("mine", follow=True).read() == b"line\n"
    short, long = (request.extensions["timeout"] for request in server.requests)
    assert short["read"] is not None
    assert (long["read"], long["connect"]) == (None, short["connect"])
    assert [dict(request.url.params) for request in server.requests] == [{"tail": "5"}, {"follow": "true"}]


async def test_the_asynchronous_client_reads_bytes_too():
    async with script(httpx.Response(200, content=b"abc")).async_client() as client:
        assert await (await client.files.content("file-1")).read() == b"abc"


def test_lists_of_v1_go_on_after_their_last_item():
    server = script(ok({"data": [FILE], "has_more": True}), ok({"data": [{**FILE, "id": "file-2"}], "has_more": False}))
    assert [file.id for file in server.client().files.list(purpose="batch")] == ["file-1", "file-2"]
    assert dict(server.requests[1].url.params) == {"purpose": "batch", "after": "file-1"}


def test_waiting_ends_with_the_batch():
    server = script(ok(BATCH), ok(BATCH), ok({**BATCH, "status": "completed"}))
    seen = []
    batch = server.client().batches.wait("batch_1", poll=2.0, progress=lambda found: seen.append(found.status))
    assert (batch.ended, batch.request_counts.answered) == (True, 2)
    assert seen == ["in_progress", "in_progress", "completed"]
    assert server.waits == [2.0, 2.0]


async def test_the_asynchronous_client_waits_too():
    server = script(ok(BATCH), ok({**BATCH, "status": "failed"}))
    async with server.async_client() as client:
        assert (await client.batches.wait("batch_1")).status == "failed"


def test_waiting_can_have_an_end_of_its_own():
    with pytest.raises(TookTooLong):
        script(ok(BATCH)).client().batches.wait("batch_1", timeout=0)


def test_an_answer_in_one_piece_tells_its_cost():
    body = {
        "model": "tiny",
        "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 2},
    }
    server = script(ok(body, **{"x-skerry-cost": "0.0000123", "x-request-id": "req_1"}))
    answer = server.client().ask("tiny", [{"role": "user", "content": "Hi"}], max_tokens=5)
    assert (answer.text, answer.cost, answer.usage.prompt) == ("Hello", Decimal("0.0000123"), 12)
    assert answer.time_to_first_token is None
    assert "stream" not in json.loads(server.requests[0].content)


def test_a_logged_request_is_typed():
    row = {
        "id": "a1",
        "ended_at": "2026-01-01T00:00:00Z",
        "tokens": {"prompt": 1, "cached": 2, "completion": 3},
        "timings": {"queue_ms": 0.5, "first_token_ms": None, "total_ms": 12},
        "cost": {"amount": "0.1", "currency": "EUR"},
    }
    [found] = script(page([row])).client().requests.list()
    assert (found.tokens.cached, found.timings.total_ms, found.cost) == (2, 12.0, Money(Decimal("0.1"), "EUR"))
