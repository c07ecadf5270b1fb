"""The request log over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.inference.requests import rules
from skerry.inference.requests.schemas import RequestDetail, RequestList
from skerry.inference.requests.service import RequestLog
from skerry.kernel.paging import DEFAULT_LIMIT, MAX_LIMIT, PageRequest

_TIME = "An RFC 3339 time or a date (UTC), compared with the end of the answer."
Name = Annotated[str | None, Query(max_length=200)]


def router(log: RequestLog, access: Access) -> APIRouter:
    routes = APIRouter(tags=["requests"])
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]

    @routes.get("/requests")
    async def list_requests(
        principal: Reader,
        model: Name = None,
        key: Annotated[str | None, Query(max_length=200, description="By id or name.")] = None,
        status: Annotated[str | None, Query(max_length=3, description="A status such as 200, or 2xx … 5xx.")] = None,
        batch: Name = None,
        start: Annotated[str | None, Query(alias="from", max_length=64, description=_TIME)] = None,
        end: Annotated[str | None, Query(alias="to", max_length=64, description=_TIME)] = None,
        min_ms: Annotated[int | None, Query(ge=0, le=10**12, description="Took at least so long.")] = None,
        q: Annotated[
            str | None,
            Query(max_length=200, description="Beginning of the request's id, or part of a model's or key's name."),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
        after: Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before.")] = None,
    ) -> RequestList:
        """The project's answers, newest first (rows of a batch at the time of the batch). Content is not searched."""
        search = rules.search(
            model=model, key=key, status=status, batch=batch, start=start, end=end, min_ms=min_ms, q=q
        )
        return RequestList.of(await log.search(principal.project_id, search, PageRequest.parse(limit, after)))

    @routes.get("/requests/{id}")
    async def get_request(principal: Reader, id: str) -> RequestDetail:
        """By the `x-request-id` of the answer. Its content, where the project has it kept, for keys of the project."""
        return RequestDetail.found(await log.get(principal, id))

    return routes
