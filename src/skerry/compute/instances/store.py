"""Rows of instances and clusters."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, case, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from skerry.compute.instances.model import Instance, InstanceKind, InstanceStatus, Wish
from skerry.compute.instances.tables import instances as i
from skerry.db.claim import claim_rows, guarded_update
from skerry.db.database import Tx
from skerry.kernel.classes import CapacityClass
from skerry.kernel.ids import ProjectId, VolumeId, WorkloadId
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.state import Reason

TABLE = i
"""For `runtime.state.transition`."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """Under lease. `hints` is the count of hints when it was claimed, `heard` how far its workload's events went."""

    instance: Instance
    lease_token: str
    hints: int
    heard: str | None


class InstanceStore:
    """Instances and clusters of one project."""

    async def insert(self, tx: Tx, instance: Instance) -> bool:
        """False, and nothing written, where the name is taken."""
        values = {
            "id": instance.id,
            "project": instance.project,
            "kind": instance.kind.value,
            "name": instance.name,
            "sku": instance.sku,
            "site": instance.site,
            "accelerators": instance.accelerators,
            "nodes": instance.nodes,
            "scope": instance.scope,
            "capacity_class": instance.capacity_class.value,
            "charge_by": instance.charge_by,
            "reservation": instance.reservation,
            "image": instance.image,
            "template": instance.template,
            "fingerprints": list(instance.fingerprints),
            "host_key": instance.host_key,
            "workload": instance.workload,
            "home": instance.home,
            "max_duration_seconds": instance.max_duration_seconds,
            "max_cost": instance.max_cost,
            "tags": dict(instance.tags),
            "wish": instance.wish.value,
            "status": instance.status.value,
            "status_reason": instance.reason.to_json(),
            "due_at": instance.created_at,
            "created_at": instance.created_at,
            "updated_at": instance.updated_at,
        }
        written = (
            insert(i)
            .values(values)
            .on_conflict_do_nothing(index_elements=[i.c.project, i.c.name], index_where=i.c.ended_at.is_(None))
            .returning(i.c.id)
        )
        return (await tx.execute(written)).first() is not None

    async def find(
        self, tx: Tx, project: ProjectId, kind: InstanceKind, ref: str, *, lock: bool = False
    ) -> Instance | None:
        """By id (terminated ones too) or by name."""
        named = and_(i.c.name == ref, i.c.ended_at.is_(None))
        mine = and_(i.c.project == project, i.c.kind == kind.value, or_(i.c.id == ref, named))
        query = select(i).where(mine).order_by(i.c.id != ref).limit(1)
        row = (await tx.execute(query.with_for_update() if lock else query)).first()
        return _instance(row) if row is not None else None

    async def of_workload(self, tx: Tx, project: ProjectId, workload: WorkloadId) -> Instance | None:
        query = select(i).where(i.c.project == project, i.c.workload == workload)
        row = (await tx.execute(query)).first()
        return _instance(row) if row is not None else None

    async def page(
        self,
        tx: Tx,
        project: ProjectId,
        kind: InstanceKind,
        request: PageRequest,
        *,
        status: InstanceStatus | None = None,
    ) -> Page[Instance]:
        """Newest first; terminated ones only where that status is asked for."""
        query = select(i).where(i.c.project == project, i.c.kind == kind.value)
        query = query.where(i.c.status == status.value if status is not None else i.c.ended_at.is_(None))
        if request.after is not None:
            query = query.where(i.c.id < request.after[0])
        rows = await tx.execute(query.order_by(i.c.id.desc()).limit(request.limit + 1))
        return Page.cut([_instance(row) for row in rows], request, lambda one: (one.id,))

    async def wish(self, tx: Tx, instance: Instance, wish: Wish, now: datetime) -> None:
        """Write what is wanted, with a hint to look at it now."""
        values = {"wish": wish.value, "due_at": now, "hints": i.c.hints + 1, "updated_at": now}
        mine = and_(i.c.id == instance.id, i.c.project == instance.project)
        await tx.execute(update(i).where(mine).values(**values))

    async def hint(self, tx: Tx, project: ProjectId, id: str, now: datetime) -> bool:
        """Something of it happened: look at it now. False: it is none, or it is gone."""
        mine = and_(i.c.id == id, i.c.project == project, i.c.ended_at.is_(None))
        return (await tx.execute(update(i).where(mine).values(due_at=now, hints=i.c.hints + 1))).rowcount == 1

    async def explain(self, tx: Tx, instance: Instance, reason: Reason) -> None:
        mine = and_(i.c.id == instance.id, i.c.project == instance.project)
        await tx.execute(update(i).where(mine).values(status_reason=reason.to_json()))

    # --- the reconciler's, over all projects
    async def claim(self, tx: Tx, now: datetime, limit: int, lease_seconds: float) -> list[Claimed]:
        rows = await claim_rows(
            tx,
            i,
            where=i.c.due_at <= now,
            order_by=[i.c.due_at, i.c.id],
            limit=limit,
            lease_seconds=lease_seconds,
            now=now,
        )
        return [Claimed(_instance(row), row.lease_token, row.hints, row.heard) for row in rows]

    async def lock(self, tx: Tx, claimed: Claimed) -> Instance | None:
        """As it is now, locked; None where the lease was lost."""
        held = and_(i.c.id == claimed.instance.id, i.c.lease_token == claimed.lease_token)
        row = (await tx.execute(select(i).where(held).with_for_update())).first()
        return _instance(row) if row is not None else None

    async def release(
        self, tx: Tx, claimed: Claimed, due_in: float | None, now: datetime, values: Mapping[str, Any]
    ) -> bool:
        """Look again in `due_in` seconds (None: not by itself), or at once where a hint came meanwhile."""
        due = None if due_in is None else now + timedelta(seconds=due_in)
        again = case((i.c.hints == claimed.hints, due), else_=now)
        return await guarded_update(tx, i, claimed.instance.id, claimed.lease_token, {**values, "due_at": again})


def _instance(row: Row[Any]) -> Instance:
    return Instance(
        id=row.id,
        project=ProjectId(row.project),
        kind=InstanceKind(row.kind),
        name=row.name,
        sku=row.sku,
        site=row.site,
        accelerators=row.accelerators,
        nodes=row.nodes,
        scope=row.scope,
        capacity_class=CapacityClass(row.capacity_class),
        charge_by=row.charge_by,
        reservation=row.reservation,
        image=row.image,
        template=row.template,
        fingerprints=tuple(row.fingerprints),
        host_key=row.host_key,
        workload=WorkloadId(row.workload),
        home=VolumeId(row.home) if row.home else None,
        max_duration_seconds=row.max_duration_seconds,
        max_cost=row.max_cost,
        tags=row.tags,
        wish=Wish(row.wish),
        status=InstanceStatus(row.status),
        reason=Reason(row.status_reason["code"], row.status_reason["message"]),
        created_at=row.created_at,
        updated_at=row.updated_at,
        running_at=row.running_at,
        ended_at=row.ended_at,
    )
