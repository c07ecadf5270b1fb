"""What is asked for at about the same time is done together."""

import asyncio

import pytest

from skerry.capacity.together import Together


class Work:
    """Doubles numbers, a lot at a time, when it is let; notes the lots."""

    def __init__(self):
        self.lots = []
        self.gates = []

    async def __call__(self, lot):
        gate = asyncio.Event()
        self.lots.append(list(lot))
        self.gates.append(gate)
        await gate.wait()
        return [ValueError(item) if item < 0 else 2 * item for item in lot]

    async def let(self, number):
        """Once that lot has begun, let it end."""
        while len(self.gates) <= number:
            await asyncio.sleep(0)
        self.gates[number].set()


def ask(together, *items):
    return [asyncio.create_task(together.do(item)) for item in items]


async def test_the_first_goes_at_once_and_what_comes_meanwhile_goes_together():
    work = Work()
    together = Together(work, patience=60)
    first = ask(together, 1)
    while not work.lots:
        await asyncio.sleep(0)
    rest = ask(together, 2, 3, 4)
    await work.let(0)
    await work.let(1)
    assert await asyncio.gather(*first, *rest) == [2, 4, 6, 8]
    assert work.lots == [[1], [2, 3, 4]]


async def test_a_lot_has_a_most():
    work = Work()
    tasks = ask(Together(work, most=2, patience=60), 1, 2, 3, 4, 5)
    for number in range(3):
        await work.let(number)
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10]
    assert work.lots == [[1, 2], [3, 4], [5]]


async def test_one_that_fails_fails_alone():
    work = Work()
    tasks = ask(Together(work), 1, -1, 2)
    await work.let(0)
    good, bad, also_good = await asyncio.gather(*tasks, return_exceptions=True)
    assert (good, also_good) == (2, 4)
    assert isinstance(bad, ValueError)


async def test_where_the_work_fails_all_hear_of_it_and_the_next_lot_is_done():
    async def work(lot):
        if 1 in lot:
            raise OSError("away")
        return lot

    together = Together(work)
    assert [type(one) for one in await asyncio.gather(*ask(together, 1, 2), return_exceptions=True)] == [OSError] * 2
    assert await together.do(3) == 3


async def test_a_lot_that_takes_long_holds_up_nobody_for_long_and_only_so_many_are_under_way():
    work = Work()
    together = Together(work, lots=2, patience=0)
    (slow,) = ask(together, 1)
    while not work.lots:
        await asyncio.sleep(0)
    (also_slow,) = ask(together, 2)
    while len(work.lots) < 2:
        await asyncio.sleep(0)
    (third,) = ask(together, 3)
    await asyncio.sleep(0)
    assert work.lots == [[1], [2]]
    await work.let(1)
    await work.let(2)
    assert await asyncio.gather(also_slow, third) == [4, 6]
    assert not slow.done()
    await work.let(0)
    assert await slow == 2


async def test_who_has_gone_before_it_began_is_left_out():
    work = Work()
    together = Together(work, patience=60)
    (first,) = ask(together, 1)
    while not work.lots:
        await asyncio.sleep(0)
    gone, stays = ask(together, 2, 3)
    await asyncio.sleep(0)
    gone.cancel()
    await work.let(0)
    await work.let(1)
    assert await asyncio.gather(first, stays) == [2, 6]
    assert work.lots == [[1], [3]]
    with pytest.raises(asyncio.CancelledError):
        await gone
