"""The request log over HTTP."""

from datetime import UTC, datetime, timedelta

import pytest

from skerry.db.partitions import list_partitions
from skerry.kernel.ids import new_uuid7
from skerry.runtime.journal.records import AnswerRecord
from skerry.server.roles import controller

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture
async def logged(cloud, customer, clock):
    """An answer of the demo project's key, with its content."""
    whoami = (await customer.get("/api/v1/whoami")).json()
    end = (clock.now() - EPOCH) // timedelta(microseconds=1)
    record = AnswerRecord(
        id=new_uuid7(end // 1000).bytes, project=whoami["project_id"], key=whoami["key_id"], model="canary-model",
        endpoint="ep_1", replica="rep_1", site="local", capacity_class="on_demand", charge_by="tokens", prompt=7,
        cached=3, completion=5, egress_bytes=99, t0=end - 1_250_000, t1=end, counted="engine", status=200,
        cost_nano=1_500_000, stream=True, queue_us=1_500, first_us=250_000, batch="",
    )  # fmt: skip
    log = cloud.services.requests
    content = log.sealer.seal(record.id, record.project, end, b'{"model": "canary"}', "grüße\xff".encode("latin1"))
    async with cloud.services.db.transaction() as tx:
        await log.store(tx, [record], [content])
    return record


async def test_a_request_shows_its_timings_tokens_and_cost(customer, logged):
    (row,) = (await customer.get("/api/v1/requests")).json()["data"]
    assert row == {
        "id": logged.id.hex(),
        "started_at": "2025-12-31T23:59:58.750000Z",
        "ended_at": "2026-01-01T00:00:00Z",
        "model": "canary-model",
        "endpoint": "ep_1",
        "replica": "rep_1",
        "kind": "chat",
        "stream": True,
        "status": 200,
        "key": {"id": logged.key, "name": "default"},
        "batch": None,
        "tokens": {"prompt": 7, "cached": 3, "completion": 5},
        "counted": "engine",
        "egress_bytes": 99,
        "timings": {"queue_ms": 1.5, "first_token_ms": 250.0, "total_ms": 1250.0},
        "cost": {"amount": "0.0015", "currency": "USD"},
    }
    detail = (await customer.get(f"/api/v1/requests/{logged.id.hex()}")).json()
    assert {name: detail[name] for name in row} == row


async def test_content_is_shown_as_text_to_the_project_alone(customer, operator, logged):
    path = f"/api/v1/requests/{logged.id.hex()}"
    mine = (await customer.get(path)).json()
    assert mine["content"] == {
        "request": '{"model": "canary"}', "request_truncated": False,
        "answer": "gr\ufffd\ufffde\ufffd", "answer_truncated": False,
    }  # fmt: skip
    theirs = (await operator.get(path + "?project=default")).json()
    assert theirs["content"] is None
    assert theirs["content_reason"]["code"] == "not_yours" and theirs["content_reason"]["message"]
    assert theirs["model"] == "canary-model"


async def test_filters_come_from_the_query(customer, logged):
    async def count(query):
        answer = await customer.get(f"/api/v1/requests?{query}")
        assert answer.status_code == 200, answer.text
        return len(answer.json()["data"])

    assert await count("model=canary-model&key=default&status=2xx&min_ms=1000&q=canary&from=2026-01-01") == 1
    for query in (
        "model=x",
        "key=x",
        "status=499",
        "min_ms=1251",
        "q=x",
        "from=2026-01-02",
        "to=2026-01-01",
        "batch=b",
    ):
        assert await count(query) == 0, query
    wrong = await customer.get("/api/v1/requests?status=2x")
    assert (wrong.status_code, wrong.json()["errors"][0]["path"]) == (422, "status")


async def test_another_project_s_request_does_not_exist(cloud, operator, logged):
    for organization in ("demo", "elsewhere"):
        await operator.post("/api/v1/organizations", json={"name": "elsewhere"})
        await operator.post("/api/v1/projects", json={"name": f"lab-{organization}", "organization": organization})
        made = await operator.post(
            f"/api/v1/api-keys?project=lab-{organization}", json={"name": "k", "scopes": ["read", "write"]}
        )
        async with cloud.client(made.json()["key"]) as stranger:
            assert (await stranger.get("/api/v1/requests")).json()["data"] == []
            refused = await stranger.get(f"/api/v1/requests/{logged.id.hex()}")
            assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
            assert (await stranger.get("/api/v1/requests?project=demo/default")).status_code == 404


async def test_a_key_without_read_sees_no_requests(cloud, customer, logged):
    made = await customer.post("/api/v1/api-keys", json={"name": "caller", "scopes": ["inference", "write"]})
    async with cloud.client(made.json()["key"]) as caller:
        for path in ("/api/v1/requests", f"/api/v1/requests/{logged.id.hex()}"):
            assert (await caller.get(path)).json()["code"] == "missing_scope"


async def test_the_controller_keeps_the_log_s_house(cloud, customer, logged, clock):
    clock.advance(days=32)
    await controller._keep_house(cloud.services)
    assert (await customer.get("/api/v1/requests")).json()["data"] == []
    async with cloud.services.db.reading() as tx:
        assert any(day.start > clock.now() for day in await list_partitions(tx, "request_log"))
