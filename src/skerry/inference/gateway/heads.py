"""Heads of answers, and the usage chunk that ends a stream."""

from typing import Any

from skerry.inference.gateway import sse
from skerry.inference.gateway.admission import rate_headers
from skerry.inference.gateway.pricing import plain_atto
from skerry.inference.gateway.snapshot import KeyState, ReplicaState, RouteState

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"x-request-id: %b\r\n%b%b%b%b\r\n"
)
PLAIN_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"x-request-id: %b\r\nx-skerry-cost: %b\r\n%b%b%b\r\n"
)
CHUNKED = b"transfer-encoding: chunked\r\n"


def plain_head(
    length: int, request_id: bytes, cost: int, key: KeyState, replica: ReplicaState | None, connection: bytes
) -> bytes:
    """Of an answer in one piece; `cost` in atto-units."""
    shown = replica.id_header if replica else b""
    return PLAIN_HEAD % (length, request_id, plain_atto(cost), rate_headers(key), shown, connection)


def stream_head(
    request_id: bytes, key: KeyState, replica: ReplicaState | None, chunked: bool, connection: bytes
) -> bytes:
    shown = replica.id_header if replica else b""
    return STREAM_HEAD % (request_id, rate_headers(key), shown, CHUNKED if chunked else b"", connection)


def usage_event(events: sse.EventStream, route: RouteState, cost: int, id: bytes, created: int, chat: bool) -> bytes:
    """The chunk with the stream's usage and cost: the engine's own, or one in its form. `created` is Unix seconds."""
    skerry = {"cost": plain_atto(cost).decode(), "currency": route.prices.currency}
    payload = events.usage_event
    name = route.route.name
    if payload is None:
        payload = sse.encoder.encode(_chunk(events, name, id, created, chat))
    elif route.route.upstream_model != name:
        payload = sse.rename(payload, name)
    return b"data: " + sse.with_fields(payload, {"skerry": skerry}) + b"\n\n"


def _chunk(events: sse.EventStream, model: str, id: bytes, created: int, chat: bool) -> dict[str, Any]:
    usage = events.usage or sse.Usage(completion_tokens=events.content)
    return {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{id.hex()}",
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": created,
        "model": model,
        "choices": [],
        "usage": shown_usage(usage),
    }


def shown_usage(usage: sse.Usage) -> dict[str, Any]:
    """In OpenAI's form."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }
