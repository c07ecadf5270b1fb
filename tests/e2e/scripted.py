"""The scripted upstream in a thread of its own, for tests that block."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.gateway.upstream import Exchange, FakeUpstream, upstream, well

__all__ = ["Exchange", "FakeUpstream", "failing", "falling_silent", "running_upstream", "tearing", "trickling", "well"]

PACE_SECONDS = 0.05


@contextmanager
def running_upstream() -> Iterator[FakeUpstream]:
    ready, ended = threading.Event(), asyncio.Event()
    made: list[tuple[FakeUpstream, asyncio.AbstractEventLoop]] = []

    async def serve() -> None:
        async with upstream() as fake:
            made.append((fake, asyncio.get_running_loop()))
            ready.set()
            await ended.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="scripted-upstream")
    thread.start()
    assert ready.wait(10)
    fake, loop = made[0]
    try:
        yield fake
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)


async def failing(exchange: Exchange) -> None:
    await exchange.json({"error": {"message": "broken"}}, 503)


async def tearing(exchange: Exchange) -> None:
    """Two tokens, then the connection breaks."""
    await exchange.stream_head()
    await exchange.token()
    await exchange.token()
    exchange.die()


async def trickling(exchange: Exchange) -> None:
    """Token after token until the other side goes."""
    await exchange.stream_head()
    while True:
        await exchange.token()
        await asyncio.sleep(PACE_SECONDS)


async def falling_silent(exchange: Exchange) -> None:
    """An answer that never ends: a little of it now and then, until the other side goes."""
    await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n")
    while True:
        await exchange.send(b" ")
        await asyncio.sleep(PACE_SECONDS)
