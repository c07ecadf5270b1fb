"""Values of files: what a customer uploads and a batch writes, and what it may be for."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol

from skerry.db.database import Tx
from skerry.kernel.ids import FileId, ProjectId
from skerry.kernel.states import StateMachine

BATCH: Final = "batch"
BATCH_OUTPUT: Final = "batch_output"


class FileStatus(StrEnum):
    UPLOADING = "uploading"
    """Its bytes are on their way; nobody sees it yet."""
    UPLOADED = "uploaded"
    """Whole and stored; its purpose has no check."""
    PROCESSED = "processed"
    """Whole, stored, and found good by the check of its purpose."""
    DELETED = "deleted"
    """Its bytes are gone; kept because usage and the timeline name it."""


TRANSITIONS: Final = StateMachine(
    {
        FileStatus.UPLOADING: {FileStatus.UPLOADED, FileStatus.PROCESSED, FileStatus.DELETED},
        FileStatus.UPLOADED: {FileStatus.DELETED},
        FileStatus.PROCESSED: {FileStatus.DELETED},
        FileStatus.DELETED: set(),
    }
)


class DeletionReason(StrEnum):
    """Why a file is gone."""

    REQUESTED = "requested"
    """Someone asked for it."""
    EXPIRED = "expired"
    """Its `expires_at` has passed."""
    UPLOAD_LOST = "upload_lost"
    """The server that took it in ended before it was whole: upload it again."""


class PurposeCheck(Protocol):
    """Looks at the bytes of one file as they come. Called in a worker thread, never twice at once.

    Both methods raise BadFile (or another error of the tree) for a file that the purpose cannot use.
    """

    def feed(self, chunk: bytes) -> None: ...

    def finish(self) -> Mapping[str, Any]:
        """The file is whole. Returns what was found (JSON values), kept as `File.facts`."""
        ...


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a file may be for. Who needs one more adds a row in the composition root."""

    name: str
    check: Callable[[], PurposeCheck] | None = None
    max_bytes: int | None = None
    """Where the purpose allows less than the installation does."""
    uploads: bool = True
    """False: only Skerry itself writes such files."""


@dataclass(frozen=True, slots=True)
class FileLimits:
    """What one project may store, and how large one file may be. Bytes."""

    file_bytes: int
    project_bytes: int
    project_files: int


@dataclass(frozen=True, slots=True)
class File:
    """Bytes that belong to one project. They never change once they are stored."""

    id: FileId
    project: ProjectId
    filename: str
    purpose: str
    bytes: int
    sha256: str
    """Hexadecimal; empty until the file is whole."""
    status: FileStatus
    created_at: datetime
    """When it was whole: storage is metered from then on."""
    expires_at: datetime | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the check of the purpose found, such as the number of lines."""
    metered_through: datetime | None = None
    """Up to when its byte-seconds are facts."""
    deleted_at: datetime | None = None

    def described(self) -> dict[str, Any]:
        """For events and the audit trail."""
        return {"filename": self.filename, "purpose": self.purpose, "bytes": self.bytes, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes `[start, stop)` of a file, open to be read once."""

    file: File
    start: int
    stop: int
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class FilePage:
    data: tuple[File, ...]
    has_more: bool


Within = Callable[[Tx, File], Awaitable[None]]
"""Called in the transaction that makes a file visible: what it raises undoes both."""
