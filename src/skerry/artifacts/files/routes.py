"""`/v1/files`, as OpenAI's clients speak it. A file's bytes are customer's: always an attachment, never a page."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from skerry.artifacts.files.errors import BadUpload, RangeNotSatisfiable, UploadStalled
from skerry.artifacts.files.model import File, Purpose
from skerry.artifacts.files.multipart import (
    OVERHEAD,
    Field,
    FileBegins,
    FileBytes,
    FileEnds,
    FormSplitter,
    Piece,
    missing,
)
from skerry.artifacts.files.ranges import Unsatisfiable, parse_range
from skerry.artifacts.files.rules import EXPIRY_SECONDS, check_expiry
from skerry.artifacts.files.schemas import FileDeleted, FileOut, FileRows
from skerry.artifacts.files.service import MOST_LISTED, Files
from skerry.artifacts.files.upload import Upload
from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.kernel.errors import FieldError

STALLED_SECONDS: Final = 60.0
"""Without a byte for so long an upload is given up."""

_EXPIRES_ANCHOR, _EXPIRES_SECONDS = "expires_after[anchor]", "expires_after[seconds]"
_FIELDS: Final = ("purpose", _EXPIRES_ANCHOR, _EXPIRES_SECONDS)
_CUSTOMER_BYTES: Final = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'",
    "accept-ranges": "bytes",
}
_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "purpose": {"type": "string", "description": "What it is for, such as `batch`."},
                        "file": {"type": "string", "format": "binary"},
                        _EXPIRES_ANCHOR: {"type": "string", "enum": ["created_at"]},
                        _EXPIRES_SECONDS: {
                            "type": "integer",
                            "minimum": EXPIRY_SECONDS[0],
                            "maximum": EXPIRY_SECONDS[1],
                        },
                    },
                }
            }
        },
    }
}
_BYTES: Final[dict[str, Any]] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_CONTENT_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The bytes of the file.", "content": _BYTES},
    206: {"description": "The range asked for.", "content": _BYTES},
    416: {"description": "The range lies outside the file.", "content": {"application/json": {}}},
}


def openai_router(service: Files, access: Access) -> APIRouter:
    """Below `/v1`."""
    routes = APIRouter(tags=["files"])
    Caller = Annotated[Principal, Depends(access.project(Scope.INFERENCE))]

    @routes.post("/files", openapi_extra=_FORM)
    async def create_file(request: Request, principal: Caller) -> FileOut:
        """Upload a file. It is checked for its purpose while it comes."""
        return FileOut.of(await receive(service, principal, request))

    @routes.get("/files")
    async def list_files(
        principal: Caller,
        purpose: Annotated[str | None, Query(max_length=64)] = None,
        after: Annotated[
            str | None, Query(max_length=64, description="Id of the last file of the page before.")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = MOST_LISTED,
        order: Literal["asc", "desc"] = "desc",
    ) -> FileRows:
        """The project's files by the time they were made, newest first unless `order` says otherwise."""
        page = await service.list(principal, purpose=purpose, after=after, limit=limit, newest_first=order == "desc")
        return FileRows.of(page)

    @routes.get("/files/{file}")
    async def get_file(principal: Caller, file: str) -> FileOut:
        return FileOut.of(await service.get(principal, file))

    @routes.get("/files/{file}/content", response_class=Response, responses=_CONTENT_ANSWERS)
    async def get_file_content(
        principal: Caller,
        file: str,
        range: Annotated[str | None, Header(max_length=200)] = None,
        if_range: Annotated[str | None, Header(max_length=200)] = None,
    ) -> Response:
        """The bytes, as an attachment; `Range: bytes=a-b` asks for some of them."""
        return await _content(service, principal, await service.get(principal, file), range, if_range)

    @routes.delete("/files/{file}")
    async def delete_file(principal: Caller, file: str) -> FileDeleted:
        """Gone at once, for good."""
        return FileDeleted(id=(await service.delete(principal, file)).id)

    return routes


