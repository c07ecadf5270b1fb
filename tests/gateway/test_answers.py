"""What a client gets, and what is written down for it."""

import asyncio
import json

import httpx
import pytest

from skerry.inference.model import EndpointStatus
from tests.gateway.harness import KEY, Purse, key, route, running
from tests.gateway.upstream import upstream, usage

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


def events(text: str) -> list:
    return [
        json.loads(line[6:]) if line != "data: [DONE]" else "DONE"
        for line in text.split("\n")
        if line.startswith("data:")
    ]


async def test_plain_answer_is_recorded_with_the_tokens_the_client_saw(bench, client):
    answer = await client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 200
    assert answer.json()["usage"]["prompt_tokens"] == 9
    [record] = bench.records()
    assert (record.prompt, record.cached, record.completion) == (9, 0, 3)
    assert record.id.hex() == answer.headers["x-request-id"]
    assert record.counted == "engine"
    assert record.egress_bytes == len(answer.content)
    assert record.status == 200


async def test_cost_on_the_answer_is_exact(bench, client):
    answer = await client.post("/v1/chat/completions", json=CHAT)
    assert answer.headers["x-skerry-cost"] == "0.00000075"  # 9 × 50 + 3 × 100 per 10⁹


async def test_cached_tokens_are_counted_apart(bench, client, fake):
    async def cached(exchange):
        await exchange.json({"model": "fake", "choices": [{}], "usage": usage(100, 3, 90)})

    fake.scripts.append(cached)
    answer = await client.post("/v1/chat/completions", json=CHAT)
    [record] = bench.records()
    assert (record.prompt, record.cached) == (10, 90)
    assert answer.headers["x-skerry-cost"] == "0.00000305"


async def test_stream_without_usage_asked_hides_the_usage_chunk(bench, client):
    answer = await client.post("/v1/chat/completions", json=CHAT | {"stream": True})
    got = events(answer.text)
    assert got[-1] == "DONE"
    assert all("usage" not in event for event in got[:-1])
    [record] = bench.records()
    assert (record.prompt, record.completion, record.counted) == (9, 3, "engine")


async def test_stream_with_usage_carries_the_cost(bench, client):
    body = CHAT | {"stream": True, "stream_options": {"include_usage": True}}
    got = events((await client.post("/v1/chat/completions", json=body)).text)
    assert got[-2]["usage"]["completion_tokens"] == 3
    assert got[-2]["skerry"] == {"cost": "0.00000075", "currency": "USD"}


async def test_record_is_there_before_the_last_byte(bench, client, fake):
    async with client.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as answer:
        async for line in answer.aiter_lines():
            if line == "data: [DONE]":
                assert len(bench.records()) == 1


async def test_upstream_gets_our_words_not_the_clients_bytes(bench, client, fake):
    await client.post("/v1/chat/completions", json=CHAT | {"user": "u", "metadata": {"a": "b"}, "stop": None})
    assert fake.seen[0].body == {"model": "fake", "messages": CHAT["messages"], "max_tokens": 5}
    assert fake.seen[0].headers["authorization"] == "Bearer replica-key"


async def test_upstream_model_name_stays_inside(bench, client, fake):
    bench.routes(route(fake.url, name="nice", upstream="org/ugly"))
    body = CHAT | {"model": "nice"}
    answer = await client.post("/v1/chat/completions", json=body)
    assert fake.seen[0].body["model"] == "org/ugly"
    assert answer.json()["model"] == "nice"
    stream = await client.post(
        "/v1/chat/completions", json=body | {"stream": True, "stream_options": {"include_usage": True}}
    )
    assert {event["model"] for event in events(stream.text)[:-1]} == {"nice"}


async def test_text_completion(bench, client):
    answer = await client.post("/v1/completions", json={"model": "fake", "prompt": "hi", "max_tokens": 3})
    assert answer.json()["choices"][0]["text"] == " skua skua skua"
    assert len(bench.records()) == 1


async def test_rate_headers_and_replica_are_shown(bench, client):
    answer = await client.post("/v1/chat/completions", json=CHAT)
    for name in ("limit", "remaining", "reset"):
        assert f"x-ratelimit-{name}-requests" in answer.headers
        assert f"x-ratelimit-{name}-tokens" in answer.headers
    assert answer.headers["x-skerry-replica"] == "rep_0"


async def test_dead_replica_before_the_first_byte_is_replaced_by_another(bench, client, fake):
    bench.routes(route("http://127.0.0.1:1/v1", fake.url))
    for _ in range(4):
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
    assert len(bench.records()) == 4


async def test_stale_connection_is_retried_on_a_new_one(bench, client, fake):
    async def answer_then_close(exchange):
        await exchange.json({"model": "fake", "choices": [{}], "usage": usage()})

    async def close_at_once(exchange):
        exchange.die()

    fake.scripts.extend([answer_then_close, close_at_once])
    assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
    assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
    assert len(bench.records()) == 2


