"""A controller for tests, as the zygote runs it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from skerry.compute.engines.embedded.client import EmbeddedEngine
from skerry.compute.watching import EngineWatcher, Sweeper
from skerry.db.database import Database
from skerry.db.notify import WORK, Listener
from skerry.kernel.clock import SystemClock
from skerry.runtime import log
from skerry.runtime.reconciler import Loop, Wakes
from tests.compute.controlling import Control


async def control(database_url: str, socket: Path) -> None:
    """Until cancelled, as the controller role does it."""
    db, clock, wakes = Database(database_url), SystemClock(), Wakes()
    engine = EmbeddedEngine(socket)
    reconciler = Control.over(db, clock, engine).reconciler
    try:
        await asyncio.gather(
            Loop(reconciler, wake=wakes.event(reconciler.kind), poll_seconds=0.5).run(),
            Listener(database_url, [WORK], wakes.notified, wakes.wake_all).run(),
            EngineWatcher(db, clock, engine).run(),
            Sweeper(db, engine).run(),
        )
    finally:
        await db.close()


def run(database_url: str, socket: str, ready: Callable[[], None]) -> None:
    log.configure("controller", "warning")
    ready()
    asyncio.run(control(database_url, Path(socket)))
