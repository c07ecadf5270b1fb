"""Usage over HTTP (API §9)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.kernel.paging import DEFAULT_LIMIT, MAX_LIMIT, PageRequest
from skerry.metering.model import Bucket
from skerry.metering.schemas import UsagePage
from skerry.metering.service import Metering

_TIME = "An RFC 3339 time or a date (UTC); the window is widened to full hours."
From = Annotated[str | None, Query(alias="from", max_length=64, description=_TIME)]
To = Annotated[str | None, Query(alias="to", max_length=64, description=_TIME)]
GroupBy = Annotated[
    list[str] | None,
    Query(
        max_length=20,
        description="Any of project, resource, model, sku, site, capacity_class, charge_by, key, batch and tag:NAME; "
        "repeated or joined with commas.",
    ),
]


def router(service: Metering, access: Access) -> APIRouter:
    routes = APIRouter(tags=["usage"])
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]

    @routes.get("/usage")
    async def list_usage(
        principal: Reader,
        start: From = None,
        end: To = None,
        group_by: GroupBy = None,
        bucket: Bucket | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
        after: Annotated[str | None, Query(max_length=4000)] = None,
    ) -> UsagePage:
        """What a project used, by meter and the names in `group_by`. Default: this month, as one bucket."""
        query = service.query(start, end, group_by or (), bucket)
        return UsagePage.of(await service.usage(principal.project_id, query, PageRequest.parse(limit, after)))

    return routes
