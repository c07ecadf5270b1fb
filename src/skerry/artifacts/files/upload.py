"""One file on its way in: counted, hashed, checked and written while it comes."""

import asyncio
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog

from skerry.artifacts.files import rules
from skerry.artifacts.files.errors import FilesQuotaExceeded, FileTooLarge, TooManyFiles, UploadLost
from skerry.artifacts.files.model import (
    TRANSITIONS,
    DeletionReason,
    File,
    FileStatus,
    Purpose,
    Within,
)
from skerry.artifacts.files.storage import BLOCK, Draft, ObjectMissing
from skerry.artifacts.files.tables import files
from skerry.db.database import Tx
from skerry.kernel.errors import Unavailable
from skerry.kernel.ids import FileId, ProjectId
from skerry.runtime.state import Reason, transition

if TYPE_CHECKING:
    from skerry.artifacts.files.service import Files

TOUCH_SECONDS: Final = 30.0
"""Between signs of life; an upload without one for `sweeper.LOST_AFTER` is given up."""
_FIRST_STEP, _LONGEST_STEP = 8 * BLOCK, 128 * BLOCK


class Upload:
    """Made by `Files.uploading`. Bytes are set aside from the project's quota in growing steps, before they are
    stored: uploads that run beside each other cannot pass it together."""

    def __init__(
        self, service: "Files", id: FileId, project: ProjectId, filename: str, purpose: Purpose | None, *, limited: bool
    ) -> None:
        now = service.clock.now()
        name = purpose.name if purpose is not None else ""
        self.file = File(id, project, filename, name, 0, "", FileStatus.UPLOADING, now)
        self._service = service
        self._limited = limited
        self._check = purpose.check() if purpose is not None and purpose.check is not None else None
        self._checked_as = purpose
        self._most = self._largest(purpose)
        self._hash = hashlib.sha256()
        self._draft: Draft | None = None
        self._buffer: list[bytes] = []
        self._buffered = self._written = self._set_aside = 0
        self._row = self._stored = self._done = False
        self._pulse: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("skerry.artifacts.files")

    async def begin(self, declared: int) -> None:
        """Raises FileTooLarge, FilesQuotaExceeded, TooManyFiles, StorageFull."""
        self._require_size(declared)
        async with self._service.db.transaction() as tx:
            await self._service.store.begin(tx, self.file)
            await self._reserve(tx, declared)
        self._row = True
        self._draft = await self._service.storage.begin(self.file.id)
        self._pulse = asyncio.create_task(self._keep_touching())

    async def write(self, data: bytes) -> None:
        """Raises FileTooLarge, FilesQuotaExceeded, StorageFull, UploadLost, and what the purpose's check says."""
        self._buffered += len(data)
        self._require_size(self._written + self._buffered)
        self._buffer.append(data)
        if self._buffered >= BLOCK:
            await self._flush()

    async def finish(self, purpose: Purpose, expires_after: int | None, within: Within | None = None) -> File:
        """All of it is there: check it to the end and make it visible."""
        seconds = rules.check_expiry(expires_after)
        await self._flush()
        facts = await self._judge(purpose)
        draft = self._opened()
        # From here on the bytes may have their final name: `close` must ask the row whether they count.
        self._stored = True
        try:
            await draft.commit()
        except ObjectMissing as error:
            raise _lost() from error
        async with self._service.db.transaction() as tx:
            file = await self._make_visible(tx, purpose, seconds, facts)
            if within is not None:
                await within(tx, file)
        self._done = True
        return file

    async def close(self) -> None:
        """Called in the end, whatever happened: of what was not finished nothing stays."""
        if self._pulse is not None:
            self._pulse.cancel()
            with suppress(asyncio.CancelledError):
                await self._pulse
        if self._done:
            return
        try:
            await self._undo()
        except (Unavailable, OSError) as error:
            # The row stands, and the sweeper will see it grow old.
            self._log.warning("upload_left_to_sweeper", file=self.file.id, error=type(error).__name__)

    # --- while it comes
    async def _flush(self) -> None:
        if not self._buffered:
            return
        block = self._buffer[0] if len(self._buffer) == 1 else b"".join(self._buffer)
        self._buffer, self._buffered = [], 0
        size = self._written + len(block)
        if self._limited and size > self._set_aside:
            async with self._service.db.transaction() as tx:
                await self._reserve(tx, size)
        await asyncio.to_thread(self._look_at, block)
        await self._opened().write(block)
        self._written = size

    def _look_at(self, block: bytes) -> None:
        self._hash.update(block)
        if self._check is not None:
            self._check.feed(block)

    async def _reserve(self, tx: Tx, needed: int) -> None:
        """Set aside `needed` bytes, and some more where there are: each step is a transaction."""
        if not self._limited:
            return
        service, file = self._service, self.file
        limits = service.limits
        await service.store.lock_quota(tx, file.project)
        count, used = await service.store.usage(tx, file.project, but=file.id)
        if count >= limits.project_files:
            raise TooManyFiles(limits.project_files)
        left = max(0, limits.project_bytes - used)
        if needed > left:
            raise FilesQuotaExceeded(limits.project_bytes, left)
        size = min(needed + min(max(_FIRST_STEP, needed), _LONGEST_STEP), left, self._most)
        if not await service.store.set_aside(tx, file.project, file.id, size, service.clock.now()):
            raise _lost()
        self._set_aside = size

    async def _keep_touching(self) -> None:
        while True:
            await asyncio.sleep(TOUCH_SECONDS)
            try:
                async with self._service.db.transaction() as tx:
                    await self._service.store.touch(tx, self.file.project, self.file.id, self._service.clock.now())
            except Unavailable:
                continue  # the database is away: so it is for the sweeper

    # --- the end
    async def _judge(self, purpose: Purpose) -> Mapping[str, Any]:
        if self._written > self._largest(purpose):
            raise FileTooLarge(self._largest(purpose))
        if self._checked_as is not purpose:
            self._check = purpose.check() if purpose.check is not None else None
            if self._check is not None:
                async for block in self._opened().read():
                    await asyncio.to_thread(self._check.feed, block)
        return await asyncio.to_thread(self._check.finish) if self._check is not None else {}

    async def _make_visible(self, tx: Tx, purpose: Purpose, seconds: int | None, facts: Mapping[str, Any]) -> File:
        now = self._service.clock.now()
        file = replace(
            self.file,
            purpose=purpose.name,
            bytes=self._written,
            sha256=self._hash.hexdigest(),
            status=FileStatus.UPLOADED if purpose.check is None else FileStatus.PROCESSED,
            facts=dict(facts),
            created_at=now,
            expires_at=None if seconds is None else now + timedelta(seconds=seconds),
            metered_through=now,
        )
        names = ("purpose", "bytes", "sha256", "facts", "created_at", "expires_at", "metered_through")
        values = {name: getattr(file, name) for name in names}
        if not await self._move(tx, file.status, Reason("stored"), values):
            raise _lost()
        return file

    async def _undo(self) -> None:
        service, file = self._service, self.file
        if not self._stored:
            # In this order: a row without bytes is swept, bytes without a row would be nobody's.
            if self._draft is not None:
                await self._draft.discard()
            if self._row:
                async with service.db.transaction() as tx:
                    await service.store.forget_upload(tx, file.project, file.id)
            return
        # It may have become visible although its transaction seemed to fail: then it stays.
        async with service.db.transaction() as tx:
            given_up = await self._move(
                tx, FileStatus.DELETED, Reason(DeletionReason.UPLOAD_LOST), {"deleted_at": service.clock.now()}
            )
        if given_up:
            await service.purge(file)

    async def _move(self, tx: Tx, after: FileStatus, reason: Reason, values: Mapping[str, Any]) -> bool:
        return await transition(
            tx,
            self._service.events,
            TRANSITIONS,
            files,
            id=self.file.id,
            project=self.file.project,
            before=FileStatus.UPLOADING,
            after=after,
            reason=reason,
            values=values,
        )

    def _largest(self, purpose: Purpose | None) -> int:
        if not self._limited:
            return 2**62
        most = self._service.limits.file_bytes
        return min(most, purpose.max_bytes) if purpose is not None and purpose.max_bytes is not None else most

    def _require_size(self, size: int) -> None:
        if size > self._most:
            raise FileTooLarge(self._most)

    def _opened(self) -> Draft:
        if self._draft is None:
            raise RuntimeError("the upload was not begun")
        return self._draft


def _lost() -> UploadLost:
    return UploadLost("The upload was given up: it showed no sign of life for too long.", suggestion="Upload it again.")
