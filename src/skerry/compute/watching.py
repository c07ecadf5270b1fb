"""Beside the reconciler: the engine's events bring a look at once, and a sweep ends what no row stands for."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog

from skerry.capacity.admission.service import Admission
from skerry.compute.changes import KIND
from skerry.compute.engines.base import Engine, EngineRefused, EngineUnavailable
from skerry.compute.model import Desired, StopReason
from skerry.compute.placing import goes_back
from skerry.compute.service import Compute
from skerry.compute.store import Work, WorkloadStore
from skerry.db.database import Database
from skerry.db.errors import DatabaseUnavailable
from skerry.db.notify import WORK, notify
from skerry.kernel.clock import Clock, rfc3339
from skerry.kernel.ids import AttemptId, WorkloadId

_WAIT_SECONDS: Final = 20.0
_RETRY_SECONDS: Final = 1.0
_SWEEP_SECONDS: Final = 15.0
_LEAVE_SECONDS: Final = 1.0
_AHEAD: Final = timedelta(seconds=60)
"""How long before the end of its time a workload may want to be told: the longest grace period that is heeded."""
_STRAY_GRACE_SECONDS: Final = 5.0


class EngineWatcher:
    """Has the reconciler look at workloads whose attempts changed; at all of them when it may have missed something."""

    def __init__(self, db: Database, clock: Clock, engine: Engine) -> None:
        self._db = db
        self._clock = clock
        self._engine = engine
        self._work = Work()

    async def run(self) -> None:
        """Until cancelled."""
        cursor = ""
        while True:
            try:
                cursor = await self.watch_once(cursor, _WAIT_SECONDS)
            except (EngineUnavailable, DatabaseUnavailable):
                cursor = ""
                await asyncio.sleep(_RETRY_SECONDS)

    async def watch_once(self, cursor: str, wait_seconds: float) -> str:
        batch = await self._engine.events(cursor, wait_seconds)
        if batch.reset or not cursor:
            await self._hint(None)
        elif batch.attempts:
            await self._hint(batch.attempts)
        return batch.cursor

    async def _hint(self, attempts: Sequence[AttemptId] | None) -> None:
        async with self._db.transaction() as tx:
            if await self._work.hint(tx, self._clock.now(), attempts):
                await notify(tx, WORK, KIND)


class Sweeper:
    """Compares what an engine has with the attempts there are. What is on record as ended is forgotten; what has no
    row (the database was set back) or runs on after its end is ended."""

    def __init__(self, db: Database, engine: Engine) -> None:
        self._db = db
        self._engine = engine
        self._work = Work()
        self._log = structlog.get_logger("skerry.compute")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.sweep_once()
            except (EngineUnavailable, DatabaseUnavailable) as error:
                self._log.info("sweep_put_off", reason=error.code)
            await asyncio.sleep(_SWEEP_SECONDS)

    async def sweep_once(self) -> None:
        # In this order: an attempt's row is committed before the engine can know it.
        known = await self._engine.known()
        if not known:
            return
        async with self._db.reading() as tx:
            ends = await self._work.ends(tx, known)
        for attempt in known:
            if ends.get(attempt) is None and attempt in ends:
                continue  # it runs, as it should
            try:
                await self._engine.forget(attempt)
            except EngineRefused:
                self._log.warning("stray_attempt_ended", attempt=attempt, on_record=attempt in ends)
                await self._engine.cancel(attempt, _STRAY_GRACE_SECONDS)


class Evictions:
    """Has workloads leave in time: those whose capacity was asked back are stopped and wait for other, those whose own
    time is over end."""

    def __init__(self, db: Database, clock: Clock, compute: Compute, admission: Admission) -> None:
        self._db = db
        self._clock = clock
        self._compute = compute
        self._admission = admission
        self._store = WorkloadStore()
        self._work = Work()

    async def run(self) -> None:
        """Until cancelled."""
        log = structlog.get_logger("skerry.compute")
        while True:
            try:
                await self.look_once()
            except DatabaseUnavailable as error:
                log.info("evictions_put_off", reason=error.code)
            await asyncio.sleep(_LEAVE_SECONDS)

    async def look_once(self) -> int:
        """How many workloads are to leave now."""
        async with self._db.reading() as tx:
            leaving = await self._admission.leaving(tx, _AHEAD)
        if not leaving:
            return 0
        told = 0
        async with self._db.transaction() as tx:
            for one in sorted(leaving, key=lambda one: one.workload):
                workload = await self._store.find(tx, one.project, WorkloadId(one.workload))
                if workload is None or workload.desired is not Desired.RUN:
                    continue
                grace = timedelta(seconds=workload.spec.grace_seconds)
                if not one.noticed and one.by - grace > self._clock.now():
                    continue
                told += 1
                if goes_back(one):
                    data = {"leaves_by": rfc3339(one.by), "capacity_class": one.capacity_class.value}
                    await self._compute.warn_once(tx, workload, "reclaim", "workload.reclaim_notice", data)
                    await self._work.hint_these(tx, self._clock.now(), [workload.id])
                else:
                    await self._compute.stop_workload(tx, one.project, workload.id, StopReason.MAX_DURATION)
            if told:
                await notify(tx, WORK, KIND)
        return told
