"""Endpoints and replicas."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from skerry.db.database import Tx
from skerry.inference.model import Desired, Endpoint, Replica, ReplicaStatus
from skerry.inference.store.rows import endpoint_of, replica_of, visible
from skerry.inference.tables import endpoints as e
from skerry.inference.tables import replicas as r
from skerry.kernel.ids import EndpointId, ModelId, ProjectId, ReplicaId
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.state import Reason


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
            "policy": endpoint.policy.value,
            "queue_seconds": endpoint.queue_seconds,
            "accelerators": endpoint.accelerators,
            "sku": endpoint.sku,
            "wanted": endpoint.wanted,
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
                model=replica.model,
                version=replica.version,
                upstream=replica.upstream,
                weight=replica.weight,
                slots=replica.slots,
                site=replica.site,
                status=replica.status.value,
                status_reason=replica.reason.to_json(),
                ready_at=replica.ready_at,
                created_at=replica.created_at,
                updated_at=replica.updated_at,
            )
        )

    async def find_endpoint(
        self, tx: Tx, project: ProjectId | None, ref: str, *, lock: bool = False
    ) -> Endpoint | None:
        """By id (removed ones too) or by name."""
        named = (e.c.name == ref) & e.c.removed_at.is_(None)
        query = select(e).where(or_(e.c.id == ref, named), visible(project))
        query = query.order_by(e.c.id != ref).limit(1)
        row = (await tx.execute(query.with_for_update() if lock else query)).first()
        return endpoint_of(row) if row is not None else None

    async def endpoint_page(self, tx: Tx, project: ProjectId | None, request: PageRequest) -> Page[Endpoint]:
        query = select(e).where(e.c.removed_at.is_(None), visible(project))
        if request.after is not None:
            query = query.where(e.c.id > request.after[0])
        rows = await tx.execute(query.order_by(e.c.id).limit(request.limit + 1))
        return Page.cut([endpoint_of(row) for row in rows], request, lambda endpoint: (endpoint.id,))

    async def live_endpoints(self, tx: Tx, project: ProjectId | None = None) -> list[Endpoint]:
        """All that have not been removed, by name."""
        query = select(e).where(e.c.removed_at.is_(None), visible(project)).order_by(e.c.name)
        return [endpoint_of(row) for row in await tx.execute(query)]

    async def endpoints_of_model(self, tx: Tx, model: ModelId) -> list[Endpoint]:
        """Those that serve it, or are about to. Of all projects: a model may be served to any."""
        mine = or_(e.c.model == model, e.c.next_model == model)
        query = select(e).where(mine, e.c.removed_at.is_(None))
        return [endpoint_of(row) for row in await tx.execute(query.with_for_update())]

    async def remove_endpoint(self, tx: Tx, project: ProjectId, id: EndpointId, at: datetime, reason: Reason) -> None:
        """Want it stopped, and its name freed."""
        values = {
            "desired": Desired.STOP.value,
            "stop_code": reason.code,
            "removed_at": at,
            "status_reason": reason.to_json(),
        }
        await self.want(tx, project, id, values, at)

    async def want(self, tx: Tx, project: ProjectId, id: EndpointId, values: Mapping[str, Any], at: datetime) -> None:
        """Write a wish, and have it looked at now."""
        changes = {**values, "due_at": at, "updated_at": at, "hints": e.c.hints + 1, "wishes": e.c.wishes + 1}
        await tx.execute(update(e).where(e.c.id == id, e.c.project == project).values(changes))

    async def call_off(self, tx: Tx, endpoint: Endpoint, at: datetime) -> None:
        """End the rollout to another model: what serves is the newest version again."""
        serving = (
            select(func.max(r.c.version))
            .where(r.c.endpoint == endpoint.id, r.c.ended_at.is_(None), r.c.model == endpoint.model)
            .scalar_subquery()
        )
        values = {"next_model": None, "version": func.coalesce(serving, endpoint.version)}
        await self.want(tx, endpoint.project, endpoint.id, values, at)

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
        return [replica_of(row) for row in await tx.execute(query.order_by(r.c.id))]

    async def shown_replicas(self, tx: Tx, ids: set[EndpointId]) -> dict[EndpointId, list[Replica]]:
        """By endpoint: those that have not ended, else the one that ended last."""
        found: dict[EndpointId, list[Replica]] = {id: [] for id in ids}
        live = select(r).where(r.c.endpoint.in_(ids), r.c.ended_at.is_(None)).order_by(r.c.id)
        for row in await tx.execute(live):
            found[EndpointId(row.endpoint)].append(replica_of(row))
        bare = {id for id, replicas in found.items() if not replicas}
        if bare:
            newest = select(func.max(r.c.id)).where(r.c.endpoint.in_(bare)).group_by(r.c.endpoint)
            for row in await tx.execute(select(r).where(r.c.id.in_(newest))):
                found[EndpointId(row.endpoint)].append(replica_of(row))
        return found

    async def newest_replica(
        self, tx: Tx, project: ProjectId, endpoint: EndpointId, id: ReplicaId | None
    ) -> Replica | None:
        """The one named; else the newest of those that have not ended, or of all where there are none."""
        query = select(r).where(r.c.project == project, r.c.endpoint == endpoint)
        if id is not None:
            query = query.where(r.c.id == id)
        row = (await tx.execute(query.order_by(r.c.ended_at.is_not(None), r.c.id.desc()).limit(1))).first()
        return replica_of(row) if row is not None else None

    async def cold_starts(self, tx: Tx, project: ProjectId, endpoint: EndpointId, limit: int) -> list[Replica]:
        """The replicas that became ready last, newest first."""
        mine = (r.c.project == project) & (r.c.endpoint == endpoint) & r.c.cold_start_ms.is_not(None)
        query = select(r).where(mine).order_by(r.c.id.desc()).limit(limit)
        return [replica_of(row) for row in await tx.execute(query)]

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
        return [(replica_of(row), row.sealed_key) for row in await tx.execute(query.order_by(r.c.id))]

    async def sealed_keys(self, tx: Tx, project: ProjectId, ids: Sequence[ReplicaId]) -> dict[ReplicaId, str]:
        query = select(r.c.id, r.c.sealed_key).where(
            r.c.project == project, r.c.id.in_(ids), r.c.sealed_key.is_not(None)
        )
        return {ReplicaId(row.id): row.sealed_key for row in await tx.execute(query)}