async def test_replica_dying_in_the_stream_ends_it_with_an_error_and_charges_what_was_delivered(bench, client, fake):
    async def dies(exchange):
        await exchange.stream_head()
        await exchange.token()
        await exchange.token()
        await asyncio.sleep(0.05)
        exchange.die()

    fake.scripts.append(dies)
    answer = await client.post("/v1/chat/completions", json=CHAT | {"stream": True})
    got = events(answer.text)
    assert got[-1]["error"]["code"] == "replica_failed"
    [record] = bench.records()
    assert (record.completion, record.counted, record.status) == (2, "gateway", 502)


@pytest.mark.parametrize("status,expected", [(500, 503), (401, 503), (404, 503), (429, 503), (503, 503)])
async def test_refusals_of_the_replica_that_are_ours(bench, client, fake, status, expected):
    async def refuse(exchange):
        await exchange.json({"error": {"message": "secret inside"}}, status)

    fake.scripts.append(refuse)
    answer = await client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == expected
    assert "retry-after" in answer.headers
    assert "secret" not in answer.text
    assert bench.records() == []


async def test_too_long_prompt_names_both_numbers(bench, client, fake):
    async def too_long(exchange):
        error = {"code": 400, "message": "the request exceeds the available context size", "n_ctx": 8192,
                 "type": "exceed_context_size_error", "n_prompt_tokens": 9001}  # fmt: skip
        await exchange.json({"error": error}, 400)

    fake.scripts.append(too_long)
    answer = await client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "9001" in error["message"] and "8192" in error["message"]


async def test_client_going_away_stops_the_replica_and_is_charged_what_it_got(bench, client, fake):
    async def for_ever(exchange):
        await exchange.stream_head()
        while True:
            await exchange.token()
            await asyncio.sleep(0.01)

    fake.scripts.append(for_ever)
    async with client.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as answer:
        seen = 0
        async for line in answer.aiter_lines():
            seen += line.startswith("data:")
            if seen == 3:
                break
    await bench.until(lambda: fake.gone == 1)
    await bench.until(lambda: len(bench.records()) == 1)
    [record] = bench.records()
    assert record.status == 499 and record.counted == "gateway" and record.completion >= 3
    assert not bench.gateway.in_flight


async def test_client_going_away_before_the_first_byte_is_not_recorded(bench, client, fake):
    waiting = asyncio.Event()

    async def silent(exchange):
        waiting.set()
        await asyncio.sleep(30)

    fake.scripts.append(silent)
    task = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
    await waiting.wait()
    task.cancel()
    await bench.until(lambda: not bench.gateway.in_flight)
    assert bench.records() == []


async def test_silent_replica_is_given_up():
    async with upstream() as fake, running(answer_timeout_seconds=0.3) as bench:
        bench.routes(route(fake.url))

        async def silent(exchange):
            await asyncio.sleep(5)

        fake.default = silent
        async with httpx.AsyncClient(verify=False, headers={"authorization": f"Bearer {KEY}"}) as client:
            answer = await client.post(f"{bench.url}/v1/chat/completions", json=CHAT, timeout=30)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "replica_timeout"


async def test_request_waits_for_a_replica_that_is_starting(bench, client, fake):
    bench.routes(route(status=EndpointStatus.STARTING))
    task = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
    await bench.until(lambda: bench.waiting == 1)
    bench.routes(route(fake.url))
    assert (await task).status_code == 200
    assert bench.waiting == 0


async def test_full_queue_is_ours_to_answer_for():
    async with running(queue_limit=1, queue_seconds=0.5) as bench:
        bench.routes(route(status=EndpointStatus.STARTING))
        async with httpx.AsyncClient(
            verify=False, base_url=bench.url, headers={"authorization": f"Bearer {KEY}"}
        ) as client:
            first = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
            await bench.until(lambda: bench.waiting == 1)
            full = await client.post("/v1/chat/completions", json=CHAT)
            late = await first
    assert (full.status_code, full.json()["error"]["code"]) == (503, "queue_full")
    assert (late.status_code, late.json()["error"]["code"]) == (503, "model_not_ready")
    assert "retry-after" in full.headers and "retry-after" in late.headers


async def test_budget_is_never_overrun_and_ends_in_402():
    purse = Purse(nano=60_000)
    async with upstream() as fake, running(purse) as bench:
        bench.routes(route(fake.url))
        async with httpx.AsyncClient(
            verify=False, base_url=bench.url, headers={"authorization": f"Bearer {KEY}"}
        ) as client:
            answers = await asyncio.gather(*(client.post("/v1/chat/completions", json=CHAT) for _ in range(120)))
        statuses = {answer.status_code for answer in answers}
        assert statuses == {200, 402}
        refused = next(answer for answer in answers if answer.status_code == 402)
        assert refused.json()["error"]["code"] == "insufficient_quota"
        assert sum(record.cost_nano for record in bench.records()) <= 60_000
        assert len(bench.records()) == sum(answer.status_code == 200 for answer in answers)


