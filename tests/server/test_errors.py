"""What callers get when something is wrong: one shape for each half of the API, and never the inside."""

import json

import httpx
import pytest
from sqlalchemy import text

from skerry.kernel.errors import RateLimited, Unavailable
from skerry.server.errors import render

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROBLEM = {"type", "title", "status", "code", "detail", "suggestion", "errors"}


@pytest.fixture
def cloud(shared_cloud):
    return shared_cloud


async def test_a_missing_key_is_a_problem_with_a_code(nobody):
    refused = await nobody.get("/api/v1/whoami")
    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["www-authenticate"] == "Bearer"
    body = refused.json()
    assert set(body) == PROBLEM and body["code"] == "missing_key" and body["status"] == 401 and body["suggestion"]


async def test_v1_answers_in_openai_s_shape(customer):
    refused = await customer.get("/v1/nothing/here")
    assert refused.status_code == 404 and refused.headers["content-type"] == "application/json"
    error = refused.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["code"] == "not_found"


@pytest.mark.parametrize("path", ["/nowhere", "/api/v1/nowhere", "/api/v1/projects/"])
async def test_unknown_routes_are_404_problems(customer, path):
    refused = await customer.get(path)
    assert refused.status_code == 404 and set(refused.json()) == PROBLEM


async def test_a_wrong_method_says_which_are_right(customer):
    refused = await customer.put("/api/v1/api-keys/key_1")
    assert refused.status_code == 405 and set(refused.json()) == PROBLEM
    assert refused.headers["allow"] == "DELETE, GET, PATCH"


BODIES = [
    (b"{", 400, "invalid_json"),
    (b"", 422, "invalid"),
    (b"[]", 422, "invalid"),
    (b'"x"', 422, "invalid"),
    (b"\xff\xfe{}", 400, "not_utf8"),
    (b'{"name": "\xed\xa0\x80"}', 400, "not_utf8"),
    (b'{"name": "a\x00b"}', 400, "nul_byte"),
    ('{"name": "x"}'.encode("utf-16-le"), 400, "nul_byte"),
    (b'{"name": "\\u0000", "scopes": ["read"]}', 422, "invalid"),
    (b'{"name": "\\ud800", "scopes": ["read"]}', 422, "invalid"),
    (b'{"name": "x", "scopes": ["read"], "\\udfff": 1}', 422, "invalid"),
    (b'{"name": "\\ud83d\\ude00", "scopes": ["read"]}', 201, None),
    (b'{"name": NaN, "scopes": ["read"]}', 422, "invalid"),
    (b'{"name": ' + b"1" * 5000 + b"}", 400, "malformed"),
    (b"[" * 30_000, 400, None),
    (b'{"name": "\\u0000", "x": ' + b"[" * 30_000, 400, None),
]


async def test_bodies_that_are_none(customer, subtests):
    for body, status, code in BODIES:
        with subtests.test(body=body[:60]):
            answer = await customer.post("/api/v1/api-keys", content=body, headers={"content-type": "application/json"})
            assert answer.status_code == status
            assert code is None or answer.json()["code"] == code


async def test_a_body_that_is_not_declared_as_json(customer):
    refused = await customer.post("/api/v1/api-keys", content=b'{"name": "x"}', headers={"content-type": "text/plain"})
    assert (refused.status_code, refused.json()["code"]) == (400, "not_json")


async def test_a_body_over_the_limit(customer):
    big = b"x" * (64 * 1024 + 1)
    assert (await customer.post("/api/v1/api-keys", content=big)).status_code == 413

    async def chunks():
        for _ in range(65):
            yield b"x" * 1024

    chunked = await customer.post("/api/v1/api-keys", content=chunks())
    assert chunked.status_code == 413 and chunked.json()["code"] == "too_large"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-length": "5", "transfer-encoding": "chunked"}, "ambiguous_length"),
        ({"content-length": "five"}, "bad_length"),
        ({"content-length": "-5"}, "bad_length"),
        ({"content-length": "9" * 5000}, "too_large"),
    ],
)
async def test_framing_that_is_ambiguous(customer, headers, code):
    refused = await customer.post("/api/v1/api-keys", content=b"12345", headers=headers)
    assert refused.json()["code"] == code


