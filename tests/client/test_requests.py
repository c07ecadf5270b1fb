"""What goes out, and how the answers come back as values."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from skerry.client import BadAnswer, NotConfigured, Skerry
from skerry.client.answers.base import Money
from tests.client.fakes import ok, page, script

KEY = {"id": "key_1", "name": "ci", "scopes": ["inference"], "status": "active", "key": "sk-secret", "new_field": 1}
MONEY = {"amount": "0.0000123", "currency": "EUR"}
ROW = {"start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z", "meter": "tokens_prompt", "quantity": 7}
COST = {**ROW, "model": "tiny", "list_cost": MONEY, "contracted_cost": MONEY, "billed_cost": MONEY}
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("send", "method", "url", "body"),
    [
        (lambda c: c.whoami(), "GET", "/api/v1/whoami", None),
        (lambda c: list(c.models.list(limit=5)), "GET", "/api/v1/models?limit=5", None),
        (lambda c: c.models.get("org/model"), "GET", "/api/v1/models/org%2Fmodel", None),
        (
            lambda c: c.models.add(
                "m", source={"upstream": "https://u", "upstream_key": None}, price={"prompt": "0.1"}
            ),
            "POST",
            "/api/v1/models",
            {"name": "m", "source": {"upstream": "https://u"}, "price": {"prompt": "0.1"}},
        ),
        (
            lambda c: c.keys.create("ci", scopes=["read"], expires_at=START, limits={"requests_per_minute": 5}),
            "POST",
            "/api/v1/api-keys",
            {
                "name": "ci",
                "scopes": ["read"],
                "expires_at": "2026-01-01T00:00:00Z",
                "limits": {"requests_per_minute": 5},
            },
        ),
        (
            lambda c: c.keys.rotate("key_1", grace_seconds=60),
            "POST",
            "/api/v1/api-keys/key_1/rotate",
            {"grace_seconds": 60},
        ),
        (
            lambda c: c.budgets.create({"key": "key_1"}, amount=Decimal("1E+1"), currency="EUR", window="day"),
            "POST",
            "/api/v1/budgets",
            {"target": {"key": "key_1"}, "limit": {"amount": "10", "currency": "EUR"}, "window": "day"},
        ),
        (
            lambda c: list(c.usage(start=START, group_by=["model", "tag:team"], bucket="day")),
            "GET",
            "/api/v1/usage?from=2026-01-01T00%3A00%3A00Z&group_by=model%2Ctag%3Ateam&bucket=day",
            None,
        ),
        (
            lambda c: list(c.usage(end=datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))))),
            "GET",
            "/api/v1/usage?to=2026-01-01T00%3A00%3A00Z",
            None,
        ),
    ],
)
def test_requests(send, method, url, body):
    everything = {**KEY, **COST, "id": "x", "name": "m", "limit": MONEY, "data": [], "next_cursor": None}
    server = script(ok(everything))
    send(server.client())
    [request] = server.requests
    assert (request.method, request.url.raw_path.decode()) == (method, url)
    assert (json.loads(request.content) if request.content else None) == body
    assert request.headers["authorization"] == "Bearer sk-test"
    assert ("idempotency-key" in request.headers) == (method == "POST")


def test_answers_are_typed_and_keep_what_the_client_does_not_know():
    key = script(ok(KEY)).client().keys.get("key_1")
    assert (key.name, key.scopes, key.key, key.raw["new_field"]) == ("ci", ("inference",), "sk-secret", 1)


def test_a_secret_is_not_in_the_repr():
    assert "sk-secret" not in repr(script(ok(KEY)).client().keys.get("key_1"))


def test_money_is_exact_and_groups_are_at_hand():
    [row] = script(page([COST])).client().costs(group_by=["model"])
    assert row.billed_cost == Money(Decimal("0.0000123"), "EUR")
    assert (row.quantity, row.by("model"), row.by("site")) == (7, "tiny", "")
    assert row.start == START


def test_lists_follow_the_cursor_and_keep_their_query():
    server = script(page([KEY], "next"), page([{**KEY, "id": "key_2"}]))
    ids = [key.id for key in server.client().keys.list(limit=1)]
    assert ids == ["key_1", "key_2"]
    assert [dict(request.url.params) for request in server.requests] == [
        {"limit": "1"},
        {"limit": "1", "after": "next"},
    ]


def test_pages_are_fetched_as_they_are_needed():
    server = script(page([KEY], "next"))
    assert next(server.client().keys.list()).id == "key_1"
    assert len(server.requests) == 1


def test_the_project_goes_with_the_control_api_only():
    server = script(page([]))
    client = server.client(project="demo/default")
    list(client.models.list())
    list(client.models.callable())
    assert [dict(request.url.params) for request in server.requests] == [{"project": "demo/default"}, {}]


async def test_the_asynchronous_client_does_the_same():
    server = script(page([KEY], "next"), page([{**KEY, "id": "key_2"}]), ok(KEY))
    async with server.async_client() as client:
        assert [key.id async for key in client.keys.list()] == ["key_1", "key_2"]
        assert (await client.keys.create("ci", scopes=["read"])).key == "sk-secret"
    assert "idempotency-key" in server.requests[-1].headers


@pytest.mark.parametrize("answer", [ok({"unexpected": 1}), ok([1]), ok({"id": 5})])
def test_what_is_not_an_answer_of_the_api_is_said_so(answer):
    with pytest.raises(BadAnswer, match="GET /api/v1/api-keys/k answered 200"):
        script(answer).client().keys.get("k")


@pytest.mark.parametrize(
    ("url", "key"),
    [("cloud.test", "sk"), ("ftp://x", "sk"), ("http://", "sk"), ("http://x", "sk-\n"), ("http://x", "sk-é")],
)
def test_a_wrong_address_or_key_is_refused_before_anything_is_sent(url, key):
    with pytest.raises(NotConfigured):
        Skerry(url, key)


def test_not_ready_is_an_answer():
    health = script(ok({"status": "not_ready", "reasons": {"database": "away"}}, 503)).client().status.ready()
    assert not health.ready
    assert health.reasons == {"database": "away"}
