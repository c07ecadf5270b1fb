"""SQL of inference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, case, func, or_, select, true, update
from sqlalchemy.dialects.postgresql import insert

from skerry.db.claim import claim_rows, guarded_update
from skerry.db.database import Tx
from skerry.inference.model import (
    Desired,
    Endpoint,
    EndpointKind,
    EndpointStatus,
    Replica,
    ReplicaStatus,
)
from skerry.inference.tables import endpoints as e
from skerry.inference.tables import replicas as r
from skerry.kernel.ids import AttemptId, EndpointId, ModelId, ProjectId, ReplicaId, WorkloadId
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.state import Reason

ENDPOINTS: Table = e
REPLICAS: Table = r
"""For `runtime.state.transition`."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """An endpoint under lease. `hints` is the count of hints when it was claimed."""

    endpoint: Endpoint
    lease_token: str
    hints: int


class InferenceStore:
    """`project` says who looks: a project sees the shared endpoints and its own, None (the operator) sees all."""

    async def insert_endpoint(self, tx: Tx, endpoint: Endpoint, due_at: datetime | None) -> bool:
        """False, and nothing written, where the name is taken."""
        values = {
            "id": endpoint.id,
            "project": endpoint.project,
            "name": endpoint.name,
            "model": endpoint.model,
            "kind": endpoint.kind.value,
            "shared": endpoint.shared,
            "capacity_class": endpoint.capacity_class,
            "charge_by": endpoint.charge_by,
            "min_replicas": endpoint.min_replicas,
            "max_replicas": endpoint.max_replicas,
            "target_concurrency": endpoint.target_concurrency,
            "idle_timeout_seconds": endpoint.idle_timeout_seconds,
            "desired": endpoint.desired.value,
            "status": endpoint.status.value,
            "status_reason": endpoint.reason.to_json(),
            "due_at": due_at,
            "created_at": endpoint.created_at,
            "updated_at": endpoint.updated_at,
        }
        written = (
            insert(e)
            .values(values)
            .on_conflict_do_nothing(index_elements=[e.c.name], index_where=e.c.removed_at.is_(None))
            .returning(e.c.id)
        )
        return (await tx.execute(written)).first() is not None

    async def insert_replica(self, tx: Tx, replica: Replica, sealed_key: str | None) -> None:
        await tx.execute(
            insert(r).values(
                id=replica.id,
                project=replica.project,
                endpoint=replica.endpoint,
                workload=replica.workload,
                base_url=replica.base_url,
                sealed_key=sealed_key,
                slots=replica.slots,
                site=replica.site,
                status=replica.status.value,
                status_reason=replica.reason.to_json(),
                ready_at=replica.ready_at,
                created_at=replica.created_at,
                updated_at=replica.updated_at,
            )
        )

    async def find_endpoint(self, tx: Tx, project: ProjectId | None, ref: str) -> Endpoint | None:
        """By id (removed ones too) or by name."""
        named = (e.c.name == ref) & e.c.removed_at.is_(None)
        query = select(e).where(or_(e.c.id == ref, named), _visible(project))
        row = (await tx.execute(query.order_by(e.c.id != ref).limit(1))).first()
        return _endpoint(row) if row is not None else None

    async def endpoint_page(self, tx: Tx, project: ProjectId | None, request: PageRequest) -> Page[Endpoint]:
        query = select(e).where(e.c.removed_at.is_(None), _visible(project))
        if request.after is not None:
            query = query.where(e.c.id > request.after[0])
        rows = await tx.execute(query.order_by(e.c.id).limit(request.limit + 1))
        return Page.cut([_endpoint(row) for row in rows], request, lambda endpoint: (endpoint.id,))

    async def live_endpoints(self, tx: Tx, project: ProjectId | None = None) -> list[Endpoint]:
        """All that have not been removed, by name."""
        query = select(e).where(e.c.removed_at.is_(None), _visible(project)).order_by(e.c.name)
        return [_endpoint(row) for row in await tx.execute(query)]

    async def endpoints_of_model(self, tx: Tx, project: ProjectId, model: ModelId) -> list[Endpoint]:
        query = select(e).where(e.c.project == project, e.c.model == model, e.c.removed_at.is_(None))
        return [_endpoint(row) for row in await tx.execute(query.with_for_update())]

    async def remove_endpoint(self, tx: Tx, project: ProjectId, id: EndpointId, at: datetime) -> None:
        """Want it stopped, and its name freed."""
        values = {"desired": Desired.STOP.value, "removed_at": at, "due_at": at, "hints": e.c.hints + 1}
        await tx.execute(update(e).where(e.c.id == id, e.c.project == project).values(values))

    async def hint(self, tx: Tx, project: ProjectId, id: EndpointId, at: datetime) -> None:
        """Something happened: look at it now."""
        await tx.execute(
            update(e)
            .where(e.c.id == id, e.c.project == project, e.c.due_at.is_not(None))
            .values(due_at=at, hints=e.c.hints + 1)
        )

    async def replicas(self, tx: Tx, project: ProjectId, endpoint: EndpointId) -> list[Replica]:
        """Those that have not ended."""
        query = select(r).where(r.c.project == project, r.c.endpoint == endpoint, r.c.ended_at.is_(None))
        return [_replica(row) for row in await tx.execute(query.order_by(r.c.id))]

    async def shown_replicas(self, tx: Tx, ids: set[EndpointId]) -> dict[EndpointId, list[Replica]]:
        """By endpoint: those that have not ended, else the one that ended last."""
        found: dict[EndpointId, list[Replica]] = {id: [] for id in ids}
        live = select(r).where(r.c.endpoint.in_(ids), r.c.ended_at.is_(None)).order_by(r.c.id)
        for row in await tx.execute(live):
            found[EndpointId(row.endpoint)].append(_replica(row))
        bare = {id for id, replicas in found.items() if not replicas}
        if bare:
            newest = select(func.max(r.c.id)).where(r.c.endpoint.in_(bare)).group_by(r.c.endpoint)
            for row in await tx.execute(select(r).where(r.c.id.in_(newest))):
                found[EndpointId(row.endpoint)].append(_replica(row))
        return found

    async def last_failure(self, tx: Tx, project: ProjectId, endpoint: EndpointId) -> datetime | None:
        failed = (r.c.project == project) & (r.c.endpoint == endpoint) & (r.c.status == ReplicaStatus.FAILED.value)
        query = select(r.c.ended_at).where(failed, r.c.ended_at.is_not(None)).order_by(r.c.ended_at.desc()).limit(1)
        return (await tx.execute(query)).scalar_one_or_none()

    async def update_replica(self, tx: Tx, replica: Replica, reason: Reason | None, values: Mapping[str, Any]) -> None:
        """Values beside the status."""
        changes = dict(values)
        if reason is not None:
            changes["status_reason"] = reason.to_json()
        if changes:
            await tx.execute(update(r).where(r.c.id == replica.id, r.c.project == replica.project).values(changes))

    async def set_endpoint_reason(self, tx: Tx, endpoint: Endpoint, reason: Reason) -> None:
        mine = (e.c.id == endpoint.id) & (e.c.project == endpoint.project)
        await tx.execute(update(e).where(mine).values(status_reason=reason.to_json()))

    async def ready_replicas(self, tx: Tx, ids: set[EndpointId]) -> list[tuple[Replica, str | None]]:
        """With their sealed keys."""
        query = select(r).where(
            r.c.endpoint.in_(ids),
            r.c.status == ReplicaStatus.READY.value,
            r.c.ended_at.is_(None),
            r.c.base_url.is_not(None),
        )
        return [(_replica(row), row.sealed_key) for row in await tx.execute(query.order_by(r.c.id))]

    async def sealed_keys(self, tx: Tx, project: ProjectId, ids: Sequence[ReplicaId]) -> dict[ReplicaId, str]:
        query = select(r.c.id, r.c.sealed_key).where(
            r.c.project == project, r.c.id.in_(ids), r.c.sealed_key.is_not(None)
        )
        return {ReplicaId(row.id): row.sealed_key for row in await tx.execute(query)}


class EndpointWork:
    """Leases of the reconciler, across projects."""

    async def claim(self, tx: Tx, limit: int, lease_seconds: float, now: datetime) -> list[Claimed]:
        rows = await claim_rows(
            tx,
            e,
            where=e.c.due_at <= now,
            order_by=[e.c.due_at, e.c.id],
            limit=limit,
            lease_seconds=lease_seconds,
            now=now,
        )
        return [Claimed(_endpoint(row), row.lease_token, row.hints) for row in rows]

    async def keep(self, tx: Tx, claimed: Claimed) -> bool:
        """Lock the row for the rest of the transaction. False: the lease was lost."""
        values = {"lease_token": claimed.lease_token}
        return await guarded_update(tx, e, claimed.endpoint.id, claimed.lease_token, values, release=False)

    async def give_back(
        self, tx: Tx, claimed: Claimed, due_in: float | None, now: datetime, values: Mapping[str, Any]
    ) -> bool:
        """Look again in `due_in` seconds, or at once where a hint came meanwhile."""
        due = None if due_in is None else now + timedelta(seconds=due_in)
        again = case((e.c.hints == claimed.hints, due), else_=now)
        changes = {**values, "due_at": again}
        return await guarded_update(tx, e, claimed.endpoint.id, claimed.lease_token, changes)


def _visible(project: ProjectId | None) -> ColumnElement[bool]:
    return true() if project is None else or_(e.c.shared, e.c.project == project)


def _reason(value: Mapping[str, str]) -> Reason:
    return Reason(value["code"], value["message"])


def _endpoint(row: Row[Any]) -> Endpoint:
    return Endpoint(
        id=EndpointId(row.id),
        project=ProjectId(row.project),
        name=row.name,
        model=ModelId(row.model),
        kind=EndpointKind(row.kind),
        shared=row.shared,
        capacity_class=row.capacity_class,
        charge_by=row.charge_by,
        min_replicas=row.min_replicas,
        max_replicas=row.max_replicas,
        desired=Desired(row.desired),
        status=EndpointStatus(row.status),
        reason=_reason(row.status_reason),
        created_at=row.created_at,
        updated_at=row.updated_at,
        failures=row.failures,
        target_concurrency=row.target_concurrency,
        idle_timeout_seconds=row.idle_timeout_seconds,
        removed_at=row.removed_at,
    )


def _replica(row: Row[Any]) -> Replica:
    return Replica(
        id=ReplicaId(row.id),
        project=ProjectId(row.project),
        endpoint=EndpointId(row.endpoint),
        status=ReplicaStatus(row.status),
        reason=_reason(row.status_reason),
        slots=row.slots,
        created_at=row.created_at,
        updated_at=row.updated_at,
        workload=WorkloadId(row.workload) if row.workload else None,
        attempt=AttemptId(row.attempt) if row.attempt else None,
        node=row.node,
        site=row.site,
        base_url=row.base_url,
        probe_failures=row.probe_failures,
        probed_at=row.probed_at,
        ready_at=row.ready_at,
        ended_at=row.ended_at,
    )
