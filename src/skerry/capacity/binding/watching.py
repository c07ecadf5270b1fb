"""Hears that nodes of a leaf have changed, and has the reservations there looked at."""

import asyncio

import structlog

from skerry.capacity.binding.model import KIND
from skerry.capacity.binding.store import BindingStore
from skerry.db.database import Database
from skerry.db.notify import FLEET, WORK, Listener, notify
from skerry.kernel.clock import Clock
from skerry.kernel.errors import Unavailable
from skerry.kernel.ids import LeafId

_WAIT_SECONDS = 2.0


class FleetWatcher:
    """A hint that is lost costs the minutes until each reservation is looked at anyway. After each connection all
    are: whatever happened before was missed."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._store = BindingStore()
        self._leaves: set[LeafId] = set()
        self._all = False
        self._wake = asyncio.Event()
        self._log = structlog.get_logger("skerry.capacity.binding")

    def notified(self, channel: str, payload: str) -> None:
        if payload:
            self._leaves.add(LeafId(payload))
        else:
            self._all = True
        self._wake.set()

    def wake_all(self) -> None:
        self._all = True
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        listener = Listener(self._db.url, [FLEET], self.notified, self.wake_all, name="skerry-fleet-watcher")
        listening = asyncio.create_task(listener.run())
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._pass_on()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def look(self) -> int:
        """Hint what was heard of since the last look; how many reservations."""
        leaves, everything = self._leaves, self._all
        self._leaves, self._all = set(), False
        if not leaves and not everything:
            return 0
        async with self._db.transaction() as tx:
            hinted = await self._store.hint_leaves(tx, None if everything else leaves, self._clock.now())
            if hinted:
                await notify(tx, WORK, KIND)
        return hinted

    async def _pass_on(self) -> None:
        leaves, everything = set(self._leaves), self._all
        try:
            await self.look()
        except Unavailable as error:
            self._log.warning("database_away", reason=error.detail)
            self._leaves |= leaves
            self._all = self._all or everything
            await asyncio.sleep(_WAIT_SECONDS)
            self._wake.set()
