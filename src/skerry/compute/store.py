"""SQL of compute. What the reconciler does across projects is in `Work`; all else takes the project."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, Table, and_, func, insert, not_, select, update

from skerry.compute.model import (
    Attempt,
    Desired,
    Outcome,
    ReasonCode,
    StatusReason,
    StopReason,
    Workload,
    WorkloadKind,
    WorkloadSpec,
    WorkloadStatus,
    shared_out,
)
from skerry.compute.tables import attempts as a
from skerry.compute.tables import workloads as w
from skerry.db.claim import claim_rows, guarded_update
from skerry.db.database import Tx
from skerry.kernel.ids import AttemptId, ProjectId, WorkloadId
from skerry.kernel.paging import Page, PageRequest

TABLE: Table = w
"""For `runtime.state.transition`."""


@dataclass(frozen=True, slots=True)
class WorkloadFilter:
    """None: any."""

    resource: str | None = None
    kind: WorkloadKind | None = None
    status: WorkloadStatus | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A workload under lease. `hints` is the count of hints when it was claimed, `files` its sealed secrets."""

    workload: Workload
    lease_token: str
    hints: int
    files: str | None


@dataclass(frozen=True, slots=True)
class NodeUse:
    """What an open attempt holds of a node."""

    workload: WorkloadId
    node: str
    accelerators: int
    devices: frozenset[int]


class WorkloadStore:
    """Workloads and attempts of one project."""

    async def insert(self, tx: Tx, workload: Workload, files: str | None) -> None:
        await tx.execute(
            insert(w).values(
                id=workload.id,
                project=workload.project,
                kind=workload.kind,
                name=workload.name,
                resource=workload.resource,
                spec=spec_to_json(workload.spec),
                files=files,
                status=workload.status,
                status_reason=asdict(workload.reason),
                desired=workload.desired,
                due_at=workload.due_at,
                priority=workload.spec.priority,
                queued_at=workload.queued_at,
                created_at=workload.created_at,
                updated_at=workload.updated_at,
            )
        )

    async def find(self, tx: Tx, project: ProjectId, id: WorkloadId, *, lock: bool = False) -> Workload | None:
        query = select(w).where(w.c.project == project, w.c.id == id)
        row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
        return (await self._with_attempts(tx, [row]))[0] if row is not None else None

    async def page(self, tx: Tx, project: ProjectId, wanted: WorkloadFilter, request: PageRequest) -> Page[Workload]:
        """Newest first."""
        query = select(w).where(w.c.project == project)
        for column, value in ((w.c.resource, wanted.resource), (w.c.kind, wanted.kind), (w.c.status, wanted.status)):
            if value is not None:
                query = query.where(column == value)
        if request.after is not None:
            query = query.where(w.c.id < request.after[0])
        rows = (await tx.execute(query.order_by(w.c.id.desc()).limit(request.limit + 1))).all()
        return Page.cut(await self._with_attempts(tx, rows), request, lambda workload: (workload.id,))

    async def update(self, tx: Tx, project: ProjectId, id: WorkloadId, values: Mapping[str, Any]) -> None:
        await tx.execute(update(w).where(w.c.project == project, w.c.id == id).values(**values))

    async def wish(self, tx: Tx, project: ProjectId, id: WorkloadId, values: Mapping[str, Any], now: datetime) -> None:
        """Write what is wanted, with a hint to look at it now."""
        hint = {"due_at": now, "hints": w.c.hints + 1, "updated_at": now}
        await self.update(tx, project, id, {**values, **hint})

    async def attempts(self, tx: Tx, project: ProjectId, workload: WorkloadId, request: PageRequest) -> Page[Attempt]:
        """In the order in which they ran."""
        query = select(a).where(a.c.project == project, a.c.workload_id == workload)
        if request.after is not None:
            query = query.where(a.c.id > request.after[0])
        rows = (await tx.execute(query.order_by(a.c.id).limit(request.limit + 1))).all()
        return Page.cut([attempt_of(row) for row in rows], request, lambda attempt: (attempt.id,))

    async def find_attempt(self, tx: Tx, project: ProjectId, id: AttemptId) -> Attempt | None:
        row = (await tx.execute(select(a).where(a.c.project == project, a.c.id == id))).one_or_none()
        return attempt_of(row) if row is not None else None

    async def insert_attempt(self, tx: Tx, attempt: Attempt) -> None:
        await tx.execute(
            insert(a).values(
                id=attempt.id,
                project=attempt.project,
                workload_id=attempt.workload,
                n=attempt.n,
                engine=attempt.engine,
                nodes=list(attempt.nodes),
                accelerators=attempt.accelerators,
                devices=list(attempt.devices),
                site=attempt.site,
                sku=attempt.sku,
                created_at=attempt.created_at,
                waited_seconds=attempt.waited_seconds,
            )
        )

    async def update_attempt(self, tx: Tx, project: ProjectId, id: AttemptId, values: Mapping[str, Any]) -> None:
        if values:
            await tx.execute(update(a).where(a.c.project == project, a.c.id == id).values(**values))

    async def set_warned(self, tx: Tx, project: ProjectId, id: AttemptId, name: str) -> bool:
        """Once for each name."""
        not_yet = and_(a.c.project == project, a.c.id == id, not_(a.c.warned.contains([name])))
        warned = update(a).where(not_yet).values(warned=func.array_append(a.c.warned, name))
        return (await tx.execute(warned)).rowcount == 1

    async def set_ready(self, tx: Tx, project: ProjectId, id: AttemptId, at: datetime) -> bool:
        """Once, and only while it runs."""
        open_and_not_ready = and_(a.c.project == project, a.c.id == id, a.c.ready_at.is_(None), a.c.ended_at.is_(None))
        return (await tx.execute(update(a).where(open_and_not_ready).values(ready_at=at))).rowcount == 1

    async def _with_attempts(self, tx: Tx, rows: Sequence[Row[Any]]) -> list[Workload]:
        return await with_newest_attempts(tx, rows)


