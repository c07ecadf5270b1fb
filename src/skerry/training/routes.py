"""Training jobs over HTTP (API §6). `/training/jobs/{id}/events` comes from the timeline (`server/events.py`)."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import StreamingResponse

from skerry.compute.nodes.access import NodeAccess
from skerry.compute.nodes.tokens import NodeCaller
from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.identity.schemas.base import Listing, Paging
from skerry.kernel.errors import Malformed
from skerry.training.intake import Intake
from skerry.training.logs import LOG_BYTES, JobLogs
from skerry.training.making import CHECKPOINTS
from skerry.training.model import JobStatus, JobView
from skerry.training.reporting import decode
from skerry.training.schemas import (
    GoodputOut,
    JobEstimateOut,
    JobIn,
    JobOut,
    MetricsOut,
    PointOut,
    SeriesOut,
)
from skerry.training.service import JobFilter, Jobs

_MAX_LOG_BYTES: Final = 4 << 20
_MAX_OFFSET: Final = 2**63 - 1
# What customers' programs print is never to be taken for a page of ours.
_LOG_HEADERS: Final = {
    "content-disposition": 'attachment; filename="log.txt"',
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox",
    "x-accel-buffering": "no",
}
_TEXT: Final = "text/plain; charset=utf-8"
_PRINTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "What the processes wrote to their output and error.", "content": {"text/plain": {}}}
}


def router(jobs: Jobs, logs: JobLogs, access: Access) -> APIRouter:
    """Below `/api/v1`."""
    routes = APIRouter(prefix="/training", tags=["training"])
    _add_changes(routes, jobs, access)
    _add_reading(routes, jobs, access)
    _add_logs(routes, logs, access)
    return routes


def node_router(intake: Intake, access: NodeAccess) -> APIRouter:
    """Below `/api/v1`. For supervisors: node tokens only, in no OpenAPI."""
    routes = APIRouter(include_in_schema=False)
    Caller = Annotated[NodeCaller, Depends(access.caller)]

    @routes.post("/node/training/reports")
    async def take_report(request: Request, caller: Caller) -> dict[str, Any]:
        """Kept once, however often it is sent."""
        try:
            report = decode(await request.body())
        except ValueError as error:
            raise Malformed(f"this is no report: {error}") from None
        return await intake.take(caller.project, caller.workload, caller.attempt, report)

    return routes


def _add_changes(routes: APIRouter, jobs: Jobs, access: Access) -> None:
    Writer = Annotated[Principal, Depends(access.project(Scope.WRITE))]

    @routes.post("/jobs", status_code=201, response_model=JobOut | JobEstimateOut)
    async def create_training_job(
        principal: Writer,
        body: JobIn,
        response: Response,
        dry_run: Annotated[bool, Query(description="Answer with the estimate, and change nothing.")] = False,
    ) -> JobOut | JobEstimateOut:
        """Run a command on one or more nodes at once. It is queued until they are free."""
        if dry_run:
            response.status_code = 200
            return JobEstimateOut.of(await jobs.estimate(principal, body.to_new()))
        return _shown(await jobs.create(principal, body.to_new()))

    @routes.post("/jobs/{job}/cancel")
    async def cancel_training_job(principal: Writer, job: str) -> JobOut:
        """End it for good. Its checkpoints, logs and metrics stay."""
        return _shown(await jobs.cancel(principal, job))

    @routes.post("/jobs/{job}/pause")
    async def pause_training_job(principal: Writer, job: str) -> JobOut:
        """Write a checkpoint, and give the nodes back."""
        return _shown(await jobs.pause(principal, job))

    @routes.post("/jobs/{job}/resume")
    async def resume_training_job(principal: Writer, job: str) -> JobOut:
        """Queue it again; it goes on from its newest complete checkpoint."""
        return _shown(await jobs.resume(principal, job))


def _add_reading(routes: APIRouter, jobs: Jobs, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]

    @routes.get("/jobs")
    async def list_training_jobs(
        principal: Reader,
        page: Paging,
        status: Annotated[list[JobStatus] | None, Query(max_length=10)] = None,
        name: Annotated[str | None, Query(max_length=100)] = None,
    ) -> Listing[JobOut]:
        """The newest first."""
        found = await jobs.list(principal, JobFilter(tuple(status or ()), name), page)
        return Listing.of(found.map(_shown))

    @routes.get("/jobs/{job}")
    async def get_training_job(principal: Reader, job: str) -> JobOut:
        return _shown(await jobs.get(principal, job))

    @routes.get("/jobs/{job}/goodput")
    async def get_training_goodput(principal: Reader, job: str) -> GoodputOut:
        """How much of its time went into new steps, and where the rest went."""
        return GoodputOut.of(await jobs.goodput(principal, job))

    @routes.get("/jobs/{job}/metrics")
    async def list_training_metrics(
        principal: Reader,
        job: str,
        page: Paging,
        name: Annotated[list[str] | None, Query(max_length=100, description="Of these series alone.")] = None,
    ) -> MetricsOut:
        """What the job measured, by step. Of long series every second, fourth … point is kept."""
        found = await jobs.points(principal, job, tuple(name or ()), page)
        series = await jobs.series(principal, job)
        return MetricsOut(
            data=[PointOut.of(point) for point in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
            series=[SeriesOut.of(one) for one in series if not name or one.name in name],
        )


def _add_logs(routes: APIRouter, logs: JobLogs, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]

    @routes.get("/jobs/{job}/logs", response_class=Response, responses=_PRINTED)
    async def read_training_log(
        principal: Reader,
        job: str,
        rank: Annotated[int | None, Query(ge=0, le=100_000_000, description="The lines of this rank alone.")] = None,
        node: Annotated[
            int | None, Query(ge=0, le=1_000_000, description="Of this node, from 0. [default: 0, or the rank's]")
        ] = None,
        offset: Annotated[
            int, Query(ge=0, le=_MAX_OFFSET, description="In bytes of the node's log, from the first one written.")
        ] = 0,
        limit: Annotated[int, Query(ge=1, le=_MAX_LOG_BYTES)] = LOG_BYTES,
        follow: Annotated[bool, Query(description="Stream what comes until the attempt ends.")] = False,
    ) -> Response:
        """Of the newest attempt. `skerry-log-next` is the offset to read on from."""
        if follow:
            stream = await logs.follow(principal, job, node, rank, offset)
            return StreamingResponse(stream, media_type=_TEXT, headers=_LOG_HEADERS)
        chunk = await logs.read(principal, job, node, rank, offset, limit)
        place = {"skerry-log-offset": str(chunk.offset), "skerry-log-next": str(chunk.next_offset)}
        return Response(chunk.data, media_type=_TEXT, headers={**_LOG_HEADERS, **place})


def _shown(view: JobView) -> JobOut:
    return JobOut.of(view, CHECKPOINTS)
