"""A gateway in a process of its own, as the real one runs: uvloop, its garbage collector tuned, journal and limits on.

Prints its port; then, for each line on stdin, its memory: resident bytes, and bytes of Python's own objects.
Finished journal segments are removed, as the shipper would.
"""

import asyncio
import contextlib
import gc
import os
import sys
from pathlib import Path

import uvloop

from skerry.runtime import log
from tests.gateway.harness import Bench, route, running


async def main(upstream: str) -> None:
    # The upstream stands for the control API, too.
    async with running(server_url=upstream.removesuffix("/v1")) as bench:
        bench.routes(route(upstream))
        reaping = asyncio.create_task(_reap(bench))
        print(bench.port, flush=True)
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while await reader.readline():
            gc.collect()
            gateway = bench.gateway
            print(_rss(), len(gateway.connections), len(gateway.in_flight), gateway.buffered, flush=True)
        reaping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reaping


async def _reap(bench: Bench) -> None:
    while True:
        segments = sorted(path for path in bench.folder.iterdir() if path.name[0].isdigit())
        for path in segments[:-3]:
            path.unlink()
        await asyncio.sleep(0.5)


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    log.configure("gateway", "critical")
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    uvloop.run(main(sys.argv[1]))
