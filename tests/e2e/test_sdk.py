"""The official SDK against the real model: what works with OpenAI works here."""

import asyncio
from decimal import Decimal

import openai
import pytest

from tests.cloud import MODEL, Cloud
from tests.e2e.conftest import SCRIPTED
from tests.e2e.scripted import FakeUpstream

pytestmark = pytest.mark.cloud

ASK = [{"role": "user", "content": "Name three birds."}]


def test_chat_answers(cloud: Cloud) -> None:
    answer = cloud.sdk().chat.completions.create(model=MODEL, messages=ASK, max_tokens=8)
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert 0 < answer.usage.completion_tokens <= 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_same_seed_same_answer(cloud: Cloud) -> None:
    client = cloud.sdk()
    answers = [
        client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=8, temperature=0, seed=7)
        .choices[0].message.content
        for _ in range(2)
    ]  # fmt: skip
    assert answers[0] == answers[1]


def test_stop_ends_the_answer(cloud: Cloud) -> None:
    counting = [{"role": "user", "content": "Repeat exactly: one two three four five"}]
    answer = cloud.sdk().chat.completions.create(
        model=MODEL, messages=counting, max_tokens=16, temperature=0, stop=["three"]
    )
    assert "three" not in (answer.choices[0].message.content or "")


def test_stream_comes_in_pieces(cloud: Cloud) -> None:
    chunks = list(cloud.sdk().chat.completions.create(model=MODEL, messages=ASK, max_tokens=8, stream=True))
    pieces = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert len(pieces) > 1
    assert [c.finish_reason for chunk in chunks for c in chunk.choices][-1] in ("length", "stop")
    assert all(chunk.model == MODEL for chunk in chunks)


def test_stream_without_include_usage_has_no_usage_chunk(cloud: Cloud) -> None:
    chunks = list(cloud.sdk().chat.completions.create(model=MODEL, messages=ASK, max_tokens=2, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_usage_in_stream_has_tokens_and_cost(cloud: Cloud) -> None:
    chunks = list(
        cloud.sdk().chat.completions.create(
            model=MODEL, messages=ASK, max_tokens=8, stream=True, stream_options={"include_usage": True}
        )
    )
    last = chunks[-1]
    assert last.choices == []
    assert last.usage is not None
    assert 0 < last.usage.completion_tokens <= 8
    assert (last.model_extra or {})["skerry"]["currency"] == "USD"
    assert Decimal((last.model_extra or {})["skerry"]["cost"]) > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_completions_answer(cloud: Cloud) -> None:
    answer = cloud.sdk().completions.create(model=MODEL, prompt="The sea is", max_tokens=6)
    assert answer.object == "text_completion"
    assert answer.choices[0].text
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 6


def test_completions_stream(cloud: Cloud) -> None:
    chunks = list(
        cloud.sdk().completions.create(
            model=MODEL, prompt="The sea is", max_tokens=6, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


def test_models_are_listed_and_found(cloud: Cloud) -> None:
    client = cloud.sdk()
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).owned_by
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_raw_answer_names_request_replica_limits_and_cost(cloud: Cloud) -> None:
    raw = cloud.sdk().chat.completions.with_raw_response.create(model=MODEL, messages=ASK, max_tokens=2)
    for name in ("x-request-id", "x-skerry-replica", "x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens"):
        assert raw.headers.get(name), name
    assert Decimal(raw.headers["x-skerry-cost"]) > 0
    assert raw.parse()._request_id == raw.headers["x-request-id"]


async def test_async_chat_and_stream_at_once(cloud: Cloud) -> None:
    async with cloud.async_sdk() as client:

        async def stream() -> str:
            answer = await client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=6, stream=True)
            return "".join([c.delta.content or "" async for chunk in answer for c in chunk.choices])

        plain, streamed = await asyncio.gather(
            client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=6), stream()
        )
    assert plain.choices[0].message.content
    assert streamed


async def test_many_at_once_each_get_their_own_answer(cloud: Cloud, upstream: FakeUpstream) -> None:
    async def echo(exchange) -> None:
        said = exchange.body["messages"][0]["content"]
        answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}]}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        await exchange.json({"model": exchange.body["model"], "usage": usage, **answer})

    upstream.default = echo
    async with cloud.async_sdk() as client:
        answers = await asyncio.gather(
            *(
                client.chat.completions.create(
                    model=SCRIPTED, messages=[{"role": "user", "content": f"number {n}"}], max_tokens=4
                )
                for n in range(100)
            )
        )
    assert [answer.choices[0].message.content for answer in answers] == [f"number {n}" for n in range(100)]
