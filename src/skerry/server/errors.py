"""Every error becomes an answer here: problem+json on `/api/v1`, OpenAI's shape on `/v1`. The inside never shows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from skerry.kernel.errors import FieldError, Invalid, Malformed, SkerryError, TooLarge

PROBLEM_JSON: Final = "application/problem+json"
PROBLEM_TYPE: Final = "urn:skerry:problem:"
DEFAULT_RETRY_SECONDS: Final = 2

OPENAI_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
}
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_TITLES: Final[Mapping[int, tuple[str, str]]] = {
    400: ("malformed", "The request cannot be read"),
    404: ("not_found", "There is no such thing"),
    405: ("method_not_allowed", "This method is not allowed here"),
    415: ("unsupported_media_type", "This kind of content is not understood"),
}


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer as bytes, for middleware that has no Response."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        return Response(self.body, self.status, dict(self.headers))


def is_openai(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


def render(error: SkerryError, path: str, headers: Mapping[str, str] | None = None) -> Rendered:
    """The answer that a caller of `path` gets for an error."""
    given = dict(headers or {})
    if error.retry_after is not None or error.status in (429, 503):
        given["retry-after"] = str(error.retry_after or DEFAULT_RETRY_SECONDS)
    if error.status == 401:
        given["www-authenticate"] = "Bearer"
    if is_openai(path):
        return Rendered(error.status, _openai(error), {"content-type": "application/json", **given})
    return Rendered(error.status, _problem(error), {"content-type": PROBLEM_JSON, **given})


def from_validation(error: RequestValidationError, request: Request) -> SkerryError:
    """What pydantic found, with a path for each finding; unreadable JSON is malformed rather than invalid."""
    details: Sequence[Mapping[str, Any]] = error.errors()
    if broken := next((d for d in details if d.get("type") == "json_invalid"), None):
        place = broken["loc"][-1]
        return Malformed(f"The body is not JSON: {broken['ctx']['error']} (at character {place}).", code="invalid_json")
    if isinstance(error.body, bytes) and error.body:
        return Malformed(
            "The body is not declared as JSON.",
            code="not_json",
            suggestion="Send the header `Content-Type: application/json`.",
        )
    found = [FieldError(_dotted(d["loc"]), str(d["type"]), str(d["msg"])) for d in details]
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    detail = f"{first.path}: {first.message}{more}" if first.path else f"{first.message}{more}"
    kind = Malformed if is_openai(request.url.path) else Invalid
    return kind(detail, code="invalid", errors=found)


def from_http(error: HTTPException, request: Request) -> tuple[SkerryError, dict[str, str]]:
    """Starlette's own refusals: no such route, wrong method, unreadable body."""
    headers = dict(error.headers or {})
    if error.status_code == 405:
        allowed = allowed_methods(request.app.router.routes, request.scope)
        headers = {"Allow": ", ".join(sorted(allowed))} if allowed else headers
        detail = f"{request.method} is not allowed on {request.url.path}."
        return _Plain(405, detail, f"Allowed: {headers.get('Allow', 'nothing')}."), headers
    if error.status_code == 404:
        return _Plain(
            404, f"There is nothing at {request.url.path}.", "GET /openapi.json lists what there is."
        ), headers
    if error.status_code == 413:
        return TooLarge(str(error.detail)), headers
    return _Plain(error.status_code, str(error.detail)), headers


def allowed_methods(routes: Sequence[BaseRoute], scope: Scope) -> set[str]:
    """The methods that this path takes: each is tried, since one path has a route for each method."""
    found = set()
    for method in _METHODS:
        asked = {**scope, "method": method}
        if any(route.matches(asked)[0] is Match.FULL for route in routes):
            found.add(method)
    return found


def internal(request_id: str) -> SkerryError:
    """What a caller hears of an accident: where to look, and nothing else."""
    return SkerryError(
        "Something went wrong on our side.",
        suggestion=f"Try again; if it stays, tell your operator the request id {request_id}.",
    )


class _Plain(SkerryError):
    """An error whose status is known only at run time."""

    def __init__(self, status: int, detail: str, suggestion: str = "") -> None:
        code, title = _TITLES.get(status, ("error", "It cannot be done"))
        super().__init__(detail, suggestion=suggestion, code=code)
        self.plain_status = status
        self.plain_title = title

    @property
    def status(self) -> int:  # type: ignore[override]
        return self.plain_status

    @property
    def title(self) -> str:  # type: ignore[override]
        return self.plain_title


def _problem(error: SkerryError) -> bytes:
    body = {
        **error.extra,
        "type": PROBLEM_TYPE + error.code,
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "suggestion": error.suggestion,
        "errors": [{"path": e.path, "code": e.code, "message": e.message} for e in error.errors],
    }
    return _json(body)


def _openai(error: SkerryError) -> bytes:
    message = f"{error.detail} {error.suggestion}".strip()
    param = error.errors[0].path or None if error.errors else None
    kind = OPENAI_TYPES.get(error.status, "invalid_request_error")
    return _json({"error": {"message": message, "type": kind, "param": param, "code": error.code}})


def _dotted(loc: Sequence[Any]) -> str:
    """`("body", "limits", "budget", "amount")` → `limits.budget.amount`."""
    parts = [str(part) for part in loc]
    if parts and parts[0] in ("body", "query", "path", "header", "cookie"):
        parts = parts[1:]
    return ".".join(parts)


def _json(value: Any) -> bytes:
    # ASCII, so that whatever a caller sent us (lone surrogates too) can be sent back.
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), default=str).encode()
