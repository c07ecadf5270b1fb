"""Rows of the audit trail: appended, never changed (a trigger in the database refuses it too)."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from skerry.db.database import Tx
from skerry.identity.audit import GENESIS
from skerry.identity.model import AuditEntry, AuditEvent
from skerry.identity.tables import audit_events, audit_heads
from skerry.kernel.ids import KeyId, OrganizationId, ProjectId
from skerry.kernel.paging import Page, PageRequest

_BATCH = 1000


class AuditStore:
    async def lock_head(self, tx: Tx, organization: OrganizationId) -> tuple[int, bytes]:
        """(seq, hash) of the newest event, held until the transaction ends."""
        start = insert(audit_heads).values(organization_id=organization, seq=0, hash=GENESIS)
        await tx.execute(start.on_conflict_do_nothing())
        mine = audit_heads.c.organization_id == organization
        row = (await tx.execute(select(audit_heads).where(mine).with_for_update())).one()
        return row.seq, bytes(row.hash)

    async def head(self, tx: Tx, organization: OrganizationId) -> tuple[int, bytes]:
        mine = audit_heads.c.organization_id == organization
        row = (await tx.execute(select(audit_heads).where(mine))).one_or_none()
        return (row.seq, bytes(row.hash)) if row else (0, GENESIS)

    async def append(self, tx: Tx, event: AuditEvent) -> None:
        await tx.execute(
            insert(audit_events).values(
                organization_id=event.organization_id,
                seq=event.seq,
                at=event.at,
                id=event.id,
                project_id=event.project_id,
                key_id=event.key_id,
                key_name=event.key_name,
                origin=event.origin,
                request_id=event.request_id,
                action=event.entry.action,
                resource=event.entry.resource,
                outcome=event.entry.outcome,
                detail=dict(event.entry.detail),
                prev_hash=event.prev_hash,
                hash=event.hash,
            )
        )
        mine = audit_heads.c.organization_id == event.organization_id
        await tx.execute(audit_heads.update().where(mine).values(seq=event.seq, hash=event.hash))

    async def list(
        self,
        tx: Tx,
        organization: OrganizationId,
        page: PageRequest,
        *,
        project: ProjectId | None = None,
        resource: str | None = None,
    ) -> Page[AuditEvent]:
        """Oldest first; of one project, or of the whole organization (None)."""
        query = select(audit_events).where(audit_events.c.organization_id == organization)
        if project is not None:
            query = query.where(audit_events.c.project_id == project)
        if resource is not None:
            query = query.where(audit_events.c.resource == resource)
        if page.after:
            query = query.where(audit_events.c.seq > int(page.after[0]))
        rows = await tx.execute(query.order_by(audit_events.c.seq).limit(page.limit + 1))
        return Page.cut([_event(row) for row in rows], page, lambda e: (str(e.seq),))

    async def chain(self, tx: Tx, organization: OrganizationId, after: AuditEvent | None) -> Sequence[AuditEvent]:
        """The next batch in order of number and time: also those that an intruder may have added twice."""
        query = select(audit_events).where(audit_events.c.organization_id == organization)
        if after is not None:
            query = query.where(tuple_(audit_events.c.seq, audit_events.c.at) > tuple_(after.seq, after.at))
        query = query.order_by(audit_events.c.seq, audit_events.c.at).limit(_BATCH)
        return [_event(row) for row in await tx.execute(query)]


def _event(row: Row[Any]) -> AuditEvent:
    return AuditEvent(
        id=row.id,
        organization_id=OrganizationId(row.organization_id),
        project_id=None if row.project_id is None else ProjectId(row.project_id),
        seq=row.seq,
        at=row.at,
        key_id=None if row.key_id is None else KeyId(row.key_id),
        key_name=row.key_name,
        origin=row.origin,
        request_id=row.request_id,
        entry=AuditEntry(row.action, row.resource, row.outcome, row.detail),
        prev_hash=bytes(row.prev_hash),
        hash=bytes(row.hash),
    )
