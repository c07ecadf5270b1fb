"""`kill -9` at random moments under load. Each round has its own seed; three of them hit every role once."""

import asyncio
import random
from functools import partial

import pytest

from tests.cloud import MODEL, RECOVERY_SECONDS, Cloud
from tests.kill.checks import check_answers, check_journals, check_refusals, check_spent, check_sums
from tests.kill.conftest import rounds
from tests.kill.load import SCRIPTED, Load, PacedScript
from tests.waiting import eventually

pytestmark = pytest.mark.cloud

VICTIMS = ("gateway", "shipper", "server", "controller", "agent", "replica", "database")
DEALS = (slice(0, 3), slice(3, 5), slice(5, 7))
"""A deck of victims lasts three rounds."""


def victims(seed: int) -> list[str]:
    """Who is to die in a round: three seeds in a row share a deck."""
    number, place = divmod(seed - 1, len(DEALS))
    deck = list(VICTIMS)
    random.Random(f"deck {number}").shuffle(deck)
    return deck[DEALS[place]]


@pytest.mark.parametrize(("cloud", "seed"), rounds(), ids=str, indirect=["cloud"], scope="package")
async def test_no_answer_is_lost_or_counted_twice(cloud: Cloud, script: PacedScript, seed: int) -> None:
    rng = random.Random(seed)
    print(f"seed {seed}: {', '.join(victims(seed))}")
    key = cloud.new_key(f"round {seed}", limits={"budget": {"amount": "100", "currency": "USD"}})
    load = Load(cloud, key["key"], rng)
    load.begin()
    for victim in victims(seed):
        await asyncio.sleep(rng.uniform(0.3, 1.5))
        pid = await asyncio.to_thread(cloud.kill, victim)
        print(f"killed {victim} {pid} after {len(load.asks)} requests")
    await asyncio.sleep(rng.uniform(0.3, 1.0))
    await asyncio.to_thread(cloud.wait_ready)
    await load.end()
    for model in (SCRIPTED, MODEL):
        await eventually(partial(_answered, load, model), RECOVERY_SECONDS)
    print(f"{len(load.asks)} requests, {sum(ask.complete for ask in load.asks)} complete")
    await asyncio.to_thread(_check, cloud, key, load, script)


async def _answered(load: Load, model: str) -> bool:
    return (await load.once(model)).complete


def _check(cloud: Cloud, key: dict, load: Load, script: PacedScript) -> None:
    assert sum(ask.complete for ask in load.asks) >= 20, [ask.why for ask in load.asks if ask.why]
    check_refusals(load.asks)
    check_answers(cloud, key["id"], load.asks, script)
    check_journals(cloud)
    check_sums(cloud)
    check_spent(cloud, key["id"], load.asks)
