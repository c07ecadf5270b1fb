"""SQL of the health of nodes: the operator's own, so no project is asked for but where a status changes."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Boolean, Row, Table, case, delete, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from skerry.compute.health.model import (
    Action,
    Check,
    Probe,
    ProbeOutcome,
    Remediation,
    RemediationStatus,
    Severity,
    Sign,
    Signal,
    SignalKind,
)
from skerry.compute.health.tables import node_probes as p
from skerry.compute.health.tables import node_signals as s
from skerry.compute.health.tables import remediations as r
from skerry.db.database import Tx
from skerry.fleet.model import Node
from skerry.kernel.clock import floor_hour
from skerry.kernel.ids import NodeId, ProjectId, WorkloadId
from skerry.kernel.paging import Page, PageRequest

REMEDIATIONS: Final[Table] = r
"""For `runtime.state.transition`."""


class HealthStore:
    # Signals

    async def keep(self, tx: Tx, id: str, node: Node, sign: Sign, now: datetime, *, again: bool) -> tuple[Signal, bool]:
        """The signal, and whether it is new within this hour. `again`: one more of the same is counted; else it is
        what was seen before, seen again."""
        values = {
            "id": id,
            "node": node.id,
            "hostname": node.hostname,
            "kind": sign.kind.value,
            "code": sign.code,
            "severity": sign.severity.value,
            "detail": sign.detail,
            "action": sign.action.value,
            "hour": floor_hour(now),
            "at": now,
            "last_at": now,
        }
        kept = upsert(s).values(values)
        kept = kept.on_conflict_do_update(
            index_elements=["node", "kind", "code", "hour"],
            set_={"last_at": now, "detail": sign.detail, "times": s.c.times + (1 if again else 0)},
        )
        fresh = literal_column("xmax = 0", Boolean).label("fresh")
        row = (await tx.execute(kept.returning(*s.c, fresh))).one()
        return _signal(row), row.fresh

    async def signals(self, tx: Tx, node: NodeId, since: datetime) -> list[Signal]:
        rows = await tx.execute(select(s).where(s.c.node == node, s.c.last_at > since).order_by(s.c.last_at))
        return [_signal(row) for row in rows]

    async def page_of_signals(self, tx: Tx, node: str | None, request: PageRequest) -> Page[Signal]:
        """Newest first. `node`: id or host name."""
        query = select(s)
        if node is not None:
            query = query.where((s.c.node == node) | (s.c.hostname == node))
        if request.after is not None:
            query = query.where(s.c.id < request.after[0])
        rows = (await tx.execute(query.order_by(s.c.id.desc()).limit(request.limit + 1))).all()
        return Page.cut([_signal(row) for row in rows], request, lambda one: (one.id,))

    async def forget(self, tx: Tx, before: datetime) -> None:
        await tx.execute(delete(s).where(s.c.last_at < before))
        await tx.execute(delete(p).where(p.c.ended_at < before))

    # Remediations

    async def open(self, tx: Tx, project: ProjectId, one: Remediation) -> bool:
        """False: the node has one already."""
        values = {
            "id": one.id,
            "project": project,
            "node": one.node,
            "hostname": one.hostname,
            "status": one.status.value,
            "status_reason": dict(one.status_reason),
            "action": one.action.value,
            "cause": one.cause,
            "signal": one.signal,
            "created_at": one.created_at,
            "updated_at": one.updated_at,
        }
        made = upsert(r).values(values).on_conflict_do_nothing().returning(r.c.id)
        return (await tx.execute(made)).one_or_none() is not None

    async def find(self, tx: Tx, id: str, *, lock: bool = False) -> Remediation | None:
        query = select(r).where(r.c.id == id)
        row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
        return _remediation(row) if row is not None else None

    async def open_ones(self, tx: Tx, nodes: Collection[NodeId] | None = None) -> list[Remediation]:
        query = select(r).where(r.c.ended_at.is_(None))
        if nodes is not None:
            query = query.where(r.c.node.in_(nodes))
        return [_remediation(row) for row in await tx.execute(query.order_by(r.c.id))]

    async def page(self, tx: Tx, statuses: Sequence[RemediationStatus], request: PageRequest) -> Page[Remediation]:
        """Newest first; no statuses: all."""
        query = select(r)
        if statuses:
            query = query.where(r.c.status.in_([status.value for status in statuses]))
        if request.after is not None:
            query = query.where(r.c.id < request.after[0])
        rows = (await tx.execute(query.order_by(r.c.id.desc()).limit(request.limit + 1))).all()
        return Page.cut([_remediation(row) for row in rows], request, lambda one: (one.id,))

    async def explain(self, tx: Tx, id: str, reason: dict[str, str], now: datetime) -> None:
        values = {"status_reason": reason, "updated_at": case((r.c.status_reason == reason, r.c.updated_at), else_=now)}
        await tx.execute(update(r).where(r.c.id == id).values(values))

    async def last_closed(self, tx: Tx, node: NodeId) -> datetime | None:
        """When the last case of a node was closed."""
        found: datetime | None = (await tx.execute(select(func.max(r.c.ended_at)).where(r.c.node == node))).scalar()
        return found

    # Checks

    async def begin(self, tx: Tx, probe: Probe) -> bool:
        """False: one runs there already."""
        values = {
            "workload": probe.workload,
            "node": probe.node,
            "hostname": probe.hostname,
            "check": probe.check.value,
            "peer": probe.peer,
            "remediation": probe.remediation,
            "created_at": probe.created_at,
        }
        made = upsert(p).values(values).on_conflict_do_nothing().returning(p.c.workload)
        return (await tx.execute(made)).one_or_none() is not None

    async def running(self, tx: Tx) -> list[Probe]:
        rows = await tx.execute(select(p).where(p.c.ended_at.is_(None)).order_by(p.c.created_at))
        return [_probe(row) for row in rows]

    async def finish(self, tx: Tx, workload: WorkloadId, outcome: ProbeOutcome, detail: str, now: datetime) -> bool:
        done = update(p).where(p.c.workload == workload, p.c.ended_at.is_(None))
        values = {"outcome": outcome.value, "detail": detail, "ended_at": now}
        return (await tx.execute(done.values(values))).rowcount == 1

    async def last(self, tx: Tx, since: datetime) -> dict[NodeId, datetime]:
        """When each node had its last burn-in that was not cut short, as far as that was after `since`."""
        query = select(p.c.node, p.c.created_at).where(
            p.c.created_at > since, p.c.check == Check.BURN_IN.value, p.c.outcome.is_distinct_from("yielded")
        )
        return {NodeId(row.node): row.created_at for row in await tx.execute(query.order_by(p.c.created_at))}

    async def of_remediation(self, tx: Tx, remediation: str) -> Probe | None:
        """The newest check of a case."""
        query = select(p).where(p.c.remediation == remediation).order_by(p.c.created_at.desc()).limit(1)
        row = (await tx.execute(query)).one_or_none()
        return _probe(row) if row is not None else None


def _signal(row: Row[Any]) -> Signal:
    return Signal(
        id=row.id,
        node=NodeId(row.node),
        hostname=row.hostname,
        kind=SignalKind(row.kind),
        code=row.code,
        severity=Severity(row.severity),
        detail=row.detail,
        action=Action(row.action),
        at=row.at,
        last_at=row.last_at,
        count=row.times,
    )


def _remediation(row: Row[Any]) -> Remediation:
    return Remediation(
        id=row.id,
        node=NodeId(row.node),
        hostname=row.hostname,
        status=RemediationStatus(row.status),
        status_reason=row.status_reason,
        action=Action(row.action),
        cause=row.cause,
        signal=row.signal,
        created_at=row.created_at,
        updated_at=row.updated_at,
        decided_by=row.decided_by,
        ended_at=row.ended_at,
    )


def _probe(row: Row[Any]) -> Probe:
    return Probe(
        workload=WorkloadId(row.workload),
        node=NodeId(row.node),
        hostname=row.hostname,
        check=Check(row.check),
        created_at=row.created_at,
        peer=row.peer,
        remediation=row.remediation,
        outcome=ProbeOutcome(row.outcome) if row.outcome else None,
        detail=row.detail,
        ended_at=row.ended_at,
    )
