"""What an agent does all the time: reports, log rotation, its sign of life, sweeps, and clearing old logs away."""

import asyncio
import shutil
from datetime import timedelta
from functools import partial
from typing import Final

from skerry.compute.engines.embedded.recovery import Recovery
from skerry.compute.engines.embedded.roster import Roster

_TICK_SECONDS: Final = 0.05
_ROTATE_SECONDS: Final = 0.5
_ALIVE_SECONDS: Final = 1.0
_SWEEP_SECONDS: Final = 30.0
_FIRST_SWEEP_SECONDS: Final = 1.0
_KEPT_FOR: Final = timedelta(days=7)
_KEPT_AT_MOST: Final = 1000


class Chores:
    """One loop for all of them, since each is short."""

    def __init__(self, roster: Roster, recovery: Recovery) -> None:
        self._roster = roster
        self._recovery = recovery

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        rotated = alive = loop.time()
        swept = rotated - _SWEEP_SECONDS + _FIRST_SWEEP_SECONDS  # what recovery has killed takes a moment to be gone
        while True:
            now = loop.time()
            self.read_reports(again=now - rotated >= _ROTATE_SECONDS)
            if now - rotated >= _ROTATE_SECONDS:
                self.rotate_logs()
                rotated = now
            if now - alive >= _ALIVE_SECONDS:
                self._roster.try_to_save(self._roster.state.touch_alive)
                alive = now
            if now - swept >= _SWEEP_SECONDS:
                self._recovery.end_strays()
                self.prune()
                swept = now
            await asyncio.sleep(_TICK_SECONDS)

    def read_reports(self, *, again: bool) -> None:
        """Of tasks that have not reported yet; `again`: of all, since a report may be replaced."""
        for gang, task in self._roster.live_tasks():
            if (again or task.record.report is None) and task.read_report():
                self._roster.try_to_save(partial(self._roster.state.save_rank, task.record))
                self._roster.feed.publish(gang.record.attempt)

    def rotate_logs(self) -> None:
        for _, task in self._roster.live_tasks():
            self._roster.try_to_save(task.log.rotate)

    def prune(self) -> None:
        """Remove logs and tombstones of attempts whose end was on record long ago, or of the oldest of too many."""
        forgotten = [gang.record for gang in self._roster.gangs.values() if gang.record.forgotten_at is not None]
        forgotten.sort(key=lambda record: record.created_at)
        limit = self._roster.clock.now() - _KEPT_FOR
        surplus = len(forgotten) - _KEPT_AT_MOST
        for place, record in enumerate(forgotten):
            assert record.forgotten_at is not None
            if place >= surplus and record.forgotten_at >= limit:
                continue
            for rank in range(sum(placement.tasks for placement in record.placements)):
                shutil.rmtree(self._roster.config.logs / f"{record.attempt}-{rank}", ignore_errors=True)
            self._roster.state.drop_gang(record.attempt)
            del self._roster.gangs[record.attempt]
