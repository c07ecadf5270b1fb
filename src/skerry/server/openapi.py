"""The OpenAPI document: what FastAPI finds, and the errors, which are the same everywhere."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from skerry.server.errors import PROBLEM_JSON, is_openai

API_ERRORS: Final[Mapping[int, str]] = {
    400: "The request cannot be read.",
    401: "No key, or one that is unknown, expired or revoked.",
    402: "Budget or credit is exhausted.",
    403: "The key may not do this.",
    404: "There is no such thing (or it is another project's).",
    405: "Not with this method.",
    409: "It conflicts with what is there.",
    413: "The body is too large.",
    422: "Well-formed, but not valid.",
    429: "Over your own limit; `Retry-After` says when to come back.",
    503: "Not available now; `Retry-After` says when to come back.",
    507: "Nothing free now.",
}
OPEN: Final = frozenset({"/healthz", "/readyz"})
_METHODS: Final = ("get", "put", "post", "delete", "patch", "head", "options")

PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Problem",
    "required": ["type", "title", "status", "code", "detail", "suggestion", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable; for programs."},
        "detail": {"type": "string", "description": "What happened; for people."},
        "suggestion": {"type": "string", "description": "What to do about it; may be empty."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["path", "code", "message"],
                "properties": {"path": {"type": "string"}, "code": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
OPENAI_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "title": "OpenAIError",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def document(app: FastAPI, routes: Sequence[BaseRoute] | None = None) -> dict[str, Any]:
    """The document of the app's routes, or of some of them."""
    chosen = app.routes if routes is None else routes
    api = get_openapi(title=app.title, version=app.version, description=app.description, routes=chosen)
    components = api.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas |= {"Problem": PROBLEM, "OpenAIError": OPENAI_ERROR}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": "`sk-…`"}}
    api["security"] = [{"key": []}]
    for path, methods in api["paths"].items():
        for method in _METHODS:
            if operation := methods.get(method):
                _complete(path, method, operation)
    return api


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    for status, description in API_ERRORS.items():
        own = responses.get(str(status))
        if own is None or status == 422:
            responses[str(status)] = _error(path, description)
    if path in OPEN:
        operation["security"] = []
    if method == "post" and path.startswith("/api/v1/"):
        operation.setdefault("parameters", []).append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The same key and body again returns the first answer; another body 409.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]*[!-~][ -~]*$"},
            }
        )


def _error(path: str, description: str) -> dict[str, Any]:
    if is_openai(path):
        return {"description": description, "content": {"application/json": {"schema": _ref("OpenAIError")}}}
    return {"description": description, "content": {PROBLEM_JSON: {"schema": _ref("Problem")}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
