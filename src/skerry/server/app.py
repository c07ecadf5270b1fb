"""The application: all routes, one way to answer errors, and the layers around them."""

import json
from collections.abc import Callable
from typing import Any, Final

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from skerry import __version__
from skerry.compute.nodes.artifacts import PART_BYTES
from skerry.identity.model import Principal
from skerry.kernel.errors import Malformed, SkerryError
from skerry.runtime.settings import Settings
from skerry.server import events, health, pages
from skerry.server.compose import TIMELINES, Services, control_routers, openai_routers
from skerry.server.errors import from_http, from_validation, render
from skerry.server.http import OPENAI_PREFIX, PREFIX, BodyGuard, RequestFrame, route_template
from skerry.server.idempotency import IdempotentPosts
from skerry.server.openapi import document
from skerry.server.telemetry import ServerMetrics

_FORM_BYTES: Final = 1024 * 1024
"""A form with a file may be so much larger than the file."""


def create_app(services: Services, settings: Settings, metrics: ServerMetrics | None = None) -> FastAPI:
    app = FastAPI(
        title="Skerry",
        version=__version__,
        description="Reserve, run, serve, meter and bill GPU capacity. OpenAI-compatible below `/v1`.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in control_routers(services):
        app.include_router(router, prefix=PREFIX)
    for router in openai_routers(services):
        app.include_router(router, prefix=OPENAI_PREFIX)
    app.include_router(events.router(services.feed, services.access, TIMELINES), prefix=PREFIX)
    app.include_router(health.router(services.health, services.door, settings.run))
    app.openapi = lambda: _documented(app)  # type: ignore[method-assign]
    app.include_router(_pages(app))
    _answer_errors(app, services)
    # The last one added is the outermost.
    app.add_middleware(IdempotentPosts, db=services.db, access=services.access, keys=services.idempotency)
    app.add_middleware(BodyGuard, max_bytes=settings.max_body_bytes, streamed=streamed_bodies(settings))
    app.add_middleware(RequestFrame, metrics=metrics or ServerMetrics())
    return app


def streamed_bodies(settings: Settings) -> dict[tuple[str, str], int]:
    """Bodies that reach their route as they come, and how large they may be: the route has the exact limit."""
    return {
        ("POST", f"{OPENAI_PREFIX}/files"): settings.max_file_bytes + _FORM_BYTES,
        ("PUT", f"{PREFIX}/node/artifacts/"): PART_BYTES,
    }


def _documented(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = document(app)
    return app.openapi_schema


def _pages(app: FastAPI) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/openapi.json")
    async def openapi() -> Response:
        return Response(json.dumps(app.openapi()), media_type="application/json")

    @routes.get("/docs")
    async def docs() -> Response:
        return _html(pages.reference(app.openapi()))

    @routes.get("/")
    async def landing() -> Response:
        return _html(pages.landing())

    return routes


def _html(text: str) -> Response:
    return Response(text, media_type="text/html", headers={"content-security-policy": pages.CSP})


def _answer_errors(app: FastAPI, services: Services) -> None:
    log = structlog.get_logger("skerry.server.errors")

    async def known(request: Request, error: Exception) -> Response:
        assert isinstance(error, SkerryError)
        if error.status == 403:
            await _note_refusal(services, request, error)
        if error.status >= 500:
            log.warning("refused", code=error.code, detail=error.detail)
        return render(error, request.url.path).response()

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return render(from_validation(error, request), request.url.path).response()

    async def plain(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        answer, headers = from_http(error, request)
        return render(answer, request.url.path, headers).response()

    async def unstorable(request: Request, error: Exception) -> Response:
        # A value that passed every check and still is none for PostgreSQL: the caller's, but worth a look.
        log.warning("unstorable_value", error=type(error).__name__, route=request.url.path)
        answer = Malformed("A value of this request cannot be stored or looked up.", code="unstorable_value")
        return render(answer, request.url.path).response()

    handlers: dict[type[Exception], Callable[..., Any]] = {
        SkerryError: known,
        RequestValidationError: invalid,
        HTTPException: plain,
        DataError: unstorable,
        UnicodeEncodeError: unstorable,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _note_refusal(services: Services, request: Request, error: SkerryError) -> None:
    """Refused attempts of valid keys are audited. That it could not be written down does not change the answer."""
    principal: Principal | None = getattr(request.state, "principal", None)
    if principal is None:
        return
    try:
        await services.identity.trail.refused(
            principal, f"{request.method} {route_template(request.scope)}", request.url.path, error.code
        )
    except SkerryError as trouble:
        structlog.get_logger("skerry.server.audit").warning("refusal_not_audited", error=trouble.code)
