"""Keeps roll-ups in step with the facts, and the house in order, for as long as it runs."""

import asyncio
import time
from collections.abc import Callable

import structlog

from skerry.kernel.errors import Unavailable
from skerry.metering.service import PRUNE_A_PASS, Metering

PAUSE_SECONDS = 1.0
"""Between looks at the marks: an answer shows in usage at most this long after its facts are stored."""
AWAY_SECONDS = 2.0
HOUSE_SECONDS = 600.0


class Roller:
    """May run in several processes: the database lets one of them work at a time."""

    def __init__(self, metering: Metering, now: Callable[[], float] = time.monotonic) -> None:
        self._metering, self._now = metering, now
        self._log = structlog.get_logger("roller")
        self._house_at = now()
        self.hours = 0
        """(project, hour) pairs recomputed since the start."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop."""
        away = False
        while not stopping.is_set():
            try:
                busy = await self.work_once()
                away = False
            except Unavailable as error:
                if not away:
                    self._log.warning("database_away", reason=error.detail)
                away, busy = True, False
            if not busy:
                await _sleep(stopping, AWAY_SECONDS if away else PAUSE_SECONDS)

    async def work_once(self) -> bool:
        """One pass; True where there is more to do at once."""
        result = await self._metering.roll_up_once()
        self.hours += result.hours
        tidying = False
        if self._now() >= self._house_at:
            tidying = await self._metering.keep_house() == PRUNE_A_PASS
            self._house_at = self._now() + (0.0 if tidying else HOUSE_SECONDS)
        return result.more or tidying


async def _sleep(stopping: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
