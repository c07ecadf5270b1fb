"""Every change of a workload: its step in the state machine, its event, and word to whoever made it."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from skerry.compute.model import WORKLOAD_TRANSITIONS, StatusReason, Workload, WorkloadStatus
from skerry.compute.store import TABLE, WorkloadStore
from skerry.db.database import Tx
from skerry.runtime.events import EventLog
from skerry.runtime.outbox import Outbox
from skerry.runtime.state import Reason, transition

KIND: Final = "workload"
"""Kind of the resource, payload of the hint to the reconciler, and topic of the outbox."""


class Changes:
    """Writes steps, reasons, events and messages in the caller's transaction."""

    def __init__(self, events: EventLog, outbox: Outbox) -> None:
        self._events = events
        self._outbox = outbox
        self._store = WorkloadStore()

    async def move(
        self, tx: Tx, workload: Workload, after: WorkloadStatus, reason: StatusReason, **values: object
    ) -> None:
        """One step, guarded by the status the caller holds a lock on."""
        moved = await transition(
            tx,
            self._events,
            WORKLOAD_TRANSITIONS,
            TABLE,
            id=workload.id,
            project=workload.project,
            before=workload.status,
            after=after,
            reason=Reason(reason.code, reason.message),
            values=values,
        )
        assert moved, "the row is locked, its status is what was read"
        await self.tell(tx, workload, after)

    async def explain(
        self, tx: Tx, workload: Workload, reason: StatusReason, *, estimated_start: datetime | None = None
    ) -> None:
        """A new reason for the status it has. Another code is worth an event, other words are not."""
        if (workload.reason, workload.estimated_start) == (reason, estimated_start):
            return
        values = {"status_reason": asdict(reason), "estimated_start": estimated_start}
        await self._store.update(tx, workload.project, workload.id, values)
        if workload.reason.code != reason.code:
            await self.record(tx, workload, "workload.reason", {"reason": asdict(reason)})

    async def record(self, tx: Tx, workload: Workload, type: str, data: Mapping[str, Any]) -> None:
        await self._events.record(
            tx, project=workload.project, resource=workload.id, resource_kind=KIND, type=type, data=data
        )

    async def tell(self, tx: Tx, workload: Workload, status: WorkloadStatus | None = None) -> None:
        """Put word on the outbox: something of it changed."""
        attempt = workload.attempt.id if workload.attempt is not None else None
        told = {
            "workload": workload.id,
            "project": workload.project,
            "resource": workload.resource,
            "status": (status or workload.status).value,
            "attempt": attempt,
        }
        await self._outbox.put(tx, KIND, told)