class Work:
    """What the controller needs, across all projects."""

    async def claim(self, tx: Tx, now: datetime, limit: int, lease_seconds: float) -> list[Claimed]:
        rows = await claim_rows(
            tx,
            w,
            where=and_(w.c.status != WorkloadStatus.ENDED, w.c.due_at <= now),
            order_by=[w.c.due_at, w.c.id],
            limit=limit,
            lease_seconds=lease_seconds,
            now=now,
        )
        return _claimed(rows, await with_newest_attempts(tx, rows))

    async def lock(self, tx: Tx, claimed: Claimed) -> Claimed | None:
        """The row as it is now, locked; None where the lease was lost."""
        held = and_(w.c.id == claimed.workload.id, w.c.lease_token == claimed.lease_token)
        rows = (await tx.execute(select(w).where(held).with_for_update())).all()
        found = _claimed(rows, await with_newest_attempts(tx, rows))
        return found[0] if found else None

    async def release(self, tx: Tx, claimed: Claimed, due_at: datetime) -> bool:
        return await guarded_update(tx, w, claimed.workload.id, claimed.lease_token, {"due_at": due_at})

    async def hint(self, tx: Tx, now: datetime, attempts: Iterable[AttemptId] | None) -> int:
        """Have the workloads of these attempts (None: all that have not ended) looked at now; how many there are."""
        condition: ColumnElement[bool] = w.c.status != WorkloadStatus.ENDED
        if attempts is not None:
            condition = and_(condition, w.c.id.in_(select(a.c.workload_id).where(a.c.id.in_(list(attempts)))))
        hinted = update(w).where(condition).values(due_at=func.least(w.c.due_at, now), hints=w.c.hints + 1)
        return (await tx.execute(hinted)).rowcount

    async def hint_these(self, tx: Tx, now: datetime, workloads: Iterable[str]) -> int:
        """Have these workloads looked at now, as far as they have not ended; how many there are."""
        condition = and_(w.c.status != WorkloadStatus.ENDED, w.c.id.in_(list(workloads)))
        hinted = update(w).where(condition).values(due_at=func.least(w.c.due_at, now), hints=w.c.hints + 1)
        return (await tx.execute(hinted)).rowcount

    async def ends(self, tx: Tx, attempts: Iterable[AttemptId]) -> dict[AttemptId, datetime | None]:
        """When each of these attempts ended, as far as they are known here."""
        rows = await tx.execute(select(a.c.id, a.c.ended_at).where(a.c.id.in_(list(attempts))))
        return {AttemptId(row.id): row.ended_at for row in rows}

    async def deaths(self, tx: Tx, workload: WorkloadId) -> dict[str, int]:
        """How many attempts of a workload each node has taken."""
        query = select(a.c.died_on, func.count().label("times")).where(a.c.workload_id == workload)
        rows = await tx.execute(query.where(a.c.died_on.is_not(None)).group_by(a.c.died_on))
        return {row.died_on: row.times for row in rows}

    async def lock_placement(self, tx: Tx) -> None:
        """One placement at a time, until the transaction ends: what is counted stays true until it is written."""
        await tx.execute(select(func.pg_advisory_xact_lock(func.hashtext("skerry.compute.placement"))))

    async def use_of(self, tx: Tx, nodes: Sequence[str]) -> list[NodeUse]:
        """What open attempts hold of these nodes."""
        query = select(a.c.workload_id, a.c.nodes, a.c.accelerators, a.c.devices).where(
            a.c.ended_at.is_(None), a.c.nodes.overlap(list(nodes))
        )
        return [
            NodeUse(WorkloadId(row.workload_id), node, row.accelerators // len(row.nodes), frozenset(devices))
            for row in await tx.execute(query)
            for node, devices in zip(row.nodes, shared_out(row.devices, len(row.nodes)), strict=True)
        ]


async def with_newest_attempts(tx: Tx, rows: Sequence[Row[Any]]) -> list[Workload]:
    if not rows:
        return []
    newest = select(a).join(w, and_(a.c.workload_id == w.c.id, a.c.n == w.c.attempts))
    found = await tx.execute(newest.where(w.c.id.in_([row.id for row in rows])))
    by_workload = {row.workload_id: attempt_of(row) for row in found}
    return [workload_of(row, by_workload.get(row.id)) for row in rows]


def workload_of(row: Row[Any], attempt: Attempt | None) -> Workload:
    return Workload(
        id=WorkloadId(row.id),
        project=ProjectId(row.project),
        kind=WorkloadKind(row.kind),
        name=row.name,
        resource=row.resource,
        spec=msgspec.convert(row.spec, WorkloadSpec),
        status=WorkloadStatus(row.status),
        reason=StatusReason(ReasonCode(row.status_reason["code"]), row.status_reason["message"]),
        desired=Desired(row.desired),
        created_at=row.created_at,
        updated_at=row.updated_at,
        due_at=row.due_at,
        attempts=row.attempts,
        restarts=row.restarts,
        failures=row.failures,
        stop_reason=StopReason(row.stop_reason) if row.stop_reason else None,
        outcome=Outcome(row.outcome) if row.outcome else None,
        ended_at=row.ended_at,
        attempt=attempt,
        queued_at=row.queued_at,
        estimated_start=row.estimated_start,
    )


def attempt_of(row: Row[Any]) -> Attempt:
    return Attempt(
        id=AttemptId(row.id),
        workload=WorkloadId(row.workload_id),
        project=ProjectId(row.project),
        n=row.n,
        engine=row.engine,
        nodes=tuple(row.nodes),
        accelerators=row.accelerators,
        devices=tuple(row.devices),
        created_at=row.created_at,
        site=row.site,
        sku=row.sku,
        generation=row.generation,
        engine_ref=row.engine_ref,
        submitted_at=row.submitted_at,
        started_at=row.started_at,
        ready_at=row.ready_at,
        seen_at=row.seen_at,
        ended_at=row.ended_at,
        outcome=Outcome(row.outcome) if row.outcome else None,
        exit_code=row.exit_code,
        message=row.message,
        report=row.report,
        reports=tuple(row.reports or ()),
        metered_through=row.metered_through,
        died_on=row.died_on,
        waited_seconds=row.waited_seconds,
        egress_bytes=row.egress_bytes,
        egress_counters=tuple(row.egress_counters),
        egress_metered=row.egress_metered,
        warned=tuple(row.warned),
    )


def spec_to_json(spec: WorkloadSpec) -> dict[str, Any]:
    """Without the secrets."""
    fields: dict[str, Any] = msgspec.to_builtins(spec)
    return {name: value for name, value in fields.items() if name != "files"}


def _claimed(rows: Sequence[Row[Any]], workloads: Sequence[Workload]) -> list[Claimed]:
    return [
        Claimed(workload, row.lease_token, row.hints, row.files) for row, workload in zip(rows, workloads, strict=True)
    ]