async def receive(service: Files, principal: Principal, request: Request) -> File:
    """The file of a form that is still coming."""
    splitter = FormSplitter(request.headers.get("content-type", ""))
    form = _Form(service)
    pieces = _pieces(splitter, _patient(request.stream()))
    async for piece in pieces:
        if isinstance(piece, FileBegins):
            declared = _declared(request)
            form.check_expiry_known()
            async with service.uploading(
                principal.project_id, filename=piece.filename, purpose=form.known_purpose(), declared=declared
            ) as upload:
                await _take_bytes(pieces, upload)
                async for later in pieces:
                    form.take(later)
                return await upload.finish(form.purpose(), form.expires_after(), service.audited(principal))
        form.take(piece)
    raise missing("file")  # not reached: the splitter said so


async def _take_bytes(pieces: AsyncIterator[Piece], upload: Upload) -> None:
    async for piece in pieces:
        if isinstance(piece, FileEnds):
            return
        assert isinstance(piece, FileBytes), "a part ends before the next one begins"
        await upload.write(piece.data)


async def _pieces(splitter: FormSplitter, body: AsyncIterator[bytes]) -> AsyncIterator[Piece]:
    async for chunk in body:
        for piece in splitter.feed(chunk):
            yield piece
    splitter.end()


async def _patient(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                chunk = await anext(body)
        except StopAsyncIteration:
            return
        except ClientDisconnect:
            raise UploadStalled("The client left before the end.", code="upload_broken_off") from None
        except TimeoutError:
            words = f"No byte of the upload came for {STALLED_SECONDS:.0f} s."
            raise UploadStalled(words, suggestion="Upload it again.") from None
        if chunk:
            yield chunk


def _declared(request: Request) -> int:
    """How many bytes the file has at least, by the length of the whole form."""
    length = request.headers.get("content-length", "")
    return max(0, int(length) - OVERHEAD) if length.isdigit() else 0


class _Form:
    """The fields beside the file, which may come before it and after it."""

    def __init__(self, service: Files) -> None:
        self._service = service
        self._values: dict[str, str] = {}

    def take(self, piece: Piece) -> None:
        assert isinstance(piece, Field), "a form has one file"
        if piece.name not in _FIELDS:
            words = f"it is not a field of this form; there are file, {', '.join(_FIELDS)}"
            error = FieldError(piece.name[:64], "unknown_field", words)
            raise BadUpload(f"{piece.name[:64]}: {words}.", code="unknown_field", errors=[error])
        self._values[piece.name] = piece.value

    def known_purpose(self) -> Purpose | None:
        return self.purpose() if "purpose" in self._values else None

    def purpose(self) -> Purpose:
        if "purpose" not in self._values:
            raise missing("purpose")
        return self._service.purpose(self._values["purpose"])

    def check_expiry_known(self) -> None:
        """Before the bytes come rather than after, where that can be."""
        if _EXPIRES_ANCHOR in self._values and _EXPIRES_SECONDS in self._values:
            check_expiry(self.expires_after())

    def expires_after(self) -> int | None:
        anchor, seconds = self._values.get(_EXPIRES_ANCHOR), self._values.get(_EXPIRES_SECONDS)
        if anchor is None and seconds is None:
            return None
        if anchor != "created_at":
            raise _bad(_EXPIRES_ANCHOR, "it must be created_at")
        if seconds is None or not (seconds.isascii() and seconds.isdigit() and len(seconds) < 12):
            raise _bad(_EXPIRES_SECONDS, "it must be a number of seconds")
        return int(seconds)


async def _content(
    service: Files, principal: Principal, file: File, range: str | None, if_range: str | None
) -> Response:
    etag = f'"{file.sha256}"'
    try:
        part = parse_range(range, file.bytes) if if_range in (None, etag) else None
    except Unsatisfiable:
        raise RangeNotSatisfiable(f"The file has {file.bytes} bytes.") from None
    start, stop = part or (0, file.bytes)
    content = await service.open(principal.project_id, file.id, start, stop)
    headers = {
        **_CUSTOMER_BYTES,
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
        "content-length": str(stop - start),
        "etag": etag,
    }
    if part is not None:
        headers["content-range"] = f"bytes {start}-{stop - 1}/{file.bytes}"
    return StreamingResponse(
        content.chunks, 206 if part is not None else 200, headers, media_type="application/octet-stream"
    )


def _bad(name: str, words: str) -> BadUpload:
    return BadUpload(f"{name}: {words}.", errors=[FieldError(name, "bad_upload", words)])
