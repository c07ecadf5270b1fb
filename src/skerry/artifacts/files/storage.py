"""Where the bytes lie. `LocalStorage` is a folder; others can stand in its place."""

import asyncio
import errno
import os
import re
import shutil
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import structlog

from skerry.artifacts.files.errors import StorageFailed, StorageFull
from skerry.kernel.ids import FileId

BLOCK: Final = 1024 * 1024
_ID: Final = re.compile(r"file-[0-9a-z]{26}")
_DRAFT: Final = ".part"


class ObjectMissing(Exception):
    """There are no such bytes."""


class Draft(Protocol):
    """Bytes on their way in. What was not committed is nothing."""

    async def write(self, data: bytes) -> None:
        """Raises StorageFull, StorageFailed."""
        ...

    def read(self) -> AsyncIterator[bytes]:
        """What was written so far."""
        ...

    async def commit(self) -> None:
        """Durable under its id from now on. Raises StorageFull, StorageFailed; ObjectMissing where it was swept."""
        ...

    async def discard(self) -> None:
        """Leave nothing. Also after a commit that failed, and twice."""
        ...


class StoredObject(Protocol):
    """Open bytes; they can be read to the end even if they are deleted meanwhile."""

    def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """`[start, stop)` in blocks; closes the object at the end."""
        ...

    def close(self) -> None: ...


class Storage(Protocol):
    async def begin(self, file: FileId) -> Draft:
        """Raises StorageFull, StorageFailed."""
        ...

    async def open(self, file: FileId) -> StoredObject:
        """Raises ObjectMissing."""
        ...

    async def delete(self, file: FileId) -> None:
        """The object and its draft; nothing where there are none."""
        ...

    async def drafts(self) -> dict[FileId, datetime]:
        """Ids of what was begun and not committed, with the time of the last write."""
        ...


class LocalStorage:
    """Objects in `folder/objects/`, by the last two characters of their ids; drafts in `folder/drafts/`.

    A draft is fsynced, renamed, and then its folder is fsynced: an object is there whole or not at all. Writing stops
    while the disk has less than `keep_free` bytes: the database may lie on the same one.
    """

    def __init__(self, folder: Path, keep_free: int = 0) -> None:
        self.folder = folder
        self.keep_free = keep_free
        self._drafts = folder / "drafts"
        self._objects = folder / "objects"

    async def begin(self, file: FileId) -> "LocalDraft":
        return await asyncio.to_thread(self._begin, file)

    async def open(self, file: FileId) -> "LocalObject":
        try:
            return LocalObject(await asyncio.to_thread(self.path(file).open, "rb"))
        except FileNotFoundError:
            raise ObjectMissing(file) from None

    async def delete(self, file: FileId) -> None:
        await asyncio.to_thread(self._delete, file)

    async def drafts(self) -> dict[FileId, datetime]:
        return await asyncio.to_thread(self._list_drafts)

    def path(self, file: FileId) -> Path:
        """Where the object lies. Raises ValueError for what is no id: it becomes part of a path."""
        if not _ID.fullmatch(file):
            raise ValueError(f"{file!r} is not the id of a file")
        return self._objects / file[-2:] / file

    def draft_path(self, file: FileId) -> Path:
        return self._drafts / (self.path(file).name + _DRAFT)

    def check_room(self) -> None:
        if self.keep_free and shutil.disk_usage(self.folder).free < self.keep_free:
            raise _full()

    def _begin(self, file: FileId) -> "LocalDraft":
        path = self.draft_path(file)
        try:
            for folder in (self.folder, self._drafts, self._objects):
                folder.mkdir(mode=0o700, exist_ok=True)
            self.check_room()
            return LocalDraft(self, path.open("x+b", buffering=0), path, self.path(file))
        except FileExistsError:
            raise  # a defect of ours
        except OSError as error:
            raise _translated(error) from error

    def _delete(self, file: FileId) -> None:
        if not self._objects.is_dir():
            # Deleting nothing, and taking that for done, would leave the bytes where they are.
            raise FileNotFoundError(f"{self.folder} never held a file: SKERRY_FILES_FOLDER must name the server's")
        self.draft_path(file).unlink(missing_ok=True)
        self.path(file).unlink(missing_ok=True)

    def _list_drafts(self) -> dict[FileId, datetime]:
        found: dict[FileId, datetime] = {}
        if not self._drafts.is_dir():
            return found
        for path in self._drafts.iterdir():
            name = path.name.removesuffix(_DRAFT)
            if path.name.endswith(_DRAFT) and _ID.fullmatch(name):
                try:
                    found[FileId(name)] = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                except FileNotFoundError:
                    continue  # committed or discarded at this moment
        return found


class LocalDraft:
    """See `Draft`."""

    def __init__(self, storage: LocalStorage, opened: BinaryIO, path: Path, target: Path) -> None:
        self._storage = storage
        self._opened = opened
        self._path = path
        self._target = target
        self._since_check = 0
        # A cancelled write goes on in its thread: its descriptor must not be closed (and given out anew) meanwhile.
        self._lock = threading.Lock()

    async def write(self, data: bytes) -> None:
        await asyncio.to_thread(self._write, data)

    async def read(self) -> AsyncIterator[bytes]:
        at = 0
        while block := await asyncio.to_thread(os.pread, self._opened.fileno(), BLOCK, at):
            at += len(block)
            yield block

    async def commit(self) -> None:
        await asyncio.to_thread(self._commit)

    async def discard(self) -> None:
        await asyncio.to_thread(self._discard)

    def _write(self, data: bytes) -> None:
        self._since_check += len(data)
        if self._since_check >= 16 * BLOCK:
            self._since_check = 0
            self._storage.check_room()
        rest = memoryview(data)
        with self._lock:
            try:
                while rest:
                    rest = rest[self._opened.write(rest) :]
            except OSError as error:
                raise _translated(error) from error

    def _commit(self) -> None:
        with self._lock:
            self._make_durable()

    def _make_durable(self) -> None:
        try:
            with self._opened:
                os.fsync(self._opened.fileno())
            self._target.parent.mkdir(mode=0o700, exist_ok=True)
            self._path.rename(self._target)
            for folder in (self._target.parent, self._target.parent.parent, self._path.parent):
                _sync_folder(folder)
        except FileNotFoundError as error:
            raise ObjectMissing(self._target.name) from error
        except OSError as error:
            raise _translated(error) from error

    def _discard(self) -> None:
        with self._lock:
            self._opened.close()
            self._path.unlink(missing_ok=True)
            self._target.unlink(missing_ok=True)


class LocalObject:
    """See `StoredObject`."""

    def __init__(self, opened: BinaryIO) -> None:
        self._opened = opened

    async def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        try:
            while start < stop:
                block = await asyncio.to_thread(os.pread, self._opened.fileno(), min(BLOCK, stop - start), start)
                if not block:
                    raise ObjectMissing(f"{self._opened.name} ends at byte {start}")
                start += len(block)
                yield block
        finally:
            self.close()

    def close(self) -> None:
        self._opened.close()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _translated(error: OSError) -> StorageFull | StorageFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full()
    structlog.get_logger("skerry.artifacts.files").error("storage_failed", error=str(error))
    return StorageFailed("Files cannot be stored at the moment.", suggestion="Tell your operator.", retry_after=60)


def _full() -> StorageFull:
    return StorageFull(
        "There is no room for files at the moment.",
        suggestion="Your operator has to make room on the disk.",
        retry_after=60,
    )
