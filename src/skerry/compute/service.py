"""Use cases of compute: workloads come, are stopped and started again, and are looked at."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Final

from skerry.compute import errors
from skerry.compute.changes import KIND, Changes
from skerry.compute.engines.base import Engine, EngineUnavailable, LogChunk
from skerry.compute.engines.base import UnknownAttempt as NoSuchLog
from skerry.compute.metered import Metered, Used
from skerry.compute.model import (
    Attempt,
    Desired,
    ReasonCode,
    StatusReason,
    StopReason,
    Workload,
    WorkloadKind,
    WorkloadSpec,
    WorkloadStatus,
)
from skerry.compute.rules.feasible import require_possible
from skerry.compute.rules.validity import require_valid
from skerry.compute.store import WorkloadFilter, WorkloadStore
from skerry.db.database import Database, Tx
from skerry.db.notify import WORK, notify
from skerry.fleet.service import Fleet
from skerry.kernel.clock import Clock
from skerry.kernel.ids import AttemptId, IdFactory, ProjectId, WorkloadId, new_id
from skerry.kernel.paging import Page, PageRequest
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog
from skerry.runtime.outbox import Outbox
from skerry.runtime.secrets import Keyring

LOG_BYTES: Final = 256 << 10
_FOLLOW_SECONDS: Final = 0.25


def purpose_of(id: WorkloadId) -> str:
    """What secret files are encrypted for: those of one workload do not open for another."""
    return f"workload:{id}"


class Compute:
    """Products make workloads with it; nothing else reaches an engine. Changes are told on the outbox topic `workload`
    with the payload `{workload, project, resource, status, attempt}`."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        keyring: Keyring,
        events: EventLog,
        outbox: Outbox,
        engines: Mapping[str, Engine],
        new_id: IdFactory = new_id,
        *,
        fleet: Fleet | None = None,
        metering: Metering | None = None,
    ) -> None:
        self.db = db
        self.clock = clock
        self.engines = engines
        self.metered = Metered(clock, metering or Metering(db, clock))
        self._fleet = fleet or Fleet(db, clock)
        self._keyring = keyring
        self._changes = Changes(events, outbox)
        self._store = WorkloadStore()
        self._new_id = new_id

    async def create_workload(self, tx: Tx, project: ProjectId, spec: WorkloadSpec) -> Workload:
        """Pending, and wanted. Raises InvalidWorkload: also where a job or an instance could never be placed."""
        require_valid(spec)
        if spec.kind is not WorkloadKind.SERVICE and not spec.on_server:
            require_possible(spec, await self._fleet.supplies(tx), await self._fleet.node_sizes(tx))
        now = self.clock.now()
        workload = Workload(
            id=WorkloadId(self._new_id("wl")),
            project=project,
            kind=spec.kind,
            name=spec.name,
            resource=spec.resource,
            spec=spec,
            status=WorkloadStatus.PENDING,
            reason=StatusReason.of(ReasonCode.NEW),
            desired=Desired.RUN,
            created_at=now,
            updated_at=now,
            due_at=now,
        )
        files = self._keyring.encrypt(json.dumps(dict(spec.files)), purpose_of(workload.id)) if spec.files else None
        await self._store.insert(tx, workload, files)
        await self._changes.record(
            tx, workload, "workload.created", {"kind": spec.kind.value, "resource": spec.resource}
        )
        await self._changes.tell(tx, workload)
        await notify(tx, WORK, KIND)
        return workload

    async def stop_workload(self, tx: Tx, project: ProjectId, id: WorkloadId, reason: StopReason) -> Workload:
        """Want it no longer. What has ended stays as it is. Raises UnknownWorkload."""
        workload = await self._locked(tx, project, id)
        if workload.status is not WorkloadStatus.ENDED and workload.desired is not Desired.STOP:
            await self._want(tx, workload, {"desired": Desired.STOP, "stop_reason": reason})
            await self._changes.record(tx, workload, "workload.stop_requested", {"reason": reason.value})
        return await self.get(tx, project, id)

    async def start_workload(self, tx: Tx, project: ProjectId, id: WorkloadId) -> Workload:
        """Want an ended one again, with all its restarts. Raises UnknownWorkload, NotEnded."""
        workload = await self._locked(tx, project, id)
        if workload.status is not WorkloadStatus.ENDED:
            raise errors.NotEnded(
                f"Workload {workload.name} is {workload.status}.", suggestion="Wait until it has ended, or stop it."
            )
        again: dict[str, object] = {"desired": Desired.RUN, "stop_reason": None, "outcome": None, "ended_at": None}
        again |= {"queued_at": self.clock.now(), "booked": False}
        await self._changes.move(tx, workload, WorkloadStatus.PENDING, StatusReason.of(ReasonCode.RESUMED))
        await self._want(tx, workload, {**again, "restarts": 0, "failures": 0})
        return await self.get(tx, project, id)

    async def mark_ready(self, tx: Tx, project: ProjectId, attempt: AttemptId) -> bool:
        """The product has seen that it works: metering begins. False: it was ready before, or has ended."""
        found = await self._store.find_attempt(tx, project, attempt)
        if found is None:
            raise errors.UnknownAttempt(f"There is no attempt {attempt}.")
        workload = await self._locked(tx, project, found.workload)  # so that it does not end in between
        if not await self._store.set_ready(tx, project, attempt, self.clock.now()):
            return False
        await self._changes.record(tx, workload, "workload.ready", {"attempt": attempt, "n": found.n})
        return True

    async def exclude(
        self, tx: Tx, project: ProjectId, attempt: AttemptId, key: str, start: datetime, end: datetime
    ) -> int:
        """Time of an attempt that was lost through our fault is not charged. Once for each `key` (no `/` in it); what
        was taken off before is not taken off again. The accelerator-seconds it takes off. Raises UnknownAttempt."""
        found = await self._store.find_attempt(tx, project, attempt)
        if found is None:
            raise errors.UnknownAttempt(f"There is no attempt {attempt}.")
        workload = await self._locked(tx, project, found.workload)
        current = await self._store.find_attempt(tx, project, attempt)
        assert current is not None, "attempts are kept"
        taken = await self.metered.exclude(tx, workload, current, key, start, end)
        if taken:
            await self._store.update(tx, project, workload.id, {"booked": False})
            data = {"attempt": attempt, "n": found.n, "accelerator_seconds": taken, "why": key}
            await self._changes.record(tx, workload, "workload.not_charged", data)
        return taken

    async def warn_once(self, tx: Tx, workload: Workload, name: str, type: str, data: Mapping[str, object]) -> bool:
        """An event before something happens to its open attempt, once of each name. False: it was warned, or runs no
        more."""
        attempt = workload.open_attempt
        if attempt is None or not await self._store.set_warned(tx, workload.project, attempt.id, name):
            return False
        await self._changes.record(tx, workload, type, {"attempt": attempt.id, **data})
        return True

    async def used(self, tx: Tx, workload: Workload) -> Used:
        """What of it is charged, and what is not."""
        return await self.metered.used(tx, workload)

    async def get(self, tx: Tx, project: ProjectId, id: WorkloadId) -> Workload:
        """Raises UnknownWorkload."""
        workload = await self._store.find(tx, project, id)
        if workload is None:
            raise _unknown(id)
        return workload

    async def list(
        self,
        tx: Tx,
        project: ProjectId,
        page: PageRequest,
        *,
        resource: str | None = None,
        kind: WorkloadKind | None = None,
        status: WorkloadStatus | None = None,
    ) -> Page[Workload]:
        """Newest first."""
        return await self._store.page(tx, project, WorkloadFilter(resource, kind, status), page)

    async def attempts(self, tx: Tx, project: ProjectId, id: WorkloadId, page: PageRequest) -> Page[Attempt]:
        """In the order in which they ran. Raises UnknownWorkload."""
        await self.get(tx, project, id)
        return await self._store.attempts(tx, project, id, page)

    async def logs(
        self, project: ProjectId, id: WorkloadId, rank: int = 0, offset: int = 0, limit: int = LOG_BYTES
    ) -> LogChunk:
        """Of the newest attempt; empty before it starts. Raises UnknownWorkload, UnknownRank, EngineUnavailable."""
        async with self.db.reading() as tx:
            workload = await self.get(tx, project, id)
        return await self._read_log(workload, rank, offset, limit)

    async def follow_logs(
        self, project: ProjectId, id: WorkloadId, rank: int = 0, offset: int = 0
    ) -> AsyncIterator[bytes]:
        """From `offset` on until the attempt has ended and all of it was read; waits for an attempt to begin."""
        attempt: AttemptId | None = None
        while True:
            async with self.db.reading() as tx:
                workload = await self.get(tx, project, id)
            newest = workload.attempt.id if workload.attempt is not None else None
            if attempt is not None and newest != attempt:
                return
            attempt = newest
            async for chunk in self._rest_of_log(workload, rank, offset):
                offset = chunk.next_offset
                yield chunk.data
            if workload.status is WorkloadStatus.ENDED or (workload.attempt is not None and workload.attempt.ended_at):
                return
            await asyncio.sleep(_FOLLOW_SECONDS)

    async def _rest_of_log(self, workload: Workload, rank: int, offset: int) -> AsyncIterator[LogChunk]:
        """What there is now. An engine that is away has nothing new."""
        while True:
            try:
                chunk = await self._read_log(workload, rank, offset, LOG_BYTES)
            except EngineUnavailable:
                return
            if not chunk.data:
                return
            offset = chunk.next_offset
            yield chunk

    async def _read_log(self, workload: Workload, rank: int, offset: int, limit: int) -> LogChunk:
        if not 0 <= rank < workload.spec.tasks:
            raise errors.UnknownRank(f"Workload {workload.name} has ranks 0 to {workload.spec.tasks - 1}.")
        attempt = workload.attempt
        engine = self.engines.get(attempt.engine) if attempt is not None else None
        if attempt is None or engine is None:
            return LogChunk(b"", offset, 0, ended=workload.status is WorkloadStatus.ENDED)
        try:
            return await engine.logs(attempt.id, rank, offset, limit)
        except NoSuchLog:  # not started yet, or too old to be kept
            return LogChunk(b"", offset, 0, ended=attempt.ended_at is not None)

    async def _locked(self, tx: Tx, project: ProjectId, id: WorkloadId) -> Workload:
        workload = await self._store.find(tx, project, id, lock=True)
        if workload is None:
            raise _unknown(id)
        return workload

    async def _want(self, tx: Tx, workload: Workload, values: Mapping[str, object]) -> None:
        """Write a wish, and have the reconciler look at it now."""
        await self._store.wish(tx, workload.project, workload.id, values, self.clock.now())
        await notify(tx, WORK, KIND)


def _unknown(id: WorkloadId) -> errors.UnknownWorkload:
    return errors.UnknownWorkload(f"There is no workload {id}.", suggestion="List them to see which there are.")
