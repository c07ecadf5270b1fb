"""The request just made is found in usage and in costs, exactly."""

from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest

from tests.cloud import MODEL, Cloud, eventually_equal
from tests.e2e.conftest import SCRIPTED
from tests.e2e.reading import records
from tests.e2e.scripted import FakeUpstream

pytestmark = pytest.mark.cloud

ASK = [{"role": "user", "content": "Name a bird."}]
SECONDS = 30.0


def test_what_the_client_saw_is_what_is_counted_and_priced(cloud: Cloud) -> None:
    key = cloud.new_key("exact")
    client = cloud.sdk(key["key"])
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=ASK, max_tokens=6)
    plain = raw.parse()
    streamed = list(
        client.chat.completions.create(
            model=MODEL, messages=ASK, max_tokens=6, stream=True, stream_options={"include_usage": True}
        )
    )[-1]
    text = client.completions.with_raw_response.create(model=MODEL, prompt="Gulls", max_tokens=6)
    seen = [plain.usage, streamed.usage, text.parse().usage]
    cost = sum(map(Decimal, (raw.headers["x-skerry-cost"], streamed.skerry["cost"], text.headers["x-skerry-cost"])))
    tokens = {
        "requests": 3,
        "prompt": sum(usage.prompt_tokens for usage in seen),
        "tokens_completion": sum(usage.completion_tokens for usage in seen),
    }
    eventually_equal(lambda: _used(_rows(cloud, "usage", "key,model", key["id"], MODEL)), tokens, SECONDS)
    eventually_equal(lambda: _used(_rows(cloud, "costs", "key,model", key["id"], MODEL)), tokens, SECONDS)
    rows = _rows(cloud, "costs", "key", key["id"])
    for kind in ("list_cost", "contracted_cost", "billed_cost"):
        assert sum(Decimal(row[kind]["amount"]) for row in rows) == cost
    assert {row[kind]["currency"] for row in rows} == {"USD"}
    assert raw.headers["x-request-id"] in [found.id for found in records(cloud, key["id"])]


def test_cached_tokens_are_counted_and_priced_apart(cloud: Cloud, upstream: FakeUpstream) -> None:
    async def cached(exchange) -> None:
        details = {"prompt_tokens_details": {"cached_tokens": 60}}
        usage = {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105, **details}
        choice = {"index": 0, "message": {"role": "assistant", "content": "skua"}, "finish_reason": "stop"}
        await exchange.json({"model": exchange.body["model"], "choices": [choice], "usage": usage})

    upstream.default = cached
    key = cloud.new_key("cached")
    raw = cloud.sdk(key["key"]).chat.completions.with_raw_response.create(model=SCRIPTED, messages=ASK, max_tokens=5)
    eventually_equal(lambda: [found.tokens for found in records(cloud, key["id"])], [(40, 60, 5)], SECONDS)
    cost = Decimal("0.04") + Decimal("0.006") + Decimal("0.01")
    assert Decimal(raw.headers["x-skerry-cost"]) == cost

    def billed() -> dict[str, Decimal]:
        rows = _rows(cloud, "costs", "key", key["id"])
        return {row["meter"]: Decimal(row["billed_cost"]["amount"]) for row in rows if row["meter"].startswith("tok")}

    by_meter = {"tokens_prompt": "0.04", "tokens_cached": "0.006", "tokens_completion": "0.01"}
    eventually_equal(billed, {meter: Decimal(text) for meter, text in by_meter.items()}, SECONDS)


def test_hundred_answers_are_hundred_requests(cloud: Cloud, upstream: FakeUpstream) -> None:
    key = cloud.new_key("hundred")
    client = cloud.sdk(key["key"])
    for _ in range(100):
        client.chat.completions.create(model=SCRIPTED, messages=ASK, max_tokens=3)
    wanted = {"requests": 100, "prompt": 900, "tokens_completion": 300}
    eventually_equal(lambda: _used(_rows(cloud, "usage", "key", key["id"])), wanted, SECONDS)


def test_refused_requests_are_not_counted(cloud: Cloud, upstream: FakeUpstream) -> None:
    key = cloud.new_key("refused")
    headers = cloud.bearer(key["key"])
    for body in ({"model": "none", "messages": ASK}, {"model": SCRIPTED, "messages": ASK, "temperature": 99}):
        assert cloud._client.post("/v1/chat/completions", json=body, headers=headers).status_code >= 400
    cloud.sdk(key["key"]).chat.completions.create(model=SCRIPTED, messages=ASK, max_tokens=3)
    eventually_equal(lambda: [found.requests for found in records(cloud, key["id"])], [1], SECONDS)


def test_read_key_sees_usage_and_needs_no_operator(cloud: Cloud) -> None:
    key = cloud.new_key("reader", "read", "billing")["key"]
    assert cloud.get("/api/v1/usage", key).status_code == 200
    assert cloud.get("/api/v1/costs", key).status_code == 200
    assert cloud.get("/api/v1/usage", cloud.new_key("caller", "inference")["key"]).status_code == 403


def _rows(cloud: Cloud, what: str, group_by: str, key: str, model: str | None = None) -> list[dict[str, Any]]:
    rows = cloud.get(f"/api/v1/{what}", group_by=group_by, limit="500").json()["data"]
    return [row for row in rows if row["key"] == key and (model is None or row["model"] == model)]


def _used(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Quantities by meter; prompt tokens with the cached ones, as clients see them."""
    sums: dict[str, int] = defaultdict(int)
    for row in rows:
        meter = "prompt" if row["meter"] in ("tokens_prompt", "tokens_cached") else row["meter"]
        sums[meter] += row["quantity"]
    sums.pop("egress_bytes", None)
    return dict(sums)
