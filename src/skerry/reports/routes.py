"""Reports over HTTP (API §9)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.kernel.paging import DEFAULT_LIMIT, MAX_LIMIT, PageRequest
from skerry.metering.model import Bucket
from skerry.reports.schemas import CostPage
from skerry.reports.service import Reports

_TIME = "An RFC 3339 time or a date (UTC); the window is widened to full hours."
From = Annotated[str | None, Query(alias="from", max_length=64, description=_TIME)]
To = Annotated[str | None, Query(alias="to", max_length=64, description=_TIME)]
GroupBy = Annotated[list[str] | None, Query(max_length=20, description="As for usage.")]


def router(service: Reports, access: Access) -> APIRouter:
    routes = APIRouter(tags=["usage"])
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]

    @routes.get("/costs")
    async def list_costs(
        principal: Reader,
        start: From = None,
        end: To = None,
        group_by: GroupBy = None,
        bucket: Bucket | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
        after: Annotated[str | None, Query(max_length=4000)] = None,
    ) -> CostPage:
        """The rows of usage with what they cost, unrounded. Default: this month, as one bucket."""
        query = service.metering.query(start, end, group_by or (), bucket)
        return CostPage.of(await service.costs(principal.project_id, query, PageRequest.parse(limit, after)))

    return routes
