"""The words of refusals that come from elsewhere: a balance, or an engine."""

import re
from decimal import Decimal
from typing import Any

import msgspec
import orjson

from skerry.inference.engines.base import Task
from skerry.inference.gateway.errors import ApiError, Denied, bad_request, unavailable
from skerry.inference.model import Route
from skerry.kernel.money import decimal_from_nano, plain

_NUMBERS = re.compile(r"\d+")
_TOO_LONG = re.compile(
    r"context (?:size|length|window)|exceeds? the (?:available )?context|too many tokens|maximum context"
    r"|too large to process",
    re.I,
)
_OVERSIZED = b"too large to process"
"""llama.cpp's words, with a 500, for a text that is longer than a model of embeddings takes."""

_FIELD = {Task.CHAT: "messages", Task.COMPLETION: "prompt", Task.EMBEDDING: "input"}
KINDS = {"key": "key's budget", "project": "project's budget", "organization": "organization's credit limit"}
WHEN = {"day": " It starts anew at midnight UTC.", "month": " It starts anew with the next month.", "total": ""}


def exhausted(denied: Denied, ceiling: int, currency: str) -> ApiError:
    """402: what is left does not cover what this request may cost at most."""
    what = KINDS.get(denied.kind, "budget")
    left, most = _money(denied.remaining, currency), _money(ceiling, currency)
    message = (
        f"The {what} of {_money(denied.limit, currency)} is exhausted: {left} is left, and this request may cost up to "
        f"{most}.{WHEN.get(denied.window, '')} Raise it, or ask for fewer tokens with 'max_tokens'."
    )
    return ApiError(402, message, code="insufficient_quota")


def from_engine(status: int, body: bytes, route: Route, task: Task) -> ApiError:
    """An engine's refusal in our words. Its 400 is the caller's; all else is ours, without a word about the inside."""
    if status in (400, 413, 422) or (status == 500 and task is Task.EMBEDDING and _OVERSIZED in body):
        error = _error_object(_without_keys(body, route))
        message = str(error.get("message") or "The model refused the request")[:500]
        numbers = _numbers(error, message)
        if (
            "exceed_context" in str(error.get("type"))
            or error.get("code") == "context_length_exceeded"
            or (_TOO_LONG.search(message))
        ):
            length, context = numbers or (None, route.context_length)
            what = _FIELD[task]
            chat = task is Task.CHAT
            have = (
                f"The {what} {'hold' if chat else 'holds'} {length} tokens"
                if length
                else f"The {what} {'are' if chat else 'is'} too long"
            )
            text = f"{have}, but the context of '{route.name}' holds {context}. Shorten {'them' if chat else 'it'}."
            return bad_request(text, param=what, code="context_length_exceeded")
        param = error.get("param")
        return bad_request(message, param=param if isinstance(param, str) else None, code="invalid_request")
    if status == 429:
        return unavailable(f"The upstream of '{route.name}' is over its limit.", code="upstream_limited", retry_after=5)
    if status in (401, 403, 404):
        message = f"The upstream of '{route.name}' does not accept our requests. The operator has to mend it."
        return unavailable(message, code="upstream_refused", retry_after=30)
    return unavailable(f"The replica of '{route.name}' failed. Please try again.", code="replica_failed")


def _without_keys(body: bytes, route: Route) -> bytes:
    """Some servers repeat what they were sent; our key for them is nobody else's business."""
    for replica in route.replicas:
        if replica.key:
            body = body.replace(replica.key.encode(), b"[redacted]")
    return body


def _money(nano: int, currency: str) -> str:
    return f"{plain(Decimal(decimal_from_nano(nano)))} {currency}"


def _error_object(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except (orjson.JSONDecodeError, msgspec.MsgspecError):
        return {}
    if isinstance(value, dict):
        error = value.get("error", value)
        return error if isinstance(error, dict) else {"message": str(error)}
    return {}


def _numbers(error: dict[str, Any], message: str) -> tuple[int, int] | None:
    """Prompt length and context, from llama.cpp's fields or from the words of others."""
    length, context = error.get("n_prompt_tokens"), error.get("n_ctx")
    if isinstance(length, int) and isinstance(context, int):
        return length, context
    found = [int(number) for number in _NUMBERS.findall(message)][:6]
    return (max(found), min(found)) if len(found) >= 2 else None
