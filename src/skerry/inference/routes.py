"""Endpoints over HTTP (API §7), and the list of models that OpenAI's clients read. A name may have slashes in it."""

from typing import Annotated

from fastapi import APIRouter, Depends

from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.identity.schemas.base import Listing, Paging
from skerry.inference.errors import UnknownCallableModel
from skerry.inference.schemas import EndpointOut, EventOut, ModelRow, ModelRows
from skerry.inference.service import Inference
from skerry.kernel.errors import FieldError


def router(service: Inference, access: Access) -> APIRouter:
    """Below `/api/v1`."""
    routes = APIRouter(tags=["endpoints"])
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]
    Operator = Annotated[Principal, Depends(access.project(Scope.OPERATOR))]

    @routes.get("/endpoints")
    async def list_endpoints(principal: Reader, page: Paging) -> Listing[EndpointOut]:
        found = await service.list_endpoints(principal, page)
        return Listing.of(found.map(lambda view: EndpointOut.of(view, operator=principal.operator)))

    @routes.get("/endpoints/{endpoint:path}/events")
    async def list_endpoint_events(principal: Operator, endpoint: str, page: Paging) -> Listing[EventOut]:
        """Shared endpoints are the operator's: so is their timeline."""
        return Listing.of((await service.endpoint_events(principal, endpoint, page)).map(EventOut.of))

    @routes.get("/endpoints/{endpoint:path}")
    async def get_endpoint(principal: Reader, endpoint: str) -> EndpointOut:
        return EndpointOut.of(await service.get_endpoint(principal, endpoint), operator=principal.operator)

    return routes


def openai_router(service: Inference, access: Access) -> APIRouter:
    """Below `/v1`."""
    routes = APIRouter(tags=["inference"])
    Caller = Annotated[Principal, Depends(access.require(Scope.INFERENCE))]

    @routes.get("/models")
    async def list_callable_models(principal: Caller) -> ModelRows:
        """The models this key may call."""
        return ModelRows(data=[ModelRow.of(model) for model in await service.list_models(principal)])

    @routes.get("/models/{model:path}")
    async def get_callable_model(principal: Caller, model: str) -> ModelRow:
        found = await service.list_models(principal)
        for one in found:
            if one.name == model:
                return ModelRow.of(one)
        names = ", ".join(one.name for one in found) or "none"
        words = f"The model '{model[:128]}' does not exist. Models you can call: {names}."
        raise UnknownCallableModel(words, errors=[FieldError("model", "model_not_found", words)])

    return routes
