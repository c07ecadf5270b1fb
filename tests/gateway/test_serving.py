"""What serving needs beyond one answer: embeddings, rows of batches, shared limits, fair turns, slots, uploads."""

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from skerry.identity.model import KeyLimits, OrganizationTier, RateLimits
from skerry.inference.engines.base import EngineKind, EngineProfile, PrefixCache, Task
from skerry.inference.gateway.pricing import PriceSchedule, TokenPrice
from skerry.inference.gateway.snapshot import Pools
from skerry.inference.gateway.tickets import BatchTicket, Tickets
from skerry.inference.model import EndpointStatus, RoutingPolicy
from tests.gateway.harness import KEY, PRICE, PROFILE, key, route, running
from tests.gateway.upstream import upstream, well

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
EMBEDDER = EngineProfile(EngineKind.LLAMACPP, frozenset(), True, tasks=frozenset({Task.EMBEDDING}))
SLOTS = replace(PROFILE, kind=EngineKind.LLAMACPP, prefix_cache=PrefixCache.SLOTS, extra={"cache_prompt": False})
TICKETS = Tickets([b"k" * 32])


def open_client(bench, secret: str = KEY) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        verify=False, base_url=bench.url, headers={"authorization": f"Bearer {secret}"}, timeout=30
    )


async def embed(exchange):
    await exchange.json({"object": "list", "data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 4}})


class Gate:
    """A script that answers when it is let."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Event] = []
        self.order: list[str] = []

    async def __call__(self, exchange) -> None:
        self.order.append(exchange.body["messages"][0]["content"])
        event = asyncio.Event()
        self.waiting.append(event)
        await event.wait()
        await well(exchange)

    def let_one(self) -> None:
        self.waiting.pop(0).set()


# --- routes
async def test_two_endpoints_of_one_model_are_both_served(bench, client, fake):
    """At prices of their own, also where the model's shared endpoint is gone."""
    free = TokenPrice(0, 0, 0, 0)
    prices = {"fake": PriceSchedule("USD", (PRICE,)), "mine": PriceSchedule("USD", (free,))}
    routes = [route(fake.url), replace(route(fake.url, name="mine"), model_name="fake")]
    bench.gateway.snapshot.put_routes(routes, prices, Pools())
    costs = []
    for name in ("fake", "mine"):
        answer = await client.post("/v1/chat/completions", json=CHAT | {"model": name})
        costs.append(answer.headers["x-skerry-cost"])
    assert costs[0] != "0" and costs[1] == "0"
    bench.gateway.snapshot.put_routes(routes[1:], prices, Pools())
    assert (await client.post("/v1/chat/completions", json=CHAT | {"model": "mine"})).status_code == 200


# --- embeddings
async def test_embeddings_are_answered_and_recorded(bench, client, fake):
    fake.default = embed
    bench.routes(route(fake.url, profile=EMBEDDER))
    answer = await client.post("/v1/embeddings", json={"model": "fake", "input": ["a", "b"], "user": "u"})
    assert answer.status_code == 200 and answer.json()["data"][0]["embedding"] == [0.5]
    assert fake.seen[0].path == "/v1/embeddings" and "user" not in fake.seen[0].body
    (record,) = bench.records()
    assert (record.kind, record.prompt, record.completion) == ("embedding", 4, 0)
    assert answer.headers["x-skerry-cost"] == "0.0000002"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_model_for_embeddings_does_not_chat(bench, client, fake, path):
    bench.routes(route(fake.url, profile=EMBEDDER))
    body = CHAT if "chat" in path else {"model": "fake", "prompt": "x"}
    answer = await client.post(path, json=body)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "unsupported_task"
    assert "/v1/embeddings" in answer.json()["error"]["message"] and not fake.seen


async def test_a_model_for_chat_does_not_embed(client):
    answer = await client.post("/v1/embeddings", json={"model": "fake", "input": "x"})
    assert answer.json()["error"]["code"] == "unsupported_task"


# --- rows of batches
def ticket(line: int = 1, **more) -> str:
    id, expires = bytes(15) + bytes([line]), int(time.time()) + 60
    values = {"key": f"key_{KEY}", "project": "proj_1", "batch": "batch_1", "line": line, "id": id, "expires": expires}
    values |= more
    return TICKETS.sign(BatchTicket(**values))


@pytest.fixture
async def ticketed(fake):
    async with running() as bench:
        bench.gateway._tickets = TICKETS
        bench.routes(route(fake.url))
        yield bench


async def row(bench, authorization: str, **body) -> httpx.Response:
    async with httpx.AsyncClient(
        verify=False, base_url=bench.url, headers={"authorization": authorization}, timeout=30
    ) as client:
        return await client.post("/v1/chat/completions", json=CHAT | body)


async def test_a_row_costs_half_and_is_recorded_under_its_own_id(ticketed):
    async with open_client(ticketed) as client:
        whole = await client.post("/v1/chat/completions", json=CHAT)
    half = await row(ticketed, ticket(7))
    assert half.status_code == 200
    assert float(half.headers["x-skerry-cost"]) * 2 == float(whole.headers["x-skerry-cost"])
    record = ticketed.records()[-1]
    assert (record.id, record.batch, record.project) == (bytes(15) + b"\x07", "batch_1", "proj_1")
    assert half.headers["x-request-id"] == record.id.hex()


async def test_rows_do_not_use_up_the_requests_of_their_key(ticketed):
    ticketed.keys(key(limits=KeyLimits(requests_per_minute=1)))
    for line in range(1, 4):
        assert (await row(ticketed, ticket(line))).status_code == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [({"expires": 5}, "bad_ticket"), ({"key": "key_other"}, "unknown_key"), ({"project": "proj_2"}, "unknown_key")],
)
async def test_a_ticket_is_good_for_what_it_says_only(ticketed, fake, change, code):
    answer = await row(ticketed, ticket(**change))
    assert answer.status_code == 401 and answer.json()["error"]["code"] == code and not fake.seen


async def test_forged_tickets_and_streams_are_refused(ticketed):
    forged = Tickets([b"x" * 32]).sign(BatchTicket(f"key_{KEY}", "proj_1", "b", 1, bytes(16), int(time.time()) + 60))
    assert (await row(ticketed, forged)).json()["error"]["code"] == "bad_ticket"
    assert (await row(ticketed, ticket(), stream=True)).json()["error"]["param"] == "stream"


async def test_rows_wait_for_everybody_else(ticketed, fake):
    gate = Gate()
    fake.default = gate
    ticketed.routes(route(fake.url, per_replica=1))
    async with open_client(ticketed) as client:
        first = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
        await ticketed.until(lambda: bool(gate.waiting))
        batch = asyncio.create_task(row(ticketed, ticket(), messages=[{"role": "user", "content": "row"}]))
        await ticketed.until(lambda: ticketed.waiting == 1)
        said = CHAT | {"messages": [{"role": "user", "content": "person"}]}
        person = asyncio.create_task(client.post("/v1/chat/completions", json=said))
        await ticketed.until(lambda: ticketed.waiting == 2)
        for _ in range(3):
            await ticketed.until(lambda: bool(gate.waiting))
            gate.let_one()
        assert {(await task).status_code for task in (first, batch, person)} == {200}
    assert gate.order == ["hello", "person", "row"]


# --- limits
async def test_keys_of_a_project_share_its_limit(bench, fake):
    limits = RateLimits(requests_per_minute=2)
    bench.keys(*(replace(key(secret), project_limits=limits) for secret in ("sk-a", "sk-b")))
    codes = []
    for secret in ("sk-a", "sk-b", "sk-a"):
        async with open_client(bench, secret) as client:
            codes.append(await client.post("/v1/chat/completions", json=CHAT))
    assert [answer.status_code for answer in codes] == [200, 200, 429]
    assert "project" in codes[-1].json()["error"]["message"] and "retry-after" in codes[-1].headers
    assert codes[1].headers["x-ratelimit-limit-requests"] == "2"
    assert codes[1].headers["x-ratelimit-remaining-requests"] == "0"


async def test_requests_at_once_are_limited_and_given_back(bench, client, fake):
    bench.keys(replace(key(), organization_limits=RateLimits(concurrent_requests=1)))
    gate = Gate()
    fake.default = gate
    first = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
    await bench.until(lambda: bool(gate.waiting))
    second = await client.post("/v1/chat/completions", json=CHAT)
    assert second.status_code == 429 and second.json()["error"]["code"] == "too_many_concurrent_requests"
    gate.let_one()
    assert (await first).status_code == 200
    fake.default = well
    assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def test_a_refused_request_gives_its_place_back(bench, client, fake):
    bench.keys(replace(key(), project_limits=RateLimits(concurrent_requests=1)))

    async def bad(exchange):
        await exchange.json({"error": {"message": "no"}}, status=400)

    fake.default = bad
    for _ in range(3):
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 400


async def test_several_gateways_share_a_limit(bench, client):
    bench.keys(key(limits=KeyLimits(requests_per_minute=4)))
    bench.gateway.snapshot.share_with(2)
    codes = [(await client.post("/v1/chat/completions", json=CHAT)).status_code for _ in range(3)]
    assert codes == [200, 200, 429]


# --- fairness
async def test_a_burst_of_one_project_does_not_starve_another(fake):
    gate = Gate()
    fake.default = gate
    async with running() as bench:
        bench.routes(route(fake.url, per_replica=1))
        bench.keys(key("sk-big", project="proj_big"), key("sk-small", project="proj_small"))
        async with open_client(bench, "sk-big") as big, open_client(bench, "sk-small") as small:
            tasks = []
            for _ in range(20):
                said = CHAT | {"messages": [{"role": "user", "content": "big"}]}
                tasks.append(asyncio.create_task(big.post("/v1/chat/completions", json=said)))
            await bench.until(lambda: bench.waiting == 19)
            for _ in range(2):
                said = CHAT | {"messages": [{"role": "user", "content": "small"}]}
                tasks.append(asyncio.create_task(small.post("/v1/chat/completions", json=said)))
            await bench.until(lambda: bench.waiting == 21)
            for _ in tasks:
                await bench.until(lambda: bool(gate.waiting))
                gate.let_one()
            assert all([(await task).status_code == 200 for task in tasks])
    places = [place for place, who in enumerate(gate.order) if who == "small"]
    assert places[-1] <= 5, gate.order


async def test_free_tiers_are_slowed_in_a_surge_and_told_so(fake):
    async with running() as bench:
        bench.routes(route(fake.url))
        bench.keys(key("sk-pay", project="p"), replace(key("sk-free", project="f"), tier=OrganizationTier.FREE))
        surge = bench.gateway.snapshot.routes["fake"].surge
        for second in range(60):
            surge.observe(100, 1, bench.gateway.now() + second)
        async with open_client(bench, "sk-pay") as pay, open_client(bench, "sk-free") as free:
            paying = [await pay.post("/v1/chat/completions", json=CHAT) for _ in range(5)]
            slowed = [await free.post("/v1/chat/completions", json=CHAT) for _ in range(5)]
    assert {answer.status_code for answer in paying} == {200}
    assert {answer.status_code for answer in slowed} == {200, 429}
    refused = next(answer for answer in slowed if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "tier_throttled" and "retry-after" in refused.headers
    assert all("free" in answer.headers["x-skerry-throttle"] for answer in slowed)
    assert not any("x-skerry-throttle" in answer.headers for answer in paying)


# --- waiting
async def test_an_endpoint_scaled_to_zero_is_called_for_and_waited_for(bench, client, fake):
    called: list[float] = []
    bench.gateway.demand_wanted = lambda: called.append(1.0)
    bench.routes(route(status=EndpointStatus.STOPPED, wakes=True))
    task = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
    await bench.until(lambda: bench.waiting == 1)
    assert called
    bench.routes(route(fake.url))
    assert (await task).status_code == 200
    assert bench.records()[0].queue_us > 0


async def test_those_who_wait_for_an_endpoint_that_is_removed_are_told(bench, client):
    bench.routes(route(status=EndpointStatus.STARTING))
    task = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
    await bench.until(lambda: bench.waiting == 1)
    bench.routes()
    assert (await task).json()["error"]["code"] == "model_removed"


async def test_a_stream_whose_replica_is_silent_is_asked_of_another(fake):
    async def silent(exchange):
        await asyncio.sleep(20)

    async with upstream() as other, running() as bench:
        bench.gateway.first_byte_seconds = 0.2
        bench.routes(route(fake.url, other.url, policy=RoutingPolicy.ROUND_ROBIN))
        fake.default = silent
        async with open_client(bench) as client:
            for _ in range(2):
                answer = await client.post("/v1/chat/completions", json=CHAT | {"stream": True})
                assert answer.status_code == 200 and answer.text.endswith("data: [DONE]\n\n")
        assert len(bench.records()) == 2 and len(fake.seen) == 1


# --- slots
async def test_a_slot_is_reused_for_its_own_project_only(fake):
    async with running() as bench:
        bench.routes(route(fake.url, profile=SLOTS))
        bench.keys(key("sk-a", project="proj_a"), key("sk-b", project="proj_b"))
        async with open_client(bench, "sk-a") as a, open_client(bench, "sk-b") as b:
            for client in (a, a, b, b, a):
                assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
        used = [(seen.body["id_slot"], seen.body["cache_prompt"]) for seen in fake.seen]
        assert [reuse for _, reuse in used] == [False, True, False, True, True]
        assert used[0][0] == used[1][0] == used[4][0] != used[2][0] == used[3][0]


async def test_slots_are_left_alone_where_another_gateway_uses_them(fake):
    async with running() as bench:
        bench.routes(route(fake.url, profile=SLOTS))
        bench.gateway.snapshot.share_with(2)
        async with open_client(bench) as client:
            await client.post("/v1/chat/completions", json=CHAT)
        assert fake.seen[0].body["cache_prompt"] is False and "id_slot" not in fake.seen[0].body


async def test_engines_that_share_blocks_get_the_projects_salt(fake):
    async with running() as bench:
        bench.routes(route(fake.url, profile=replace(PROFILE, prefix_cache=PrefixCache.SALT)))
        async with open_client(bench) as client:
            await client.post("/v1/chat/completions", json=CHAT)
        assert fake.seen[0].body["cache_salt"] == "proj_1"


# --- uploads
async def test_uploads_go_on_as_they_come(fake):
    async with upstream() as server:
        took: list[int] = []

        async def take(exchange):
            took.append(len(json.dumps(exchange.body)))
            await exchange.json({"id": "file-1"})

        server.default = take
        async with running(server_url=f"http://127.0.0.1:{server.port}", max_body_bytes=1000) as bench:
            big = {"x": "y" * 3_000_000}
            async with open_client(bench) as client:
                answer = await client.post("/v1/files", json=big)
                assert answer.status_code == 200 and took == [len(json.dumps(big))]

                async def parts():
                    data = json.dumps(big).encode()
                    for start in range(0, len(data), 50_000):
                        yield data[start : start + 50_000]

                answer = await client.post("/v1/files", content=parts())
                other = await client.post("/v1/models", json=big)
            assert other.status_code == 413
            await bench.until(lambda: bench.gateway.buffered == 0)


async def test_a_connection_is_read_again_after_an_upload_that_had_to_wait(short_tmp: Path):
    """The last of a body may be there while the server still has to take what came before it."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                sizes = [line[15:] for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
                left = int(sizes[0]) if sizes else 0
                while left:
                    left -= len(await reader.read(min(left, 4096)))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        except asyncio.IncompleteReadError:
            writer.close()

    path = short_tmp / "slow.sock"  # as in production: what it holds is less than what is read at once
    server = await asyncio.start_unix_server(slow, path, limit=8192)
    async with server, running(server_url=f"unix:{path}") as bench, open_client(bench) as client:
        for size in (1_000_000, 2_000_000, 3_000_000):
            assert (await client.post("/v1/files", content=b"x" * size)).status_code == 200
            assert (await client.get("/api/v1/whoami")).status_code == 200
