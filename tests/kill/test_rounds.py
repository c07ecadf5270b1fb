"""`kill -9` at random moments under load. Each round has its own seed; three of them hit every role once."""

import asyncio
import random

import pytest

from tests.cloud import MODEL, Cloud
from tests.kill.checks import check_answers, check_refusals, check_spent, check_sums
from tests.kill.conftest import rounds
from tests.kill.load import SCRIPTED, Load, PacedScript

pytestmark = pytest.mark.cloud

VICTIMS = ("gateway", "shipper", "server", "controller", "agent", "replica", "database")
DEALS = (slice(0, 3), slice(3, 5), slice(5, 7))
"""A deck of victims lasts three rounds."""


def victims(number: int, seed: int) -> list[str]:
    """Who is to die in a round. The deck is the same for its three rounds."""
    deck = list(VICTIMS)
    random.Random(f"deck {seed - number % len(DEALS)}").shuffle(deck)
    return deck[DEALS[number % len(DEALS)]]


@pytest.mark.parametrize(("number", "seed"), rounds(), ids=lambda value: f"{value}")
async def test_no_answer_is_lost_or_counted_twice(cloud: Cloud, script: PacedScript, number: int, seed: int) -> None:
    rng = random.Random(seed)
    print(f"seed {seed}: {', '.join(victims(number, seed))}")
    key = cloud.new_key(f"round {seed}", limits={"budget": {"amount": "100", "currency": "USD"}})
    load = Load(cloud, key["key"], rng)
    load.begin()
    for victim in victims(number, seed):
        await asyncio.sleep(rng.uniform(0.3, 1.5))
        pid = await asyncio.to_thread(cloud.kill, victim)
        print(f"killed {victim} {pid} after {len(load.asks)} requests")
    await asyncio.sleep(rng.uniform(0.3, 1.0))
    await asyncio.to_thread(cloud.wait_ready)
    await load.end()
    # Now that all is well, nothing may have stayed broken.
    for model in (SCRIPTED, MODEL):
        last = await load.once(model)
        assert last.complete, last
    print(f"{len(load.asks)} requests, {sum(ask.complete for ask in load.asks)} complete")
    await asyncio.to_thread(_check, cloud, key, load, script)


def _check(cloud: Cloud, key: dict, load: Load, script: PacedScript) -> None:
    assert sum(ask.complete for ask in load.asks) >= len(load.asks) // 2, [ask.why for ask in load.asks if ask.why]
    check_refusals(load.asks)
    check_answers(cloud, key["id"], load.asks, script)
    check_sums(cloud)
    check_spent(cloud, key["id"], load.asks)
