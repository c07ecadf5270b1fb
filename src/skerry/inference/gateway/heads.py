"""Heads of answers, and the usage chunk that ends a stream."""

from typing import Any

from skerry.inference.gateway import sse
from skerry.inference.gateway.admission import rate_headers
from skerry.inference.gateway.pricing import plain_atto
from skerry.inference.gateway.shapes import Usage, encoder
from skerry.inference.gateway.state import KeyState, ReplicaState, RouteState


def plain_head(
    length: int, request_id: str, cost: int, key: KeyState, replica: ReplicaState | None, more: str
) -> bytes:
    """Of an answer in one piece; `cost` in atto-units, `more` further header lines."""
    shown = replica.id_header if replica is not None else ""
    return (
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
        f"x-request-id: {request_id}\r\nx-skerry-cost: {plain_atto(cost)}\r\n{rate_headers(key)}{shown}{more}\r\n"
    ).encode("latin-1")


def stream_head(request_id: str, key: KeyState, replica: ReplicaState | None, chunked: bool, more: str) -> bytes:
    shown = replica.id_header if replica is not None else ""
    framing = "transfer-encoding: chunked\r\n" if chunked else ""
    return (
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
        f"x-request-id: {request_id}\r\n{rate_headers(key)}{shown}{framing}{more}\r\n"
    ).encode("latin-1")


def usage_event(events: sse.EventStream, route: RouteState, cost: int, id: bytes, created: int, chat: bool) -> bytes:
    """The chunk with the stream's usage and cost: the engine's own, or one in its form. `created` is Unix seconds."""
    skerry = {"cost": plain_atto(cost), "currency": route.prices.currency}
    payload = events.usage_event
    name = route.route.name
    if payload is None:
        payload = encoder.encode(_chunk(events, name, id, created, chat))
    elif route.renamed:
        payload = sse.rename(payload, name)
    return b"data: " + sse.with_fields(payload, {"skerry": skerry}) + b"\n\n"


def _chunk(events: sse.EventStream, model: str, id: bytes, created: int, chat: bool) -> dict[str, Any]:
    usage = events.usage or Usage(completion_tokens=events.content)
    return {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{id.hex()}",
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": created,
        "model": model,
        "choices": [],
        "usage": shown_usage(usage),
    }


def shown_usage(usage: Usage) -> dict[str, Any]:
    """In OpenAI's form."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }
