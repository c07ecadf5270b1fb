"""Answers of the server as values or errors. Knows HTTP only as status, headers and bytes."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from skerry.client.call import Call
from skerry.client.errors import ApiError, BadAnswer, FieldError, Problem, refusal

T = TypeVar("T")

LONGEST_WORDS = 300


def read_answer(call: Call[T], status: int, headers: Mapping[str, str], content: bytes) -> T:
    """What the caller gets. Raises ApiError for a refusal and BadAnswer for what is not the API's."""
    if not 200 <= status < 300 and status not in call.answers:
        raise error_of(status, headers, content)
    try:
        return call.read(msgspec.json.decode(content) if content else None)
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BadAnswer(
            f"{call.method} {call.path} answered {status} with something that is not Skerry's: {error}",
            suggestion="Check the address, and that client and server are of about the same version.",
        ) from error


def error_of(status: int, headers: Mapping[str, str], content: bytes) -> ApiError:
    """The refusal in an answer of either API, or in the plain text of something in between."""
    decoded = _decoded(content)
    common: dict[str, Any] = {
        "status": status,
        "request_id": headers.get("x-request-id"),
        "retry_after": _retry_after(headers.get("retry-after")),
        "raw": decoded,
    }
    inner = decoded.get("error")
    if isinstance(inner, dict):
        return refusal(_openai(inner, common))
    if "detail" in decoded or "title" in decoded:
        return refusal(_problem(decoded, common))
    words = content.decode(errors="replace").strip() or _phrase(status)
    return refusal(Problem(code="", title=_phrase(status), detail=words[:LONGEST_WORDS], **common))


def error_in_stream(inner: Mapping[str, Any], headers: Mapping[str, str]) -> ApiError:
    """An error event of a stream whose status line had already said 200."""
    status = inner.get("status")
    common = {"status": status if isinstance(status, int) else 500, "request_id": headers.get("x-request-id")}
    return refusal(_openai(inner, {**common, "retry_after": None, "raw": {"error": dict(inner)}}))


def _openai(inner: Mapping[str, Any], common: Mapping[str, Any]) -> Problem:
    return Problem(
        code=str(inner.get("code") or inner.get("type") or ""),
        title=_phrase(common["status"]),
        detail=str(inner.get("message") or _phrase(common["status"])),
        suggestion=str(inner.get("suggestion") or ""),
        param=str(inner["param"]) if inner.get("param") else None,
        **common,
    )


def _problem(decoded: Mapping[str, Any], common: Mapping[str, Any]) -> Problem:
    title = str(decoded.get("title") or _phrase(common["status"]))
    detail = decoded.get("detail")
    return Problem(
        code=str(decoded.get("code") or ""),
        title=title,
        detail=detail if isinstance(detail, str) and detail else title,
        suggestion=str(decoded.get("suggestion") or ""),
        errors=tuple(_field_error(item) for item in decoded.get("errors") or () if isinstance(item, dict)),
        **common,
    )


def _field_error(item: Mapping[str, Any]) -> FieldError:
    return FieldError(str(item.get("path", "")), str(item.get("code", "")), str(item.get("message", "")))


def _decoded(content: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _retry_after(value: str | None) -> float | None:
    """Seconds, from either form of the header; None where there is none that can be read."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"HTTP {status}"
