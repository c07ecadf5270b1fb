"""Fair queueing as clients see it: a gateway with one replica, two projects, and one of them bursts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from statistics import median

import httpx
import pytest

from skerry.identity.model import KeyRecord, OrganizationTier
from tests.gateway.harness import Bench, key, route, running
from tests.gateway.upstream import Exchange, FakeUpstream, usage

SLOTS = 4
"""Of the replica that `route` makes."""
SMALL, BURST = "sk-small", "sk-burst"


def ask(who: str, **more: object) -> dict[str, object]:
    return {"model": "fake", "messages": [{"role": "user", "content": who}], "max_tokens": 4, **more}


def who_asked(exchange: Exchange) -> str:
    said: str = exchange.body["messages"][0]["content"]
    return said


async def answer(exchange: Exchange) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "skua"}}
    await exchange.json({"model": exchange.body["model"], "choices": [choice], "usage": usage()})


class Replica:
    """The fake upstream, which answers when it is let."""

    def __init__(self, fake: FakeUpstream) -> None:
        self.fake = fake
        self._turns = asyncio.Semaphore(0)
        fake.default = self._serve

    async def _serve(self, exchange: Exchange) -> None:
        await self._turns.acquire()
        await answer(exchange)

    def let(self, count: int) -> None:
        for _ in range(count):
            self._turns.release()

    async def next_ones(self, bench: Bench, count: int) -> list[str]:
        """Who is sent here while so many are answered, one by one."""
        before = len(self.fake.seen)
        for came in range(before + 1, before + count + 1):
            self.let(1)
            await bench.until(lambda came=came: len(self.fake.seen) == came)
        return [who_asked(exchange) for exchange in self.fake.seen[before:]]


@asynccontextmanager
async def asking(bench: Bench, *records: KeyRecord) -> AsyncIterator[httpx.AsyncClient]:
    bench.keys(*records)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        verify=False, base_url=bench.url, timeout=30, limits=limits, trust_env=False
    ) as client:
        yield client


@pytest.fixture
async def replica(fake: FakeUpstream) -> Replica:
    return Replica(fake)


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    both = (key(SMALL, project="proj_small"), key(BURST, project="proj_burst"))
    async with asking(bench, *both) as client:
        yield client


async def send(client: httpx.AsyncClient, secret: str, **more: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {secret}"}
    return await client.post("/v1/chat/completions", json=ask(secret, **more), headers=headers)


async def test_who_comes_last_into_a_long_queue_is_served_next(
    bench: Bench, client: httpx.AsyncClient, replica: Replica
) -> None:
    burst = [asyncio.create_task(send(client, BURST)) for _ in range(SLOTS + 40)]
    await bench.until(lambda: bench.waiting == 40)
    small = asyncio.create_task(send(client, SMALL))
    await bench.until(lambda: bench.waiting == 41)
    assert SMALL in await replica.next_ones(bench, 2)
    replica.let(100)
    assert {answer.status_code for answer in await asyncio.gather(small, *burst)} == {200}


async def test_two_that_burst_take_turns(bench: Bench, client: httpx.AsyncClient, replica: Replica) -> None:
    first = [asyncio.create_task(send(client, BURST)) for _ in range(SLOTS + 40)]
    await bench.until(lambda: bench.waiting == 40)
    second = [asyncio.create_task(send(client, SMALL)) for _ in range(10)]
    await bench.until(lambda: bench.waiting == 50)
    assert 9 <= (await replica.next_ones(bench, 20)).count(SMALL) <= 10
    replica.let(100)
    await asyncio.gather(*first, *second)


async def test_one_project_cannot_take_all_places_of_the_queue(fake: FakeUpstream) -> None:
    replica = Replica(fake)
    async with running(queue_limit=20) as bench:
        bench.routes(route(fake.url))
        records = (key(SMALL, project="proj_small"), key(BURST, project="proj_burst"))
        async with asking(bench, *records) as client:
            burst = [asyncio.create_task(send(client, BURST)) for _ in range(SLOTS + 40)]
            await bench.until(lambda: sum(task.done() for task in burst) == 24)
            small = asyncio.create_task(send(client, SMALL))
            await bench.until(lambda: bench.waiting == 17)
            replica.let(100)
            assert (await small).status_code == 200
            answers = await asyncio.gather(*burst)
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) == 24
    assert all("retry-after" in answer.headers for answer in refused)


async def test_paying_ones_go_before_the_free_tier(bench: Bench, replica: Replica) -> None:
    free = replace(key(BURST, project="proj_free"), tier=OrganizationTier.FREE)
    async with asking(bench, free, key(SMALL, project="proj_paying")) as client:
        # Few enough that the free tier is not slowed at the door.
        waiting = [asyncio.create_task(send(client, BURST)) for _ in range(SLOTS + 3)]
        await bench.until(lambda: bench.waiting == 3)
        paying = [asyncio.create_task(send(client, SMALL)) for _ in range(3)]
        await bench.until(lambda: bench.waiting == 6)
        served = await replica.next_ones(bench, 4)
        replica.let(100)
        await asyncio.gather(*waiting, *paying)
    assert served[0] == SMALL
    # One of the free ones goes between them: its tier is slowed, not starved.
    assert served.count(SMALL) == 3


async def test_a_tenfold_burst_at_most_doubles_what_others_wait(
    bench: Bench, client: httpx.AsyncClient, fake: FakeUpstream, replica: Replica
) -> None:
    """Time is counted in answers of the replica: a request that finds a slot at once is there for SLOTS of them."""
    waits: dict[str, list[int]] = {SMALL: [], BURST: []}
    turn = 0

    async def keep_asking(who: str) -> None:
        while True:
            begun = turn
            assert (await send(client, who)).status_code == 200
            waits[who].append(turn - begun)

    askers = [SMALL] * (SLOTS // 2) + [BURST] * (10 * SLOTS // 2)
    tasks = [asyncio.create_task(keep_asking(who)) for who in askers]
    for _ in range(30 * SLOTS):
        # The next one has come to the replica, and whoever was answered asks again.
        await bench.until(lambda came=SLOTS + turn: len(fake.seen) == came and bench.waiting == len(askers) - SLOTS)
        turn += 1
        replica.let(1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    small, burst = median(waits[SMALL]), median(waits[BURST])
    assert small <= 2 * SLOTS
    assert burst >= 2 * small
