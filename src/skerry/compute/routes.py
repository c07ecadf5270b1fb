"""Workloads over HTTP: what runs, how its attempts went, what it said. Products make them, so nothing is created here.

`/workloads/{id}/events` comes from the timeline (`server/events.py`).
"""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Response
from starlette.responses import StreamingResponse

from skerry.compute.model import WorkloadKind, WorkloadStatus
from skerry.compute.schemas import AttemptOut, ListOf, WorkloadOut, WorkloadWithUsageOut
from skerry.compute.service import LOG_BYTES, Compute
from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.kernel.ids import WorkloadId
from skerry.kernel.paging import DEFAULT_LIMIT, MAX_LIMIT, PageRequest

# What customers' programs print is never to be taken for a page of ours.
_CUSTOMER_BYTES: Final = {
    "content-disposition": 'attachment; filename="log.txt"',
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox",
    "x-accel-buffering": "no",
}
_TEXT: Final = "text/plain; charset=utf-8"
_MAX_OFFSET: Final = 2**63 - 1


def paging(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    after: Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before.")] = None,
) -> PageRequest:
    return PageRequest.parse(limit, after)


Paging = Annotated[PageRequest, Depends(paging)]


def router(compute: Compute, access: Access) -> APIRouter:
    routes = APIRouter(tags=["compute"])
    _add_workloads(routes, compute, access)
    _add_logs(routes, compute, access)
    return routes


def _add_workloads(routes: APIRouter, compute: Compute, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]

    @routes.get("/workloads")
    async def list_workloads(
        principal: Reader,
        page: Paging,
        resource: Annotated[str | None, Query(max_length=200)] = None,
        kind: WorkloadKind | None = None,
        status: WorkloadStatus | None = None,
    ) -> ListOf[WorkloadOut]:
        """Newest first."""
        async with compute.db.reading() as tx:
            found = await compute.list(tx, principal.project_id, page, resource=resource, kind=kind, status=status)
        return ListOf.of(found.map(WorkloadOut.of))

    @routes.get("/workloads/{workload}")
    async def get_workload(principal: Reader, workload: str) -> WorkloadWithUsageOut:
        """With what of it is charged, and what is not: waiting, start-up, and what was lost through our fault."""
        async with compute.db.reading() as tx:
            found = await compute.get(tx, principal.project_id, WorkloadId(workload))
            return WorkloadWithUsageOut.with_usage(found, await compute.used(tx, found))

    @routes.get("/workloads/{workload}/attempts")
    async def list_attempts(principal: Reader, workload: str, page: Paging) -> ListOf[AttemptOut]:
        """In the order in which they ran."""
        async with compute.db.reading() as tx:
            found = await compute.attempts(tx, principal.project_id, WorkloadId(workload), page)
        return ListOf.of(found.map(AttemptOut.of))


def _add_logs(routes: APIRouter, compute: Compute, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]
    described = {"description": "What the task wrote to its output and error.", "content": {"text/plain": {}}}

    @routes.get("/workloads/{workload}/logs", response_class=Response, responses={200: described})
    async def read_logs(
        principal: Reader,
        workload: str,
        rank: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
        offset: Annotated[int, Query(ge=0, le=_MAX_OFFSET, description="In bytes, from the first one written.")] = 0,
        limit: Annotated[int, Query(ge=1, le=4 << 20)] = LOG_BYTES,
        follow: Annotated[bool, Query(description="Stream what comes until the attempt ends.")] = False,
    ) -> Response:
        """Of the newest attempt. `skerry-log-next` is the offset to read on from; what rotation has dropped is
        skipped."""
        id = WorkloadId(workload)
        chunk = await compute.logs(principal.project_id, id, rank, offset, limit)
        if follow:
            stream = compute.follow_logs(principal.project_id, id, rank, offset)
            return StreamingResponse(stream, media_type=_TEXT, headers=_CUSTOMER_BYTES)
        place = {"skerry-log-offset": str(chunk.offset), "skerry-log-next": str(chunk.next_offset)}
        return Response(chunk.data, media_type=_TEXT, headers={**_CUSTOMER_BYTES, **place})
