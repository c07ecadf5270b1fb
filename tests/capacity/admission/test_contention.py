"""Many at once, each in a transaction of its own and without any lock but the leaves'."""

import asyncio
import random

from sqlalchemy import update

from skerry.capacity.admission.model import NotNow, Placed
from skerry.capacity.calendar.model import LeafKey
from skerry.capacity.promises import Promises
from skerry.fleet import tables as fleet_tables
from tests.capacity.admission.gate import SPOT
from tests.capacity.binding.scene import SKU


async def test_whoever_comes_at_once_no_accelerator_is_given_twice(gate):
    chance = random.Random(11)
    sizes = [chance.choice([1, 2, 4, 8]) for _ in range(16)]
    few = asyncio.Semaphore(4)  # as many as there are connections for at once

    async def admit(size):
        async with few:
            return await gate.admit(size)

    answers = await asyncio.gather(*(admit(size) for size in sizes))
    held = [
        (share.host, device)
        for answer in answers
        if isinstance(answer, Placed)
        for share in answer.shares
        for device in share.devices
    ]
    assert len(held) == len(set(held))
    left = 32 - len(held)
    refused = [size for size, answer in zip(sizes, answers, strict=True) if isinstance(answer, NotNow)]
    assert all(size > left or size == 8 for size in refused) or left < 8


async def test_gangs_and_single_nodes_at_once_come_to_an_end(gate):
    answers = await asyncio.gather(
        *(gate.admit(8, nodes=2) for _ in range(2)),
        gate.admit(8, minutes=30),
        gate.admit(4, kind=SPOT),
    )
    held = [
        (share.host, device)
        for answer in answers
        if isinstance(answer, Placed)
        for share in answer.shares
        for device in share.devices
    ]
    assert len(held) == len(set(held))
    assert any(isinstance(answer, Placed) for answer in answers)


async def test_nodes_that_the_fleet_takes_out_meanwhile_are_not_given(gate, monkeypatch):
    """Between reading what there is and having the locks: the count that was read is old."""
    gone = sorted(gate.scene.nodes)

    async def taken_out():
        async with gate.scene.database.transaction() as tx:
            where = fleet_tables.nodes.c.hostname.in_(gone)
            await tx.execute(update(fleet_tables.nodes).where(where).values(status="draining"))
            leaves = await gate.scene.fleet.supplies(tx)
            await Promises().touch(tx, [LeafKey(one.leaf, SKU) for one in leaves], supply=True)

    monkeypatch.setattr(gate.admission, "_warmed", taken_out)
    assert isinstance(await gate.admit(8), NotNow)
    assert await gate.rows() == []
