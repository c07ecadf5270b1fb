"""Controllers that bind and deliver, as processes that a test may kill. Time is what a file says."""

import asyncio
from datetime import datetime
from pathlib import Path

from skerry.capacity.binding.model import Handover
from skerry.capacity.binding.reconciler import ReservationReconciler
from skerry.db.database import Database
from skerry.fleet.service import Fleet
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog
from skerry.runtime.outbox import Outbox
from skerry.runtime.reconciler import Loop


class FileClock:
    """Replaced as a whole, so that nobody ever reads half a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def now(self) -> datetime:
        return datetime.fromisoformat(self.path.read_text())

    def set(self, now: datetime) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(now.isoformat())
        new.replace(self.path)


class AllReady:
    async def look(self, nodes, reservation):
        return {node.id: Handover(True) for node in nodes}


def keep(url, path):
    """Bind and deliver until killed."""
    asyncio.run(_keep(url, FileClock(Path(path))))


async def _keep(url, clock):
    database = Database(url, pool_size=3)
    fleet, events, metering = Fleet(database, clock), EventLog(clock), Metering(database, clock)
    reconciler = ReservationReconciler(database, clock, fleet, events, Outbox(clock), metering, AllReady())
    await Loop(reconciler, poll_seconds=0.02, concurrency=2).run()
