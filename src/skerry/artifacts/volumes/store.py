"""Rows of volumes and of who has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from skerry.artifacts.volumes.model import Attachment, HolderKind, Volume, VolumeKind, VolumeStatus, VolumeTier
from skerry.artifacts.volumes.tables import attachments as a
from skerry.artifacts.volumes.tables import volumes as v
from skerry.db.claim import claim_rows, guarded_update
from skerry.db.database import Tx
from skerry.kernel.ids import ProjectId, VolumeId
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.state import Reason

TABLE = v
"""For `runtime.state.transition`."""


@dataclass(frozen=True, slots=True)
class Claimed:
    volume: Volume
    lease_token: str


class VolumeStore:
    """Volumes of one project."""

    async def lock_project(self, tx: Tx, project: ProjectId) -> None:
        """One new volume of a project at a time: what is counted stays true until it is written."""
        await tx.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"skerry.volumes.{project}"))))

    async def usage(self, tx: Tx, project: ProjectId) -> tuple[int, int]:
        """How many volumes the project has and how many bytes these have in all."""
        query = select(func.count(), func.coalesce(func.sum(v.c.bytes), 0)).where(
            v.c.project == project, v.c.deleted_at.is_(None)
        )
        count, size = (await tx.execute(query)).one()
        return int(count), int(size)

    async def insert(self, tx: Tx, volume: Volume, due_at: datetime) -> bool:
        """False, and nothing written, where the name is taken."""
        values = {
            "id": volume.id,
            "project": volume.project,
            "name": volume.name,
            "kind": volume.kind.value,
            "site": volume.site,
            "bytes": volume.bytes,
            "tier": volume.tier.value,
            "status": volume.status.value,
            "status_reason": volume.reason.to_json(),
            "due_at": due_at,
            "created_at": volume.created_at,
            "updated_at": volume.updated_at,
        }
        written = (
            insert(v)
            .values(values)
            .on_conflict_do_nothing(index_elements=[v.c.project, v.c.name], index_where=v.c.deleted_at.is_(None))
            .returning(v.c.id)
        )
        return (await tx.execute(written)).first() is not None

    async def find(self, tx: Tx, project: ProjectId, ref: str, *, lock: bool = False) -> Volume | None:
        """By id (deleted ones too) or by name."""
        named = and_(v.c.name == ref, v.c.deleted_at.is_(None))
        query = select(v).where(v.c.project == project, or_(v.c.id == ref, named)).order_by(v.c.id != ref).limit(1)
        row = (await tx.execute(query.with_for_update() if lock else query)).first()
        return (await _with_attachments(tx, [row]))[0] if row is not None else None

    async def page(self, tx: Tx, project: ProjectId, request: PageRequest, *, site: str | None = None) -> Page[Volume]:
        """Newest first, without those that are deleted."""
        query = select(v).where(v.c.project == project, v.c.status != VolumeStatus.DELETED.value)
        if site is not None:
            query = query.where(v.c.site == site)
        if request.after is not None:
            query = query.where(v.c.id < request.after[0])
        rows = (await tx.execute(query.order_by(v.c.id.desc()).limit(request.limit + 1))).all()
        return Page.cut(await _with_attachments(tx, rows), request, lambda volume: (volume.id,))

    async def attach(self, tx: Tx, project: ProjectId, attachment: Attachment) -> None:
        await tx.execute(
            insert(a)
            .values(
                volume=attachment.volume,
                holder=attachment.holder,
                project=project,
                holder_kind=attachment.holder_kind.value,
                target=attachment.target,
                read_only=attachment.read_only,
                created_at=attachment.created_at,
            )
            .on_conflict_do_nothing()
        )
        first = func.coalesce(v.c.used_at, attachment.created_at)
        await tx.execute(update(v).where(v.c.id == attachment.volume, v.c.project == project).values(used_at=first))

    async def detach(self, tx: Tx, project: ProjectId, holder: str) -> list[VolumeId]:
        gone = delete(a).where(a.c.project == project, a.c.holder == holder).returning(a.c.volume)
        return [VolumeId(id) for id in (await tx.execute(gone)).scalars()]

    async def of_holder(self, tx: Tx, project: ProjectId, holder: str) -> list[Volume]:
        query = select(v).join(a, a.c.volume == v.c.id).where(a.c.project == project, a.c.holder == holder)
        return await _with_attachments(tx, (await tx.execute(query.order_by(v.c.id))).all())

    # --- the reconciler's, over all projects
    async def claim(self, tx: Tx, now: datetime, limit: int, lease_seconds: float) -> list[Claimed]:
        rows = await claim_rows(
            tx,
            v,
            where=v.c.due_at <= now,
            order_by=[v.c.due_at, v.c.id],
            limit=limit,
            lease_seconds=lease_seconds,
            now=now,
        )
        volumes = await _with_attachments(tx, rows)
        return [Claimed(volume, row.lease_token) for volume, row in zip(volumes, rows, strict=True)]

    async def lock(self, tx: Tx, claimed: Claimed) -> Volume | None:
        """As it is now, locked; None where the lease was lost."""
        held = and_(v.c.id == claimed.volume.id, v.c.lease_token == claimed.lease_token)
        row = (await tx.execute(select(v).where(held).with_for_update())).first()
        return _volume(row) if row is not None else None

    async def release(self, tx: Tx, claimed: Claimed, values: Mapping[str, Any]) -> bool:
        return await guarded_update(tx, v, claimed.volume.id, claimed.lease_token, values)


async def _with_attachments(tx: Tx, rows: Sequence[Row[Any]]) -> list[Volume]:
    found: dict[str, list[Attachment]] = {row.id: [] for row in rows}
    if not found:
        return []
    for row in await tx.execute(select(a).where(a.c.volume.in_(found)).order_by(a.c.created_at, a.c.holder)):
        found[row.volume].append(
            Attachment(
                volume=VolumeId(row.volume),
                holder_kind=HolderKind(row.holder_kind),
                holder=row.holder,
                target=row.target,
                read_only=row.read_only,
                created_at=row.created_at,
            )
        )
    return [replace(_volume(row), attachments=tuple(found[row.id])) for row in rows]


def _volume(row: Row[Any]) -> Volume:
    return Volume(
        id=VolumeId(row.id),
        project=ProjectId(row.project),
        name=row.name,
        kind=VolumeKind(row.kind),
        site=row.site,
        bytes=row.bytes,
        tier=VolumeTier(row.tier),
        status=VolumeStatus(row.status),
        reason=Reason(row.status_reason["code"], row.status_reason["message"]),
        created_at=row.created_at,
        updated_at=row.updated_at,
        metered_through=row.metered_through,
        used_at=row.used_at,
        deleted_at=row.deleted_at,
        wipe=row.wipe,
    )
