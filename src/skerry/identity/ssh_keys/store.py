"""Rows of SSH keys."""

from typing import Any

from sqlalchemy import Row, delete, or_, select
from sqlalchemy.dialects.postgresql import insert

from skerry.db.database import Tx
from skerry.identity.ssh_keys.model import PublicKey, SshKey
from skerry.identity.ssh_keys.tables import ssh_keys as k
from skerry.kernel.ids import ProjectId, SshKeyId
from skerry.kernel.paging import Page, PageRequest


class SshKeyStore:
    async def insert(self, tx: Tx, key: SshKey) -> bool:
        """False, and nothing written, where the project has its name or the same key."""
        values = {
            "id": key.id,
            "project": key.project,
            "name": key.name,
            "type": key.public.type,
            "blob": key.public.blob,
            "comment": key.public.comment,
            "fingerprint": key.public.fingerprint,
            "created_at": key.created_at,
        }
        written = insert(k).values(values).on_conflict_do_nothing().returning(k.c.id)
        return (await tx.execute(written)).first() is not None

    async def find(self, tx: Tx, project: ProjectId, ref: str) -> SshKey | None:
        """By id, name or fingerprint."""
        named = or_(k.c.id == ref, k.c.name == ref, k.c.fingerprint == ref)
        query = select(k).where(k.c.project == project, named).order_by(k.c.id != ref, k.c.name != ref).limit(1)
        row = (await tx.execute(query)).first()
        return _key(row) if row is not None else None

    async def page(self, tx: Tx, project: ProjectId, request: PageRequest) -> Page[SshKey]:
        query = select(k).where(k.c.project == project)
        if request.after is not None:
            query = query.where(k.c.id > request.after[0])
        rows = await tx.execute(query.order_by(k.c.id).limit(request.limit + 1))
        return Page.cut([_key(row) for row in rows], request, lambda key: (key.id,))

    async def delete(self, tx: Tx, project: ProjectId, id: SshKeyId) -> bool:
        return (await tx.execute(delete(k).where(k.c.project == project, k.c.id == id))).rowcount == 1


def _key(row: Row[Any]) -> SshKey:
    return SshKey(
        id=SshKeyId(row.id),
        project=ProjectId(row.project),
        name=row.name,
        public=PublicKey(row.type, row.blob, row.comment, row.fingerprint),
        created_at=row.created_at,
    )
