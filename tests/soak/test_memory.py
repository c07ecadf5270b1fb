"""Memory after many requests of all kinds is what it was after the first of them.

SKERRY_SOAK_REQUESTS of them: 20,000 in `make test`, a million in `make soak`.
"""

import asyncio
import os
import subprocess
import sys
from statistics import median

import pytest
import uvloop

from tests.gateway.test_hardening import idle_crowd
from tests.soak.crowd import QuickUpstream, Tally, client

REQUESTS = int(os.environ.get("SKERRY_SOAK_REQUESTS", "20000"))
SEED = int(os.environ.get("SKERRY_SEED", "1"))
CLIENTS = 16
STEPS = 20
"""Looks at the memory; the first of them, while pools and caches fill, do not count."""
WARM = 6
MAY_GROW = 6 * 1024 * 1024
"""Bytes between the first third and the last: what the allocator may keep. 1 KB a request would be 9 MB, of 20,000."""


def test_memory_is_flat_over_many_requests() -> None:
    print(f"seed {SEED}, {REQUESTS} requests")
    rows, tally = uvloop.run(_soak(REQUESTS))
    for asked, memory in rows:
        print(f"{asked:>9} requests  {memory / 2**20:7.1f} MiB")
    print(dict(tally.asked))
    assert tally.wrong == []
    warm = [memory for _, memory in rows[WARM:]]
    third = len(warm) // 3
    grown = median(warm[-third:]) - median(warm[:third])
    assert grown < MAY_GROW, f"{grown / 2**20:.1f} MiB more: {rows}"


@pytest.mark.soak
def test_ten_thousand_idle_connections_cost_little_and_are_in_nobodys_way() -> None:
    each, seconds = uvloop.run(idle_crowd(10_000))
    print(f"{each / 1024:.1f} KiB a connection, a request beside them in {seconds * 1000:.1f} ms")
    assert each < 64 * 1024


async def _soak(requests: int) -> tuple[list[tuple[int, int]], Tally]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(QuickUpstream, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    gateway = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.soak.gateway_process", f"http://127.0.0.1:{port}/v1",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    tally, rows = Tally(), []
    try:
        assert gateway.stdin is not None and gateway.stdout is not None
        front = int(await gateway.stdout.readline())
        share = requests // STEPS // CLIENTS
        for step in range(STEPS):
            seeds = (SEED * 1_000_000 + step * 1000 + n for n in range(CLIENTS))
            await asyncio.gather(*(client(front, share, seed, tally) for seed in seeds))
            memory = await _settled(gateway)
            rows.append((tally.asked.total(), memory))
    finally:
        gateway.kill()
        await gateway.wait()
        server.close()
    return rows, tally


async def _settled(gateway: asyncio.subprocess.Process) -> int:
    """The gateway's memory, once all connections and requests are gone: nothing may be left of them."""
    assert gateway.stdin is not None and gateway.stdout is not None
    async with asyncio.timeout(30):
        while True:
            gateway.stdin.write(b"?\n")
            memory, connections, in_flight, buffered = map(int, (await gateway.stdout.readline()).split())
            if not connections and not in_flight and not buffered:
                return memory
            await asyncio.sleep(0.05)