async def test_database_away_serves_on_leases_at_hand_then_503():
    async with upstream() as fake, running(Purse(nano=4_000_000)) as bench:
        bench.routes(route(fake.url))
        async with httpx.AsyncClient(
            verify=False, base_url=bench.url, headers={"authorization": f"Bearer {KEY}"}
        ) as client:
            assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
            bench.purse.away = True
            assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
            large = CHAT | {"messages": [{"role": "user", "content": "x" * 30_000}], "max_tokens": 8000}
            answers = [await client.post("/v1/chat/completions", json=large) for _ in range(3)]
    assert answers[-1].status_code == 503
    assert answers[-1].json()["error"]["code"] == "database_unavailable"


async def test_journal_without_room_stops_admission(bench, client):
    bench.gateway.journal.has_room = False
    answer = await client.post("/v1/chat/completions", json=CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "journal_full")


async def test_revoked_and_expired_and_unscoped_keys(bench, client):
    from datetime import UTC, datetime

    past = datetime(2020, 1, 1, tzinfo=UTC)
    bench.keys(
        key("sk-revoked", revoked_at=past),
        key("sk-expired", expires_at=past),
        key("sk-reader", scopes=frozenset()),
        key("sk-narrow", models=frozenset({"other"})),
    )
    expected = {
        "sk-revoked": (401, "revoked_key"),
        "sk-expired": (401, "expired_key"),
        "sk-reader": (403, "missing_scope"),
        "sk-narrow": (403, "model_not_allowed"),
        "sk-nobody": (401, "unknown_key"),
    }
    for secret, wanted in expected.items():
        answer = await client.post("/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {secret}"})
        assert (answer.status_code, answer.json()["error"]["code"]) == wanted
        assert secret not in answer.text


async def test_bytes_nobody_asked_for_never_reach_another_project(bench, client, fake):
    """An upstream that answers twice. HTTP/1.1 cannot tell whose the second answer is; projects share no connection."""
    bench.keys(*(key(f"sk-{who}", project=f"proj_{who}") for who in range(6)))

    async def twice(exchange):
        said = exchange.body["messages"][0]["content"]
        for pause in (0, 0.02 * (len(fake.seen) % 2)):
            await asyncio.sleep(pause)
            await exchange.json({"choices": [{"message": {"content": said}}], "usage": usage()})

    async def ask(who, number):
        body = CHAT | {"messages": [{"role": "user", "content": f"{who}-{number}"}]}
        return await client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer sk-{who}"})

    fake.default = twice
    for number in range(5):
        answers = await asyncio.gather(*(ask(who, number) for who in range(6)))
        for who, answer in enumerate(answers):
            if answer.status_code == 200:
                assert answer.json()["choices"][0]["message"]["content"].startswith(f"{who}-")
    # Found out by now: each answer is its own.
    for who in range(6):
        answer = await ask(who, "last")
        assert answer.json()["choices"][0]["message"]["content"] == f"{who}-last"


async def test_usage_beyond_what_the_request_allows_is_cut(bench, client, fake):
    async def boasts(exchange):
        if exchange.body.get("stream"):
            await exchange.stream_head()
            await exchange.token()
            await exchange.end(10**9, 10**9)
        else:
            await exchange.json({"choices": [{}], "usage": usage(10**9, 10**9)})

    fake.default = boasts
    plain = await client.post("/v1/chat/completions", json=CHAT)
    body = CHAT | {"stream": True, "stream_options": {"include_usage": True}}
    stream = events((await client.post("/v1/chat/completions", json=body)).text)
    records = bench.records()
    assert [record.completion for record in records] == [5, 5]
    assert all(record.prompt < 2000 for record in records)
    assert plain.json()["usage"]["completion_tokens"] == stream[-2]["usage"]["completion_tokens"] == 5


async def test_head_without_end_is_given_up(bench, client, fake):
    async def endless(exchange):
        await exchange.send(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100):
            await exchange.send(b"x: " + b"a" * 60_000 + b"\r\n")

    fake.default = endless
    answer = await client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 503


async def test_tool_conversation_for_a_model_without_tools_is_a_400(bench, client, fake):
    from dataclasses import replace

    bare = route(fake.url)
    bench.routes(replace(bare, profile=replace(bare.profile, parameters=frozenset())))
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    answer = await client.post("/v1/chat/completions", json=CHAT | {"messages": messages})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages.0.tool_calls")