ADDRESSES = [
    "/api/v1/projects/%00",
    "/api/v1/projects?organization=%00",
    "/api/v1/api-keys?after=%00",
    "/api/v1/api-keys?after=nonsense",
    "/api/v1/api-keys?after=WyJcdWQ4MDAiXQ",
    "/api/v1/api-keys?after=" + "x" * 2000,
    "/api/v1/api-keys?limit=0",
    "/api/v1/api-keys?limit=501",
    "/api/v1/api-keys?limit=" + "9" * 40,
    "/api/v1/api-keys?limit=x",
    "/api/v1/api-keys?project=%ff",
    "/api/v1/api-keys?project=%ed%a0%80",
    "/api/v1/audit-events?after=WyJ4Il0",
    "/api/v1/audit-events?after=WyI5OTk5OTk5OTk5OTk5OTk5OTk5OTk5Il0",
    "/api/v1/events?after=WyJ4IiwgIjEiXQ",
    "/api/v1/events?after=WyIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsICI5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTkiXQ",
    "/api/v1/projects/" + "x" * 5000,
    "/api/v1/projects?x=" + "x" * 20_000,
]


async def test_addresses_that_are_none(operator, subtests):
    for path in ADDRESSES:
        with subtests.test(path=path[:80]):
            answer = await operator.get(path)
            assert 400 <= answer.status_code < 500 and set(answer.json()) >= PROBLEM


async def test_every_answer_has_a_request_id(customer, nobody):
    answers = [await customer.get("/api/v1/whoami"), await nobody.get("/api/v1/whoami"), await nobody.get("/nowhere")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == 3 and all(id.startswith("req_") for id in ids)


async def test_the_gateway_s_request_id_is_taken_if_it_is_well_formed(nobody):
    given = await nobody.get("/healthz", headers={"x-request-id": "0193a0f2-aaaa.bbbb"})
    assert given.headers["x-request-id"] == "0193a0f2-aaaa.bbbb"
    for bad in ("short", "with space in it", "x" * 200, "a\tb-12345678", "<script>alert(1)"):
        assert (await nobody.get("/healthz", headers={"x-request-id": bad})).headers["x-request-id"] != bad


async def test_an_accident_tells_nothing_but_where_to_look(cloud, customer, monkeypatch):
    async def broken(*_):
        raise ZeroDivisionError("secret words of the inside")

    monkeypatch.setattr(cloud.services.identity.keys, "list", broken)
    answer = await customer.get("/api/v1/api-keys")
    assert answer.status_code == 500 and answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] in answer.json()["suggestion"]
    assert "secret words" not in answer.text and "Zero" not in answer.text


async def test_a_database_that_is_away_is_503_with_retry_after(cloud, settings):
    from skerry.db.database import Database
    from skerry.server.app import create_app
    from skerry.server.compose import build

    away = Database("postgresql://nobody@127.0.0.1:1/none")
    app = create_app(build(settings, away, cloud.services.keyring), settings)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"authorization": f"Bearer {cloud.project_key}", "idempotency-key": "1"}
    async with httpx.AsyncClient(transport=transport, base_url="http://cloud", headers=headers) as client:
        for answer in (
            await client.get("/api/v1/whoami"),
            await client.get("/api/v1/events"),
            await client.post("/api/v1/api-keys", json={"name": "x", "scopes": ["read"]}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
            assert int(answer.headers["retry-after"]) >= 1
        assert (await client.get("/healthz")).status_code == 200
    await away.close()


async def test_values_that_slip_through_to_the_database_are_the_caller_s_fault(cloud, customer, monkeypatch):
    async def unlucky(*_):
        async with cloud.services.db.transaction() as tx:
            await tx.execute(text("SELECT CAST(:n AS integer)"), {"n": "99999999999999"})

    monkeypatch.setattr(cloud.services.identity.keys, "list", unlucky)
    answer = await customer.get("/api/v1/api-keys")
    assert (answer.status_code, answer.json()["code"]) == (400, "unstorable_value")


async def test_429_and_503_say_when_to_come_back():
    assert render(RateLimited("slower", retry_after=7), "/v1/x").headers["retry-after"] == "7"
    assert int(render(Unavailable("soon"), "/api/v1/x").headers["retry-after"]) > 0


async def test_extra_fields_never_hide_the_problem_s_own():
    body = json.loads(render(RateLimited("slower", extra={"quote": {"id": "qt_1"}, "status": 200}), "/api/v1/x").body)
    assert body["quote"] == {"id": "qt_1"} and body["status"] == 429


async def test_every_request_has_one_log_line_without_secrets_or_bodies(cloud, customer, logs):
    body = {"name": "words-of-the-customer", "scopes": ["read"]}
    made = await customer.post("/api/v1/api-keys?project=default", json=body)
    lines = [line for line in logs if line["event"] == "request"]
    assert len(lines) == 1
    assert (lines[0]["path"], lines[0]["status"], lines[0]["key"]) == (
        "/api/v1/api-keys",
        201,
        made.json()["created_by"],
    )
    text = json.dumps(logs, default=str)
    assert not [word for word in (cloud.project_key, made.json()["key"], "words-of-the-customer") if word in text]
