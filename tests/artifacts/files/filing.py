"""Helpers of the tests of files."""

from collections.abc import AsyncIterator
from pathlib import Path

from sqlalchemy import text

from skerry.artifacts.files.model import File
from skerry.artifacts.files.service import Files
from skerry.identity.model import Principal


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def upload(files: Files, who: Principal, data: bytes = b"hello", **more) -> File:
    given = {"filename": "a.txt", "purpose": "notes", "chunks": pieces(data)} | more
    return await files.create(who, **given)


async def content(files: Files, who: Principal, id: str, start: int = 0, stop: int | None = None) -> bytes:
    opened = await files.open(who.project_id, id, start, stop)
    return b"".join([chunk async for chunk in opened.chunks])


def stored(folder: Path) -> list[str]:
    """Names of all that the storage has, drafts too."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


async def facts(files: Files) -> list:
    """What was metered: id, quantity, t0 and t1, in order."""
    async with files.db.transaction() as tx:
        rows = await tx.execute(text("SELECT id, quantity, t0, t1 FROM usage_facts ORDER BY t1"))
        return list(rows)


async def rows(files: Files) -> list:
    async with files.db.transaction() as tx:
        return list(await tx.execute(text("SELECT id, status, bytes, purged_at FROM files ORDER BY id")))
