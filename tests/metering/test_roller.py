"""The roller works by itself, through the database's absence too."""

import asyncio

from skerry.db.errors import DatabaseUnavailable
from skerry.kernel.windows import Window
from skerry.metering.model import RollUpResult, UsageQuery
from skerry.metering.roller import Roller
from skerry.metering.rules import HOUR
from skerry.metering.service import PRUNE_A_PASS, Metering
from tests.metering.conftest import DEMO, MakeFact


class Scripted:
    """Answers what it was told to, and stops the roller at the end."""

    def __init__(self, *rolls: RollUpResult | Exception, house: list[int]) -> None:
        self.rolls, self.house = list(rolls), house
        self.stopping = asyncio.Event()

    async def roll_up_once(self) -> RollUpResult:
        answer = self.rolls.pop(0)
        if not self.rolls:
            self.stopping.set()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def keep_house(self) -> int:
        return self.house.pop(0)


async def test_it_goes_on_at_once_while_there_is_more(monkeypatch) -> None:
    monkeypatch.setattr("skerry.metering.roller.PAUSE_SECONDS", 600.0)
    script = Scripted(RollUpResult(3, more=True), RollUpResult(1, more=True), RollUpResult(2), house=[PRUNE_A_PASS, 7])
    roller = Roller(script, now=lambda: 0.0)
    async with asyncio.timeout(30):
        await roller.run(script.stopping)
    assert roller.hours == 6
    assert script.house == [], "old ids are forgotten in passes, and then not for a while"


async def test_it_outlives_the_database(monkeypatch) -> None:
    monkeypatch.setattr("skerry.metering.roller.AWAY_SECONDS", 0.01)
    script = Scripted(DatabaseUnavailable(), DatabaseUnavailable(), RollUpResult(1), house=[0])
    roller = Roller(script)
    async with asyncio.timeout(30):
        await roller.run(script.stopping)
    assert roller.hours == 1


async def test_what_comes_in_is_summed_up(metering: Metering, fact: MakeFact, monkeypatch) -> None:
    monkeypatch.setattr("skerry.metering.roller.PAUSE_SECONDS", 0.02)
    roller, stopping = Roller(metering), asyncio.Event()
    task = asyncio.create_task(roller.run(stopping))
    one = fact(5)
    async with metering.db.transaction() as tx:
        await metering.intake(tx, [one])
    async with asyncio.timeout(30):
        while not roller.hours:
            await asyncio.sleep(0.02)
    stopping.set()
    await task
    async with metering.db.reading() as tx:
        (row,) = await metering.rollups(tx, DEMO, UsageQuery(Window(one.t1 - HOUR, one.t1)))
    assert row.quantity == 5
