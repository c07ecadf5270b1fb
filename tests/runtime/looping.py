"""Running loops in tests."""

import asyncio
from contextlib import asynccontextmanager

from skerry.runtime.reconciler import Loop


@asynccontextmanager
async def running(*loops: Loop):
    tasks = [asyncio.create_task(loop.run()) for loop in loops]
    try:
        yield
        assert not any(task.done() for task in tasks), "a loop has ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
