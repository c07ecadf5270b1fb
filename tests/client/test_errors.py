"""Refusals as exceptions, and when a request is sent again."""

import httpx
import pytest

from skerry.client import (
    ApiError,
    Conflict,
    FieldError,
    Forbidden,
    Invalid,
    Malformed,
    NoCapacity,
    NotFound,
    NotReachable,
    PaymentRequired,
    RateLimited,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from tests.client.fakes import ok, problem, script

KEY = {"id": "key_1", "name": "ci"}
CREATED = ok(KEY)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Malformed),
        (401, Unauthorized),
        (402, PaymentRequired),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (422, Invalid),
        (429, RateLimited),
        (503, Unavailable),
        (507, NoCapacity),
        (500, ApiError),
    ],
)
def test_each_status_has_its_error(status, kind):
    with pytest.raises(ApiError) as caught:
        script(problem(status, **{"suggestion": "Do this."})).client().whoami()
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code) == (status, "some_code")
    assert (caught.value.detail, caught.value.suggestion) == ("What happened.", "Do this.")


def test_fields_at_fault_come_with_the_error():
    errors = [{"path": "limits.budget", "code": "bad", "message": "too small"}]
    with pytest.raises(Invalid) as caught:
        script(problem(422, errors=errors)).client().whoami()
    assert caught.value.errors == (FieldError("limits.budget", "bad", "too small"),)


def test_openai_errors_are_the_same_tree():
    body = {
        "error": {"message": "No such model.", "type": "not_found_error", "param": "model", "code": "unknown_model"}
    }
    with pytest.raises(NotFound) as caught:
        list(script(ok(body, 404, **{"x-request-id": "req_9"})).client().models.callable())
    error = caught.value
    assert (error.detail, error.code, error.problem.param, error.request_id) == (
        "No such model.",
        "unknown_model",
        "model",
        "req_9",
    )


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (httpx.Response(502, text="Bad gateway says the proxy"), "Bad gateway says the proxy"),
        (httpx.Response(500), "Internal Server Error"),
        (httpx.Response(418, json=[1, 2]), "[1,2]"),
        (httpx.Response(599, json={"error": "words"}), '{"error":"words"}'),
    ],
)
def test_an_error_that_is_not_ours_is_shown_as_it_is(answer, detail):
    with pytest.raises(ApiError) as caught:
        script(answer).client().whoami()
    assert caught.value.detail == detail


@pytest.mark.parametrize(
    ("failures", "send", "sent"),
    [
        # What never arrived is sent again, whatever it is; what may have arrived only if twice is once.
        ([httpx.ConnectError("refused")], lambda c: c.keys.get("k"), 2),
        ([httpx.ConnectError("refused")] * 9, lambda c: c.keys.get("k"), 3),
        ([httpx.ReadError("reset")], lambda c: c.keys.get("k"), 2),
        ([httpx.ReadError("reset")], lambda c: c.keys.create("k", scopes=[]), 2),
        ([httpx.ReadTimeout("slow")], lambda c: c.keys.get("k"), 2),
        ([problem(503)], lambda c: c.keys.create("k", scopes=[]), 2),
        ([problem(503)], lambda c: c.keys.get("k"), 2),
        ([problem(503)] * 9, lambda c: c.keys.get("k"), 3),
        ([problem(500)], lambda c: c.keys.get("k"), 1),
        ([problem(429)], lambda c: c.keys.get("k"), 1),
        ([httpx.ConnectError("refused")], lambda c: c.chat("m", []).close(), 2),
        ([httpx.ReadError("reset")], lambda c: c.chat("m", []), 1),
        ([problem(503)], lambda c: c.chat("m", []), 1),
    ],
)
def test_retries(failures, send, sent):
    server = script(*failures, CREATED)
    succeeds = sent == len(failures) + 1
    if succeeds:
        send(server.client())
    else:
        with pytest.raises((NotReachable, ApiError)):
            send(server.client())
    assert len(server.requests) == sent
    assert len(server.waits) == sent - 1


def test_every_try_of_a_create_has_the_same_idempotency_key():
    server = script(httpx.ReadError("reset"), problem(503), CREATED)
    server.client().keys.create("k", scopes=["read"])
    keys = {request.headers["idempotency-key"] for request in server.requests}
    assert len(server.requests) == 3
    assert len(keys) == 1


def test_two_creates_have_two_keys():
    server = script(CREATED)
    for _ in range(2):
        server.client().keys.create("k", scopes=["read"])
    first, second = (request.headers["idempotency-key"] for request in server.requests)
    assert first != second


@pytest.mark.parametrize(
    ("header", "waits"),
    [
        ({"retry-after": "2"}, [2.0]),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, [0.0]),
        ({"retry-after": "soon"}, [pytest.approx(0.19, abs=0.07)]),
        ({"retry-after": "3600"}, []),
    ],
)
def test_the_server_says_how_long_to_wait(header, waits):
    busy = problem(503)
    busy.headers.update(header)
    server = script(busy, CREATED)
    if waits:
        server.client().keys.get("k")
    else:
        with pytest.raises(Unavailable) as caught:
            server.client().keys.get("k")
        assert caught.value.retry_after == 3600
    assert server.waits == waits


async def test_the_asynchronous_client_retries_too():
    server = script(httpx.ConnectError("refused"), problem(503), CREATED)
    async with server.async_client() as client:
        assert (await client.keys.get("k")).id == "key_1"
    assert len(server.waits) == 2


def test_no_answer_names_the_address():
    with pytest.raises(NotReachable, match=r"Cannot connect to http://cloud\.test: refused"):
        script(httpx.ConnectError("refused")).client().whoami()
