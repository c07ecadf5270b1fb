"""`/v1/batches` over HTTP, as OpenAI's clients see it."""

import json

import openai
import pytest
from openai.types import Batch as OpenAIBatch

from tests.batches.conftest import rows
from tests.server.conftest import cloud, customer, services, settings  # noqa: F401


@pytest.fixture
async def file(customer) -> str:  # noqa: F811
    return await upload(customer)


async def upload(client, count: int = 2) -> str:
    content = "\n".join(json.dumps(one) for one in rows(count))
    answer = await client.post("/v1/files", files={"file": ("in.jsonl", content)}, data={"purpose": "batch"})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def body(file: str, **more) -> dict:
    return {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h", **more}


async def test_a_batch_reads_as_openai_s_does(customer, file) -> None:  # noqa: F811
    made = await customer.post("/v1/batches", json=body(file, metadata={"for": "me"}))
    assert made.status_code == 200, made.text
    batch = OpenAIBatch.model_validate(made.json())
    assert (batch.object, batch.status, batch.input_file_id) == ("batch", "validating", file)
    assert batch.metadata == {"for": "me"}
    assert batch.expires_at - batch.created_at == 24 * 3600
    assert made.json()["actions"]["cancel"] == {"available": True, "why_not": None}
    assert made.json()["skerry"] == {"cost": "0", "currency": "USD"}
    assert (await customer.get(f"/v1/batches/{batch.id}")).json() == made.json()
    assert (await customer.get("/v1/batches")).json()["data"] == [made.json()]
    cancelled = await customer.post(f"/v1/batches/{batch.id}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelling")
    events = (await customer.get(f"/api/v1/batches/{batch.id}/events")).json()["data"]
    assert [event["type"] for event in events] == ["batch.created", "batch.cancelling"]


async def test_the_official_client_lists_page_by_page(cloud, customer) -> None:  # noqa: F811
    ids = [(await customer.post("/v1/batches", json=body(await upload(customer)))).json()["id"] for _ in range(5)]
    client = openai.AsyncOpenAI(api_key="sk-x", base_url="http://cloud/v1", http_client=customer, max_retries=0)
    client.api_key = cloud.project_key
    seen = [batch.id async for batch in client.batches.list(limit=2)]
    assert seen == sorted(ids, reverse=True)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"endpoint": "/v1/responses"}, "endpoint"),
        ({"completion_window": "tomorrow"}, "completion_window"),
        ({"metadata": {"a" * 65: "b"}}, "metadata"),
        ({"metadata": {str(n): "b" for n in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3600}}, "output_expires_after"),
        ({"input_file_id": None}, "input_file_id"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(customer, file, changes, param) -> None:  # noqa: F811
    answer = await customer.post("/v1/batches", json={**body(file), **changes})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(param)


async def test_what_is_not_there_is_not_found(customer) -> None:  # noqa: F811
    assert (await customer.post("/v1/batches", json=body("file-nothing"))).status_code == 404
    assert (await customer.get("/v1/batches/batch_nothing")).status_code == 404
    assert (await customer.post("/v1/batches/batch_nothing/cancel")).status_code == 404


async def test_the_same_key_twice_makes_one_batch(customer, file) -> None:  # noqa: F811
    headers = {"idempotency-key": "once"}
    first = await customer.post("/v1/batches", json=body(file), headers=headers)
    again = await customer.post("/v1/batches", json=body(file), headers=headers)
    assert (first.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    other = await customer.post("/v1/batches", json=body(file, metadata={"a": "b"}), headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")
    assert len((await customer.get("/v1/batches")).json()["data"]) == 1


async def test_a_dry_run_starts_nothing(customer, file) -> None:  # noqa: F811
    answer = await customer.post("/v1/batches?dry_run=true", json=body(file))
    assert answer.status_code == 200
    told = answer.json()
    assert (told["rows"], told["models"], told["unknown_models"]) == (2, {"smol": 2}, ["smol"])
    assert told["highest_cost"] == {"amount": "0", "currency": "USD"}
    assert (await customer.get("/v1/batches")).json()["data"] == []


async def test_a_key_needs_the_scope_inference(cloud, customer, file) -> None:  # noqa: F811
    made = await customer.post("/api/v1/api-keys", json={"name": "reader", "scopes": ["read"]})
    async with cloud.client(made.json()["key"]) as reader:
        for method, path in (("POST", "/v1/batches"), ("GET", "/v1/batches"), ("GET", "/v1/batches/batch_1")):
            answer = await reader.request(method, path, json=body(file))
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "missing_scope")
