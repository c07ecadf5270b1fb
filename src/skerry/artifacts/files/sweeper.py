"""What time does to files: they expire, their storage is metered, and what a dead process left is cleared away."""

import asyncio
from datetime import timedelta
from typing import Final

import structlog

from skerry.artifacts.files import rules
from skerry.artifacts.files.model import DeletionReason
from skerry.artifacts.files.service import Files
from skerry.kernel.clock import floor_hour
from skerry.kernel.errors import Unavailable

SWEEP_SECONDS: Final = 30.0
LOST_AFTER: Final = timedelta(minutes=5)
"""An upload that gave no sign of life for so long is over; a living one gives one every 30 s."""
AT_ONCE: Final = 200
"""Files of one transaction."""


class FileSweeper:
    """Several may run, in several controllers: each takes the rows that no other has."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._store = files.store
        self._log = structlog.get_logger("skerry.artifacts.files")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.sweep_once()
            except (Unavailable, OSError) as error:
                self._log.warning("sweep_put_off", error=str(error))
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep_once(self) -> None:
        """All that is due now. Expiry comes before metering: what has expired is metered up to its end, not to now."""
        while await self._expire() == AT_ONCE:
            pass
        while await self._give_up_uploads() == AT_ONCE:
            pass
        while await self._meter() == AT_ONCE:
            pass
        await self._purge()
        await self._clear_drafts()

    async def _expire(self) -> int:
        now = self._files.clock.now()
        async with self._files.db.transaction() as tx:
            expired = await self._store.take_expired(tx, now, AT_ONCE)
            await self._files.end(tx, expired, DeletionReason.EXPIRED, now)
        return len(expired)

    async def _give_up_uploads(self) -> int:
        now = self._files.clock.now()
        async with self._files.db.transaction() as tx:
            lost = await self._store.take_lost(tx, now - LOST_AFTER, AT_ONCE)
            await self._files.end(tx, lost, DeletionReason.UPLOAD_LOST, now)
        return len(lost)

    async def _meter(self) -> int:
        now = self._files.clock.now()
        async with self._files.db.transaction() as tx:
            files = await self._store.take_unmetered(tx, floor_hour(now), AT_ONCE)
            ends = [(file, rules.metered_until(file, now)) for file in files]
            await self._files.take_in(tx, [fact for file, end in ends for fact in rules.storage_facts(file, end)])
            if ends:
                await self._store.metered(tx, [(file.id, end) for file, end in ends])
        return len(files)

    async def _purge(self) -> None:
        async with self._files.db.reading() as tx:
            deleted = await self._store.unpurged(tx, AT_ONCE)
        for file in deleted:
            await self._files.purge(file)

    async def _clear_drafts(self) -> None:
        """Drafts without a row: their process died between the one and the other."""
        before = self._files.clock.now() - LOST_AFTER
        old = [id for id, at in (await self._files.storage.drafts()).items() if at < before]
        if not old:
            return
        async with self._files.db.reading() as tx:
            known = await self._store.known(tx, old)
        for id in set(old) - known:
            await self._files.storage.delete(id)
