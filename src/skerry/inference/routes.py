"""Endpoints over HTTP (API §7), and the list of models that OpenAI's clients read. A name may have slashes in it."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Response
from starlette.responses import StreamingResponse

from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.identity.schemas.base import Listing, Paging
from skerry.inference.errors import UnknownCallableModel
from skerry.inference.model import EndpointView
from skerry.inference.schemas import (
    EndpointIn,
    EndpointOut,
    EstimateOut,
    EventOut,
    LoadOut,
    ModelRow,
    ModelRows,
    RolloutIn,
    ScaleIn,
)
from skerry.inference.service import Endpoints, Inference
from skerry.kernel.errors import FieldError

LOG_BYTES: Final = 256 << 10
_MAX_LOG_BYTES: Final = 4 << 20
_MAX_OFFSET: Final = 2**63 - 1
# What programs print is never to be taken for a page of ours.
_LOG_HEADERS: Final = {
    "content-disposition": 'attachment; filename="log.txt"',
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox",
    "x-accel-buffering": "no",
}
_TEXT: Final = "text/plain; charset=utf-8"


def router(service: Inference, endpoints: Endpoints, access: Access) -> APIRouter:
    """Below `/api/v1`. The longer paths come first: a name may have slashes in it."""
    routes = APIRouter(tags=["endpoints"])
    _add_changes(routes, endpoints, access)
    _add_watching(routes, service, endpoints, access)
    return routes


def _add_changes(routes: APIRouter, endpoints: Endpoints, access: Access) -> None:
    Writer = Annotated[Principal, Depends(access.project(Scope.WRITE))]

    def shown(principal: Principal, view: EndpointView) -> EndpointOut:
        return EndpointOut.of(view, endpoints.why_not(principal, view), principal)

    @routes.post("/endpoints", status_code=201, response_model=EndpointOut | EstimateOut)
    async def create_endpoint(
        principal: Writer,
        body: EndpointIn,
        response: Response,
        dry_run: Annotated[bool, Query(description="Answer with the estimate, and change nothing.")] = False,
    ) -> EndpointOut | EstimateOut:
        """A dedicated endpoint is the project's, paid by the time its replicas run. Shared ones are the operator's."""
        if dry_run:
            response.status_code = 200
            return EstimateOut.of(await endpoints.estimate(principal, body.to_new()))
        return shown(principal, await endpoints.create(principal, body.to_new()))

    @routes.patch("/endpoints/{endpoint:path}")
    async def scale_endpoint(principal: Writer, endpoint: str, body: ScaleIn) -> EndpointOut:
        """Only fields that are there are changed."""
        return shown(principal, await endpoints.scale(principal, endpoint, body.given()))

    @routes.post("/endpoints/{endpoint:path}/drain")
    async def drain_endpoint(principal: Writer, endpoint: str) -> EndpointOut:
        """New requests get 503, those that run are finished, then its replicas end."""
        return shown(principal, await endpoints.drain(principal, endpoint))

    @routes.post("/endpoints/{endpoint:path}/resume")
    async def resume_endpoint(principal: Writer, endpoint: str) -> EndpointOut:
        """Serve again: after a drain, after it was parked, or to wake it before the first request does."""
        return shown(principal, await endpoints.resume(principal, endpoint))

    @routes.post("/endpoints/{endpoint:path}/rollout")
    async def roll_out_endpoint(principal: Writer, endpoint: str, body: RolloutIn | None = None) -> EndpointOut:
        """Replace its replicas by fresh ones, each ready before an old one goes."""
        return shown(principal, await endpoints.rollout(principal, endpoint, body.model if body else None))

    @routes.delete("/endpoints/{endpoint:path}")
    async def remove_endpoint(principal: Writer, endpoint: str) -> EndpointOut:
        """Stop it and free its name. Its usage stays."""
        return shown(principal, await endpoints.remove(principal, endpoint))


def _add_watching(routes: APIRouter, service: Inference, endpoints: Endpoints, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]
    described = {"description": "What the replica wrote to its output and error.", "content": {"text/plain": {}}}

    def shown(principal: Principal, view: EndpointView) -> EndpointOut:
        return EndpointOut.of(view, endpoints.why_not(principal, view), principal)

    @routes.get("/endpoints")
    async def list_endpoints(principal: Reader, page: Paging) -> Listing[EndpointOut]:
        found = await service.list_endpoints(principal, page)
        return Listing.of(found.map(lambda view: shown(principal, view)))

    @routes.get("/endpoints/{endpoint:path}/events")
    async def list_endpoint_events(principal: Reader, endpoint: str, page: Paging) -> Listing[EventOut]:
        """Those of a shared endpoint are the operator's."""
        return Listing.of((await endpoints.events(principal, endpoint, page)).map(EventOut.of))

    @routes.get("/endpoints/{endpoint:path}/load")
    async def get_endpoint_load(principal: Reader, endpoint: str) -> LoadOut:
        """What happens at it now, over all gateways, and how long its last starts took."""
        return LoadOut.of(await endpoints.load(principal, endpoint), operator=principal.operator)

    @routes.get("/endpoints/{endpoint:path}/logs", response_class=Response, responses={200: described})
    async def read_endpoint_log(
        principal: Reader,
        endpoint: str,
        replica: Annotated[
            str | None, Query(max_length=100, description="Its id; without it the newest one's.")
        ] = None,
        tail: Annotated[int | None, Query(ge=0, le=100_000, description="The last lines alone.")] = None,
        offset: Annotated[
            int | None, Query(ge=0, le=_MAX_OFFSET, description="In bytes, from the first one written.")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=_MAX_LOG_BYTES, description="In bytes.")] = LOG_BYTES,
        follow: Annotated[bool, Query(description="Stream what comes until the attempt ends.")] = False,
    ) -> Response:
        """Of the newest attempt of one replica. `skerry-log-next` is the offset to read on from."""
        chunk = await endpoints.read_log(principal, endpoint, replica, offset, limit, tail)
        if follow:
            stream = await endpoints.follow_log(principal, endpoint, replica, chunk.offset)
            return StreamingResponse(stream, media_type=_TEXT, headers=_LOG_HEADERS)
        place = {"skerry-log-offset": str(chunk.offset), "skerry-log-next": str(chunk.next_offset)}
        return Response(chunk.data, media_type=_TEXT, headers={**_LOG_HEADERS, **place})

    @routes.get("/endpoints/{endpoint:path}")
    async def get_endpoint(principal: Reader, endpoint: str) -> EndpointOut:
        return shown(principal, await service.get_endpoint(principal, endpoint))


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
