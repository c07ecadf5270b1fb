"""SQL of files. Every method that serves a customer takes the project."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, delete, func, insert, literal, or_, select, tuple_, update

from skerry.artifacts.files.model import File, FileStatus
from skerry.artifacts.files.tables import files
from skerry.db.database import Tx
from skerry.kernel.ids import FileId, ProjectId

_LIVE = files.c.deleted_at.is_(None)
_WHOLE = files.c.status.in_([FileStatus.UPLOADED.value, FileStatus.PROCESSED.value])

Place = tuple[datetime, str]
"""Where a file stands in a list: when it was made, then its id."""


class FileStore:
    # --- uploads
    async def begin(self, tx: Tx, file: File) -> None:
        await tx.execute(
            insert(files).values(
                id=file.id,
                project=file.project,
                filename=file.filename,
                purpose=file.purpose,
                status=file.status.value,
                bytes=0,
                created_at=file.created_at,
                touched_at=file.created_at,
            )
        )

    async def lock_quota(self, tx: Tx, project: ProjectId) -> None:
        """Whoever counts what a project has waits here for the others who do."""
        key = func.hashtextextended(literal(f"files:{project}"), 0)
        await tx.execute(select(func.pg_advisory_xact_lock(key)))

    async def usage(self, tx: Tx, project: ProjectId, but: FileId) -> tuple[int, int]:
        """How many files a project has and how many bytes are theirs or set aside, all but one."""
        query = select(func.count(), func.coalesce(func.sum(files.c.bytes), 0)).where(
            files.c.project == project, _LIVE, files.c.id != but
        )
        count, size = (await tx.execute(query)).one()
        return int(count), int(size)

    async def set_aside(self, tx: Tx, project: ProjectId, id: FileId, size: int, now: datetime) -> bool:
        return await self._touch(tx, project, id, {"bytes": size, "touched_at": now})

    async def touch(self, tx: Tx, project: ProjectId, id: FileId, now: datetime) -> bool:
        """False where the upload was given up by the sweeper."""
        return await self._touch(tx, project, id, {"touched_at": now})

    async def forget_upload(self, tx: Tx, project: ProjectId, id: FileId) -> None:
        """The row of an upload that broke off, of which the storage has nothing."""
        await tx.execute(
            delete(files).where(
                files.c.id == id, files.c.project == project, files.c.status == FileStatus.UPLOADING.value
            )
        )

    async def _touch(self, tx: Tx, project: ProjectId, id: FileId, values: dict[str, Any]) -> bool:
        done = await tx.execute(
            update(files)
            .where(files.c.id == id, files.c.project == project, files.c.status == FileStatus.UPLOADING.value)
            .values(**values)
        )
        return done.rowcount == 1

    # --- reading
    async def find(self, tx: Tx, project: ProjectId, id: FileId) -> File | None:
        """None also for one that is not whole or is gone."""
        query = select(files).where(files.c.id == id, files.c.project == project, _LIVE, _WHOLE)
        row = (await tx.execute(query)).first()
        return _file(row) if row is not None else None

    async def lock(self, tx: Tx, project: ProjectId, id: FileId) -> File | None:
        query = select(files).where(files.c.id == id, files.c.project == project, _LIVE, _WHOLE).with_for_update()
        row = (await tx.execute(query)).first()
        return _file(row) if row is not None else None

    async def place(self, tx: Tx, project: ProjectId, id: FileId) -> Place | None:
        """Where a file stands or stood in the project's list: one may go while somebody turns the pages."""
        query = select(files.c.created_at, files.c.id).where(files.c.id == id, files.c.project == project)
        row = (await tx.execute(query)).first()
        return (row.created_at, row.id) if row is not None else None

    async def page(
        self,
        tx: Tx,
        project: ProjectId,
        now: datetime,
        *,
        purpose: str | None,
        start: Place | None,
        limit: int,
        newest_first: bool,
    ) -> Sequence[File]:
        place = tuple_(files.c.created_at, files.c.id)
        lasting = or_(files.c.expires_at.is_(None), files.c.expires_at > now)
        query = select(files).where(files.c.project == project, _LIVE, _WHOLE, lasting)
        if purpose is not None:
            query = query.where(files.c.purpose == purpose)
        if start is not None:
            query = query.where(place < start if newest_first else place > start)
        order = (files.c.created_at, files.c.id)
        rows = await tx.execute(
            query.order_by(*(column.desc() if newest_first else column.asc() for column in order)).limit(limit)
        )
        return [_file(row) for row in rows]

    # --- sweeping, over all projects
    async def take_expired(self, tx: Tx, now: datetime, limit: int) -> Sequence[File]:
        """Locked; those that another sweeper has are passed over."""
        query = select(files).where(_LIVE, _WHOLE, files.c.expires_at <= now).order_by(files.c.expires_at)
        return await self._take(tx, query, limit)

    async def take_lost(self, tx: Tx, before: datetime, limit: int) -> Sequence[File]:
        """Uploads that nobody has touched since."""
        query = select(files).where(files.c.status == FileStatus.UPLOADING.value, files.c.touched_at < before)
        return await self._take(tx, query, limit)

    async def take_unmetered(self, tx: Tx, hour: datetime, limit: int) -> Sequence[File]:
        """Files with full hours before `hour` that are not facts yet."""
        lasting = or_(files.c.expires_at.is_(None), files.c.expires_at > files.c.metered_through)
        query = select(files).where(_LIVE, files.c.metered_through < hour, lasting)
        return await self._take(tx, query.order_by(files.c.metered_through), limit)

    async def metered(self, tx: Tx, ends: Sequence[tuple[FileId, datetime]]) -> None:
        statement = update(files).where(files.c.id == bindparam("file")).values(metered_through=bindparam("end"))
        await tx.execute(statement, [{"file": id, "end": end} for id, end in ends])

    async def unpurged(self, tx: Tx, limit: int) -> Sequence[File]:
        query = select(files).where(files.c.deleted_at.is_not(None), files.c.purged_at.is_(None))
        return [_file(row) for row in await tx.execute(query.order_by(files.c.deleted_at).limit(limit))]

    async def purged(self, tx: Tx, project: ProjectId, id: FileId, now: datetime) -> None:
        await tx.execute(
            update(files)
            .where(files.c.id == id, files.c.project == project, files.c.deleted_at.is_not(None))
            .values(purged_at=now)
        )

    async def known(self, tx: Tx, ids: Sequence[FileId]) -> set[FileId]:
        """Those of the ids that stand for a file that is there or on its way."""
        rows = await tx.execute(select(files.c.id).where(files.c.id.in_(ids), _LIVE))
        return {FileId(row.id) for row in rows}

    async def _take(self, tx: Tx, query: Any, limit: int) -> Sequence[File]:
        rows = await tx.execute(query.limit(limit).with_for_update(skip_locked=True))
        return [_file(row) for row in rows]


def _file(row: Row[Any]) -> File:
    return File(
        id=FileId(row.id),
        project=ProjectId(row.project),
        filename=row.filename,
        purpose=row.purpose,
        bytes=row.bytes,
        sha256=row.sha256,
        status=FileStatus(row.status),
        created_at=row.created_at,
        expires_at=row.expires_at,
        facts=row.facts,
        metered_through=row.metered_through,
        deleted_at=row.deleted_at,
    )
