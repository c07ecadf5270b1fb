"""The catalogue over HTTP (API §7). A model goes by its name or id; names may have slashes in them."""

from typing import Annotated

from fastapi import APIRouter, Depends

from skerry.artifacts.schemas import EventOut, ModelIn, ModelOut
from skerry.artifacts.service import Catalogue
from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.identity.schemas.base import Listing, Paging


def router(service: Catalogue, access: Access) -> APIRouter:
    routes = APIRouter(tags=["models"])
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]
    Writer = Annotated[Principal, Depends(access.project(Scope.WRITE))]

    @routes.get("/models")
    async def list_models(principal: Reader, page: Paging) -> Listing[ModelOut]:
        found = await service.list_models(principal, page)
        return Listing.of(found.map(lambda model: ModelOut.of(model, operator=principal.operator)))

    @routes.post("/models", status_code=201)
    async def add_model(principal: Writer, body: ModelIn) -> ModelOut:
        """Add a model and its shared endpoint. A path or an upstream needs the scope operator."""
        return ModelOut.of(await service.add_model(principal, body.to_model()), operator=principal.operator)

    @routes.get("/models/{model:path}/events")
    async def list_model_events(principal: Reader, model: str, page: Paging) -> Listing[EventOut]:
        return Listing.of((await service.model_events(principal, model, page)).map(EventOut.of))

    @routes.get("/models/{model:path}")
    async def get_model(principal: Reader, model: str) -> ModelOut:
        return ModelOut.of(await service.get_model(principal, model), operator=principal.operator)

    @routes.delete("/models/{model:path}")
    async def remove_model(principal: Writer, model: str) -> ModelOut:
        """Stop serving it and free its name. Its usage stays."""
        return ModelOut.of(await service.remove_model(principal, model), operator=principal.operator)

    return routes
