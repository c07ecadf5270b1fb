"""Whether this cloud can be used: `/healthz`, `/readyz`, `/metrics`."""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel
from sqlalchemy import text

from skerry.compute.engines.base import Engine
from skerry.db.database import Database
from skerry.identity.access import Access
from skerry.identity.errors import MissingScope
from skerry.identity.model import Scope
from skerry.identity.rules import bearer_token
from skerry.inference.service import Inference
from skerry.kernel.errors import SkerryError, Unauthorized, Unavailable
from skerry.runtime import telemetry
from skerry.runtime.secrets import Keyring

Check = Callable[[], Awaitable[str | None]]
"""Why a part cannot be used; None where it can."""

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_CHECK_SECONDS: Final = 2.0
_FRESH_SECONDS: Final = 0.5
_REMEMBER_SECONDS: Final = 300.0


class Status(BaseModel):
    status: str


class PartStatus(BaseModel):
    part: str
    ready: bool
    reason: str | None


class Readiness(BaseModel):
    """Operators see `parts`, and in `reasons` those that are not ready; others the bare status."""

    status: str
    parts: list[PartStatus] | None = None
    reasons: dict[str, str] | None = None


class Health:
    """Asks each part; an answer is good for half a second, since anybody may ask."""

    def __init__(self, parts: Mapping[str, Check]) -> None:
        self.parts = parts
        self._lock = asyncio.Lock()
        self._known: tuple[float, dict[str, str | None]] | None = None

    async def reasons(self) -> dict[str, str | None]:
        async with self._lock:
            if self._known is None or time.monotonic() - self._known[0] > _FRESH_SECONDS:
                answers = await asyncio.gather(*(_ask(check) for check in self.parts.values()))
                self._known = time.monotonic(), dict(zip(self.parts, answers, strict=True))
            return self._known[1]


class OperatorDoor:
    """Lets operators see what is wrong also while the database, which knows their keys, is what is wrong."""

    def __init__(self, access: Access, keyring: Keyring, metrics_token: str | None) -> None:
        self.access = access
        self.keyring = keyring
        self.metrics_token = metrics_token
        self._seen: dict[bytes, float] = {}

    async def require(self, request: Request) -> None:
        """Raises the errors of a key that is none, or lacks the scope."""
        token = bearer_token(request.headers.get("authorization")) or ""
        if self.metrics_token and hmac.compare_digest(token.encode(), self.metrics_token.encode()):
            return
        digest = self.keyring.hmac(token.encode())
        try:
            principal = await self.access.principal(request)
        except Unavailable:
            if time.monotonic() - self._seen.get(digest, -_REMEMBER_SECONDS) < _REMEMBER_SECONDS:
                return
            raise
        except Unauthorized:
            self._seen.pop(digest, None)
            raise
        if not principal.operator:
            raise MissingScope("this needs an operator key", extra={"scope": str(Scope.OPERATOR)})
        self._seen[digest] = time.monotonic()

    async def admits(self, request: Request) -> bool:
        if "authorization" not in request.headers:
            return False
        try:
            await self.require(request)
        except SkerryError:
            return False
        return True


def router(health: Health, door: OperatorDoor, run: Path) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz", response_model=Status)
    async def healthz() -> Status:
        """This process is alive."""
        return Status(status="ok")

    @routes.get(
        "/readyz", response_model=Readiness, response_model_exclude_none=True, responses={503: {"model": Readiness}}
    )
    async def readyz(request: Request) -> Response:
        """200 when the database, the engine and at least one endpoint can be used; else 503."""
        reasons = await health.reasons()
        ready = not any(reasons.values())
        answer = Readiness(status="ready" if ready else "not_ready")
        if await door.admits(request):
            answer.parts = [PartStatus(part=name, ready=not why, reason=why) for name, why in reasons.items()]
            answer.reasons = {name: reason for name, reason in reasons.items() if reason}
        headers = {} if ready else {"retry-after": "1"}
        body = answer.model_dump(exclude={n for n in ("parts", "reasons") if getattr(answer, n) is None})
        return JSONResponse(body, 200 if ready else 503, headers)

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        """All local roles' metrics in Prometheus format, for operator keys and SKERRY_METRICS_TOKEN."""
        await door.require(request)
        return Response(await telemetry.join(telemetry.sockets(run)), media_type=METRICS_TYPE)

    return routes


def database_check(db: Database) -> Check:
    async def check() -> str | None:
        async with db.transaction() as tx:
            await tx.execute(text("SELECT 1"))
        return None

    return check


def engine_check(engine: Engine) -> Check:
    async def check() -> str | None:
        problems = (await engine.capabilities()).problems
        return " ".join(problems) or None

    return check


def endpoint_check(inference: Inference) -> Check:
    async def check() -> str | None:
        return None if await inference.usable_endpoints() else "no endpoint can answer yet"

    return check


async def _ask(check: Check) -> str | None:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await check()
    except TimeoutError:
        return f"no answer within {_CHECK_SECONDS:g} s"
    except SkerryError as error:
        return error.detail
