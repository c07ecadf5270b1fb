"""Files on the wire, as OpenAI shapes them: times are Unix seconds."""

from typing import Literal

from pydantic import BaseModel, Field

from skerry.artifacts.files.model import File, FilePage, FileStatus


class FileOut(BaseModel):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = Field(description="When it is deleted; null: it stays.")
    filename: str
    purpose: str
    status: FileStatus
    status_details: str | None = None
    sha256: str = Field(description="Checksum of its bytes, hexadecimal.")

    @classmethod
    def of(cls, file: File) -> "FileOut":
        return cls(
            id=file.id,
            bytes=file.bytes,
            created_at=int(file.created_at.timestamp()),
            expires_at=None if file.expires_at is None else int(file.expires_at.timestamp()),
            filename=file.filename,
            purpose=file.purpose,
            status=file.status,
            sha256=file.sha256,
        )


class FileRows(BaseModel):
    object: Literal["list"] = "list"
    data: list[FileOut]
    has_more: bool
    first_id: str | None
    last_id: str | None

    @classmethod
    def of(cls, page: FilePage) -> "FileRows":
        rows = [FileOut.of(file) for file in page.data]
        return cls(
            data=rows,
            has_more=page.has_more,
            first_id=rows[0].id if rows else None,
            last_id=rows[-1].id if rows else None,
        )


class FileDeleted(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
