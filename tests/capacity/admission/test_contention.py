"""Many at once, each in a transaction of its own and without any lock but the leaves'."""

import asyncio
import random

from skerry.capacity.admission.model import NotNow, Placed
from tests.capacity.admission.gate import SPOT


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
