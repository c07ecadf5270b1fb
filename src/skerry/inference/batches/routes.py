"""`/v1/batches`, as OpenAI's clients call it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.inference.batches.schemas import BatchIn, BatchList, BatchOut, EstimateOut
from skerry.inference.batches.service import Batches


def openai_router(service: Batches, access: Access) -> APIRouter:
    """Below `/v1`."""
    routes = APIRouter(tags=["batches"])
    Caller = Annotated[Principal, Depends(access.project(Scope.INFERENCE))]

    @routes.post("/batches")
    async def create_batch(
        principal: Caller,
        body: BatchIn,
        dry_run: Annotated[
            bool, Query(description="Answer with the rows and the highest cost; start nothing.")
        ] = False,
    ) -> BatchOut | EstimateOut:
        """Run a file of requests at half the price, while nobody else needs the replicas."""
        if dry_run:
            return EstimateOut.of(await service.estimate(principal, body.to_model()))
        return BatchOut.of(await service.create(principal, body.to_model()), await service.currency())

    @routes.get("/batches")
    async def list_batches(
        principal: Caller,
        after: Annotated[str | None, Query(max_length=100, description="Id of the last batch seen.")] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> BatchList:
        """The newest first."""
        found, more = await service.list(principal, after, limit)
        return BatchList.of(found, more, await service.currency())

    @routes.get("/batches/{id}")
    async def get_batch(principal: Caller, id: str) -> BatchOut:
        return BatchOut.of(await service.get(principal, id), await service.currency())

    @routes.post("/batches/{id}/cancel")
    async def cancel_batch(principal: Caller, id: str) -> BatchOut:
        """Send no more rows. What was answered is in the output file."""
        return BatchOut.of(await service.cancel(principal, id), await service.currency())

    return routes
