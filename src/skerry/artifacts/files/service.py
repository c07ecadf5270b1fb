"""Files: take them in, hand them out, let them go."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import structlog

from skerry.artifacts.files import rules
from skerry.artifacts.files.errors import ContentLost, UnknownFile, UnknownPurpose
from skerry.artifacts.files.model import (
    TRANSITIONS,
    Content,
    DeletionReason,
    File,
    FileLimits,
    FilePage,
    FileStatus,
    Purpose,
    Within,
)
from skerry.artifacts.files.storage import ObjectMissing, Storage
from skerry.artifacts.files.store import FileStore
from skerry.artifacts.files.tables import files as table
from skerry.artifacts.files.upload import Upload
from skerry.db.database import Database, Tx
from skerry.identity.model import Principal
from skerry.identity.service import Identity
from skerry.kernel.clock import Clock
from skerry.kernel.errors import Malformed, Unavailable
from skerry.kernel.ids import FileId, IdFactory, ProjectId, new_id
from skerry.metering.model import UsageFact
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog
from skerry.runtime.state import Reason, transition

LONGEST_LINE = 8 * 1024 * 1024
MOST_LISTED = 10_000


class Files:
    """A file is seen once it is whole, stored and checked. `limits` are the same for all projects."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        events: EventLog,
        identity: Identity,
        metering: Metering,
        storage: Storage,
        limits: FileLimits,
        purposes: Iterable[Purpose] = (),
        *,
        ids: IdFactory = new_id,
    ) -> None:
        self.db = db
        self.clock = clock
        self.events = events
        self.identity = identity
        self.metering = metering
        self.storage = storage
        self.limits = limits
        self.purposes = {purpose.name: purpose for purpose in purposes}
        self.new_id = ids
        self.store = FileStore()
        self._log = structlog.get_logger("skerry.artifacts.files")

    # --- in
    async def create(
        self,
        principal: Principal,
        *,
        filename: str,
        purpose: str,
        chunks: AsyncIterator[bytes],
        expires_after: int | None = None,
    ) -> File:
        """Store a customer's file while it comes. Nothing is left of one that is refused, or that breaks off.

        `expires_after`: seconds from its creation. Raises UnknownPurpose, BadUpload, BadFile, FileTooLarge,
        FilesQuotaExceeded, TooManyFiles, StorageFull.
        """
        wanted = self.purpose(purpose)
        async with self.uploading(principal.project_id, filename=filename, purpose=wanted) as upload:
            async for chunk in chunks:
                await upload.write(chunk)
            return await upload.finish(wanted, expires_after, within=self.audited(principal))

    async def write(
        self,
        project: ProjectId,
        *,
        filename: str,
        purpose: str,
        chunks: AsyncIterator[bytes],
        expires_after: int | None = None,
        within: Within | None = None,
    ) -> File:
        """A file that Skerry itself makes: no quota refuses it, though it counts.

        `within` runs in the transaction that makes the file visible, so that whoever had it written can note its id
        there: a file that nobody knows of cannot come to be.
        """
        wanted = self.purposes[purpose]
        async with self.uploading(project, filename=filename, purpose=wanted, limited=False) as upload:
            async for chunk in chunks:
                await upload.write(chunk)
            return await upload.finish(wanted, expires_after, within=within)

    @asynccontextmanager
    async def uploading(
        self,
        project: ProjectId,
        *,
        filename: str,
        purpose: Purpose | None,
        declared: int = 0,
        limited: bool = True,
    ) -> AsyncIterator[Upload]:
        """An upload under way: `write` and then `finish` it; left unfinished, nothing stays.

        `purpose` None: it is given to `finish`, and the check runs then. `declared`: bytes that the file has at least.
        """
        name = rules.check_filename(filename)
        upload = Upload(self, FileId(self.new_id("file-")), project, name, purpose, limited=limited)
        try:
            await upload.begin(declared)
            yield upload
        finally:
            await upload.close()

    def purpose(self, name: str) -> Purpose:
        """Raises UnknownPurpose, also for those that only Skerry itself writes."""
        found = self.purposes.get(name)
        if found is None or not found.uploads:
            raise UnknownPurpose(name, sorted(one.name for one in self.purposes.values() if one.uploads))
        return found

    def audited(self, principal: Principal) -> Within:
        """For `Upload.finish`: a customer's upload is in the trail."""

        async def note(tx: Tx, file: File) -> None:
            await self.identity.audit(tx, principal, "file.create", file.id, detail=file.described())

        return note

    # --- out
    async def get(self, principal: Principal, id: str) -> File:
        """Raises UnknownFile."""
        return await self.find(principal.project_id, FileId(id))

    async def find(self, project: ProjectId, id: FileId) -> File:
        """Raises UnknownFile."""
        async with self.db.reading() as tx:
            return await self.require(tx, project, id)

    async def require(self, tx: Tx, project: ProjectId, id: FileId) -> File:
        """The same within a transaction of the caller's. Raises UnknownFile."""
        file = await self.store.find(tx, project, id)
        if file is None or rules.is_gone(file, self.clock.now()):
            raise _unknown(id)
        return file

    async def list(
        self,
        principal: Principal,
        *,
        purpose: str | None = None,
        after: str | None = None,
        limit: int = MOST_LISTED,
        newest_first: bool = True,
    ) -> FilePage:
        """A page of the project's files, after the file `after`. Raises Malformed where that was never one of them."""
        now = self.clock.now()
        async with self.db.reading() as tx:
            start = None
            if after is not None:
                start = await self.store.place(tx, principal.project_id, FileId(after))
                if start is None:
                    raise Malformed("after is not the id of a file of this project", code="bad_cursor")
            rows = await self.store.page(
                tx, principal.project_id, now, purpose=purpose, start=start, limit=limit + 1, newest_first=newest_first
            )
        return FilePage(tuple(rows[:limit]), has_more=len(rows) > limit)

    async def open(self, project: ProjectId, id: FileId, start: int = 0, stop: int | None = None) -> Content:
        """The bytes `[start, stop)`; a `stop` past the end is the end. Raises UnknownFile, ContentLost."""
        file = await self.find(project, id)
        stop = file.bytes if stop is None else min(stop, file.bytes)
        try:
            opened = await self.storage.open(file.id)
        except ObjectMissing:
            self._log.error("file_content_lost", file=file.id, project=project)
            words = f"The bytes of {file.id} cannot be found in the storage."
            raise ContentLost(words, suggestion="Tell your operator; upload the file again.") from None
        return Content(file, start, stop, opened.read(start, stop))

    async def lines(
        self, project: ProjectId, id: FileId, start_offset: int = 0, longest: int = LONGEST_LINE
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Each line from an offset on, without its end, with the offset of the next one: `start_offset` to go on from.

        Empty lines come too. Raises UnknownFile, ContentLost; Malformed for a line of more than `longest` bytes.
        """
        content = await self.open(project, id, start_offset)
        offset, rest = start_offset, b""
        async for chunk in content.chunks:
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                _require_length(id, line, longest, offset)
                offset += len(line) + 1
                yield offset, line.removesuffix(b"\r")
            _require_length(id, rest, longest, offset)
        if rest:
            yield offset + len(rest), rest.removesuffix(b"\r")

    # --- away
    async def delete(self, principal: Principal, id: str) -> File:
        """Gone at once; its storage is metered up to now. Raises UnknownFile."""
        async with self.db.transaction() as tx:
            file = await self.store.lock(tx, principal.project_id, FileId(id))
            now = self.clock.now()
            if file is None or rules.is_gone(file, now):
                raise _unknown(id)
            await self.end(tx, [file], DeletionReason.REQUESTED, now)
            await self.identity.audit(tx, principal, "file.delete", file.id, detail=file.described())
        await self.purge(file)
        return file

    async def end(self, tx: Tx, files: Sequence[File], why: DeletionReason, now: datetime) -> None:
        """Meter what is left of files that are locked and let them go; `purge` them afterwards."""
        ends = {file.id: rules.end_of(file, now) for file in files}
        whole = [file for file in files if file.status is not FileStatus.UPLOADING]
        await self.take_in(tx, [fact for file in whole for fact in rules.storage_facts(file, ends[file.id])])
        for file in files:
            end = ends[file.id]
            values = {"deleted_at": end, "metered_through": end if file in whole else None}
            moved = await transition(
                tx,
                self.events,
                TRANSITIONS,
                table,
                id=file.id,
                project=file.project,
                before=file.status,
                after=FileStatus.DELETED,
                reason=Reason(why),
                values=values,
            )
            assert moved, "the row is locked"

    async def take_in(self, tx: Tx, facts: Sequence[UsageFact]) -> None:
        """To be called once in a transaction, in that of the change that goes with the facts."""
        if not facts:
            return
        result = await self.metering.intake(tx, facts)
        if result.rejected:
            self._log.error("storage_usage_rejected", facts=[str(rejection.id) for rejection in result.rejected])

    async def purge(self, file: File) -> None:
        """Remove the bytes of a file that is deleted. What fails is done by the sweeper."""
        try:
            await self.storage.delete(file.id)
            async with self.db.transaction() as tx:
                await self.store.purged(tx, file.project, file.id, self.clock.now())
        except (OSError, Unavailable) as error:
            self._log.warning("purge_put_off", file=file.id, error=str(error))


def _unknown(id: str) -> UnknownFile:
    return UnknownFile(f"there is no file {id[:64]!r}", suggestion="GET /v1/files lists them.")


def _require_length(id: FileId, line: bytes, longest: int, offset: int) -> None:
    if len(line) > longest:
        raise Malformed(f"{id} has a line of more than {longest} bytes at byte {offset}", code="line_too_long")
