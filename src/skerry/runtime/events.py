"""The event timeline: what happened to which resource, written in the transaction in which it happened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Row, Text, cast, func, insert, select, tuple_

from skerry.db.database import Tx
from skerry.db.notify import EVENTS, notify
from skerry.db.partitions import Partition, Partitions, drop_partitions_before
from skerry.kernel.clock import Clock, require_utc, rfc3339
from skerry.kernel.errors import Malformed
from skerry.kernel.ids import ProjectId, new_id
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.tables import events


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `type` is dotted, the kind of the resource first: `workload.running`."""

    id: str
    project: ProjectId
    at: datetime
    resource_kind: str
    resource: str
    type: str
    data: Mapping[str, Any]
    position: str
    """Where it stands for whoever follows: pass it as `after` to read on from here."""
    seq: int


class EventLog:
    """Appends events and reads them back. It has no method that changes one."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._months = Partitions("events", "month")

    async def record(
        self, tx: Tx, *, project: ProjectId, resource: str, type: str, data: Mapping[str, Any], resource_kind: str
    ) -> None:
        """Append one event, now. Those who follow the project hear of it when the transaction commits."""
        row = await self.row(tx, project=project, resource=resource, type=type, data=data, resource_kind=resource_kind)
        await tx.execute(insert(events).values(**row))
        await notify(tx, EVENTS, project)

    async def row(
        self, tx: Tx, *, project: ProjectId, resource: str, type: str, data: Mapping[str, Any], resource_kind: str
    ) -> dict[str, Any]:
        """What `record` would insert, for a function of the database that does it along with what happened."""
        now = self.clock.now()
        await self._months.cover(tx, now)
        return {
            "id": new_id("evt"),
            "at": now,
            "project": project,
            "resource_kind": resource_kind,
            "resource": resource,
            "type": type,
            "data": dict(data),
        }

    async def list(
        self, tx: Tx, project: ProjectId, resource: str | None = None, page: PageRequest | None = None
    ) -> Page[Event]:
        """The project's events, or those of one resource, oldest first."""
        request = page or PageRequest()
        query = select(events).where(events.c.project == project)
        if resource is not None:
            query = query.where(events.c.resource == resource)
        if request.after is not None:
            at, seq = _parse_after(request.after)
            query = query.where(tuple_(events.c.at, events.c.seq) > (at, seq))
        rows = await tx.execute(query.order_by(events.c.at, events.c.seq).limit(request.limit + 1))
        found = [_event(row) for row in rows]
        return Page.cut(found, request, lambda event: (rfc3339(event.at), str(event.seq)))

    async def position(self, tx: Tx) -> str:
        """Where to begin to follow what happens from now on."""
        horizon = await tx.execute(select(_horizon()))
        return f"{horizon.scalar_one()}.0"

    async def follow(self, tx: Tx, project: ProjectId, after: str, limit: int = 100) -> Sequence[Event]:
        """The project's events after a position, in the order in which to tell them; none is ever skipped.

        An event becomes visible here when no transaction that was open beside its own is open any more: a later one
        could otherwise overtake it. Raises Malformed for a position that is none.
        """
        query = (
            select(events)
            .where(
                events.c.project == project,
                events.c.tx < _horizon(),
                tuple_(events.c.tx, events.c.seq) > _parse_position(after),
            )
            .order_by(events.c.tx, events.c.seq)
            .limit(limit)
        )
        return [_event(row) for row in await tx.execute(query)]

    async def forget(self, tx: Tx, before: datetime) -> Sequence[Partition]:
        """Drop whole months that ended before `before`."""
        return await drop_partitions_before(tx, "events", before)


def _horizon() -> Any:
    """The oldest transaction that may still write: all before it are done."""
    return cast(cast(func.pg_snapshot_xmin(func.pg_current_snapshot()), Text()), BigInteger)


def _event(row: Row[Any]) -> Event:
    return Event(
        id=row.id,
        project=row.project,
        at=row.at,
        resource_kind=row.resource_kind,
        resource=row.resource,
        type=row.type,
        data=row.data,
        position=f"{row.tx}.{row.seq}",
        seq=row.seq,
    )


def _parse_after(after: tuple[str, ...]) -> tuple[datetime, int]:
    try:
        at, seq = after
        return require_utc(datetime.fromisoformat(at)), int(seq)
    except ValueError:
        raise Malformed("after is not a cursor of this list", code="bad_cursor") from None


def _parse_position(position: str) -> tuple[int, int]:
    try:
        tx, seq = (int(part) for part in position.split("."))
    except ValueError:
        raise Malformed(f"{position!r} is not a position in the timeline", code="bad_cursor") from None
    if not (0 <= tx < 2**63 and 0 <= seq < 2**63):
        raise Malformed(f"{position!r} is not a position in the timeline", code="bad_cursor")
    return tx, seq
