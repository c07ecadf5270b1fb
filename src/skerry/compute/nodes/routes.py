"""`/api/v1/node`: what nodes ask for in the name of an attempt. Not for customers: node tokens only, in no OpenAPI."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.responses import StreamingResponse

from skerry.artifacts.files.errors import RangeNotSatisfiable
from skerry.artifacts.files.ranges import Unsatisfiable, parse_range
from skerry.artifacts.files.service import Files
from skerry.compute.errors import NoSource
from skerry.compute.nodes.access import NodeAccess
from skerry.compute.nodes.artifacts import PART_BYTES, Artifacts, read
from skerry.compute.nodes.tokens import LIFETIME, NodeCaller, NodeTokens
from skerry.compute.service import Compute
from skerry.kernel.errors import TooLarge
from skerry.kernel.ids import FileId

PREFIX: Final = "/node"


def router(compute: Compute, files: Files, artifacts: Artifacts, tokens: NodeTokens, access: NodeAccess) -> APIRouter:
    """Below `/api/v1`."""
    routes = APIRouter(prefix=PREFIX, include_in_schema=False)
    Caller = Annotated[NodeCaller, Depends(access.caller)]

    @routes.post("/token")
    async def renew(caller: Caller) -> dict[str, Any]:
        """A token that is good for longer, while the attempt is open."""
        return {"token": tokens.issue(caller), "expires_in": int(LIFETIME.total_seconds())}

    @routes.get("/source", response_class=Response)
    async def get_source(caller: Caller, range: Annotated[str | None, Header(max_length=200)] = None) -> Response:
        """The workload's own source, streamed; `Range: bytes=a-` goes on where a download broke off."""
        async with compute.db.reading() as tx:
            spec = (await compute.get(tx, caller.project, caller.workload)).spec
        if spec.source is None:
            raise NoSource("This workload has no source.")
        file = await files.find(caller.project, FileId(spec.source))
        start, stop, headers = _ranged(range, file.bytes)
        return _streamed((await files.open(caller.project, file.id, start, stop)).chunks, headers)

    @routes.get("/artifacts")
    async def list_artifacts(caller: Caller, prefix: Annotated[str, Query(max_length=512)] = "") -> dict[str, Any]:
        """What the workload has left here so far, in any of its attempts."""
        found = await artifacts.list(caller, prefix)
        return {"data": [{"path": one.path, "bytes": one.bytes} for one in found]}

    @routes.get("/artifacts/{path:path}", response_class=Response)
    async def get_artifact(
        caller: Caller, path: str, range: Annotated[str | None, Header(max_length=200)] = None
    ) -> Response:
        where, size = await artifacts.open(caller, path)
        start, stop, headers = _ranged(range, size)
        return _streamed(read(where, start, stop), headers)

    @routes.put("/artifacts/{path:path}")
    async def put_artifact(
        caller: Caller, path: str, request: Request, offset: Annotated[int, Query(ge=0)] = 0, last: bool = True
    ) -> dict[str, int]:
        """A part of at most 4 MiB; the file is there once its last part is."""
        data = bytearray()
        async for piece in request.stream():
            data += piece
            if len(data) > PART_BYTES:
                raise TooLarge(f"A part may have {PART_BYTES} bytes.", code="part_too_large")
        return {"bytes": await artifacts.write(caller, path, offset, bytes(data), last=last)}

    @routes.delete("/artifacts/{path:path}")
    async def delete_artifact(caller: Caller, path: str) -> dict[str, bool]:
        await artifacts.delete(caller, path)
        return {"deleted": True}

    return routes


def _ranged(range: str | None, size: int) -> tuple[int, int, dict[str, str]]:
    """Start, stop, and the headers that say so. Raises RangeNotSatisfiable."""
    try:
        part = parse_range(range, size)
    except Unsatisfiable:
        raise RangeNotSatisfiable(f"The file has {size} bytes.") from None
    start, stop = part or (0, size)
    headers = {"accept-ranges": "bytes", "content-length": str(stop - start)}
    if part is not None:
        headers["content-range"] = f"bytes {start}-{stop - 1}/{size}"
    return start, stop, headers


def _streamed(chunks: AsyncIterator[bytes], headers: dict[str, str]) -> Response:
    status = 206 if "content-range" in headers else 200
    return StreamingResponse(chunks, status, headers, media_type="application/octet-stream")
