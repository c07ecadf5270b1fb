"""Every refusal is OpenAI-shaped and names the parameter."""

import json

import pytest

from skerry.identity.model import KeyLimits
from tests.gateway.harness import key

MESSAGES = [{"role": "user", "content": "hi"}]
GOOD = {"model": "fake", "messages": MESSAGES}

BODIES = [
    (b"{", 400, None, "invalid_json"),
    (b"", 400, None, "invalid_json"),
    (b"[]", 400, None, "invalid_json"),
    (b"\xff\xfe", 400, None, "invalid_json"),
    (b'{"model":' + b"[" * 50_000, 400, "model", None),
    ({"messages": MESSAGES}, 400, "model", "missing_required_parameter"),
    ({"model": "fake"}, 400, "messages", "missing_required_parameter"),
    (GOOD | {"model": "nope"}, 404, "model", "model_not_found"),
    (GOOD | {"model": 7}, 400, "model", "invalid_value"),
    (GOOD | {"messages": []}, 400, "messages", "invalid_value"),
    (GOOD | {"messages": [{"role": "pirate", "content": "x"}]}, 400, "messages.0.role", "invalid_value"),
    (GOOD | {"messages": [{"role": "user", "content": 3}]}, 400, "messages.0.content", "invalid_value"),
    (GOOD | {"temperature": 3}, 400, "temperature", "invalid_value"),
    (GOOD | {"temperature": "hot"}, 400, "temperature", "invalid_value"),
    (GOOD | {"top_p": -1}, 400, "top_p", "invalid_value"),
    (GOOD | {"n": 0}, 400, "n", "invalid_value"),
    (GOOD | {"max_tokens": 0}, 400, "max_tokens", "invalid_value"),
    (GOOD | {"max_tokens": 1.5}, 400, "max_tokens", "invalid_value"),
    (GOOD | {"max_tokens": 10**30}, 400, "max_tokens", "invalid_value"),
    (GOOD | {"max_tokens": 8193}, 400, "max_tokens", "context_length_exceeded"),
    (GOOD | {"max_completion_tokens": 8193}, 400, "max_completion_tokens", "context_length_exceeded"),
    (GOOD | {"stop": ["a"] * 5}, 400, "stop", "invalid_value"),
    (GOOD | {"stream": "yes"}, 400, "stream", "invalid_value"),
    (GOOD | {"stream_options": {"include_usage": True}}, 400, "stream_options", "invalid_value"),
    (GOOD | {"logit_bias": {"1": 1}}, 400, "logit_bias", "unsupported_parameter"),
    (GOOD | {"reasoning_effort": "low"}, 400, "reasoning_effort", "unsupported_parameter"),
    (GOOD | {"lora": [{"id": 0, "scale": 1}]}, 400, "lora", "unknown_parameter"),
    (GOOD | {"id_slot": 0}, 400, "id_slot", "unknown_parameter"),
    (GOOD | {"cache_prompt": True}, 400, "cache_prompt", "unknown_parameter"),
    (GOOD | {"grammar": "root"}, 400, "grammar", "unknown_parameter"),
]


@pytest.mark.parametrize("body,status,param,code", BODIES)
async def test_bad_chat_body_is_refused_by_name(bench, client, fake, body, status, param, code):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await client.post("/v1/chat/completions", content=content)
    error = answer.json()["error"]
    assert answer.status_code == status
    assert error["param"] == param
    assert code is None or error["code"] == code
    assert error["type"] and error["message"]
    assert fake.seen == [] and bench.records() == []


async def test_unknown_model_is_told_which_there_are(client):
    error = (await client.post("/v1/chat/completions", json=GOOD | {"model": "x"})).json()["error"]
    assert "fake" in error["message"]


async def test_too_many_tokens_names_both_numbers(client):
    error = (await client.post("/v1/chat/completions", json=GOOD | {"max_tokens": 9999})).json()["error"]
    assert "9999" in error["message"] and "8192" in error["message"]


@pytest.mark.parametrize("prompt", ["", [], ["a", 1], [[1], "a"], {"a": 1}, 5])
async def test_bad_prompts(client, prompt):
    answer = await client.post("/v1/completions", json={"model": "fake", "prompt": prompt})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("prompt")


async def test_no_key(client):
    answer = await client.post("/v1/chat/completions", json=GOOD, headers={"authorization": ""})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "missing_key")


async def test_body_over_the_limit(bench, client):
    bench.gateway.max_body = 1000
    answer = await client.post("/v1/chat/completions", content=b"x" * 1001)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


async def test_compressed_body_is_refused(client):
    answer = await client.post("/v1/chat/completions", content=b"x", headers={"content-encoding": "gzip"})
    assert answer.status_code == 415


async def test_caller_over_its_rate_gets_429_with_the_time_to_wait(bench, client):
    bench.keys(key("sk-slow", limits=KeyLimits(requests_per_minute=2)))
    headers = {"authorization": "Bearer sk-slow"}
    answers = [await client.post("/v1/chat/completions", json=GOOD, headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30
    assert answers[1].headers["x-ratelimit-remaining-requests"] == "0"


async def test_tokens_used_count_against_the_next_minute(bench, client):
    bench.keys(key("sk-few", limits=KeyLimits(tokens_per_minute=10)))
    headers = {"authorization": "Bearer sk-few"}
    answers = [await client.post("/v1/chat/completions", json=GOOD, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
