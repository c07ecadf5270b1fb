"""Logged requests on the wire."""

from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, PlainSerializer

from skerry.inference.requests.model import ContentState, ContentView, Found, Listed
from skerry.kernel.clock import rfc3339
from skerry.kernel.money import decimal_from_nano, plain
from skerry.kernel.paging import Page

Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]


class KeyOfRequest(BaseModel):
    id: str
    name: str | None
    """Null for a key of another project: an operator's that acted on this one."""


class TokensOfRequest(BaseModel):
    prompt: int
    """Not cached; `prompt` + `cached` are the prompt_tokens the client saw."""
    cached: int
    completion: int


class TimingsOfRequest(BaseModel):
    """Milliseconds since the request was admitted."""

    queue_ms: float
    """Waited for a replica."""
    first_token_ms: float | None
    total_ms: float


class MoneyOut(BaseModel):
    amount: str
    currency: str


class RequestOut(BaseModel):
    """An answer: what was refused before it reached a replica is in no log, and costs nothing."""

    id: str
    """The `x-request-id` of its answer."""
    started_at: Time
    ended_at: Time
    model: str
    endpoint: str
    replica: str | None
    kind: str
    stream: bool
    status: int
    """What the client saw; 499: it went away, 502: the replica failed in the middle."""
    key: KeyOfRequest
    batch: str | None
    tokens: TokensOfRequest
    counted: str
    """Who counted the tokens: `engine`, or `gateway` where the engine's count never came."""
    egress_bytes: int
    timings: TimingsOfRequest
    cost: MoneyOut

    @classmethod
    def fields_of(cls, listed: Listed) -> dict[str, Any]:
        request = listed.request
        return {
            "id": request.id.hex,
            "started_at": request.ended_at - timedelta(microseconds=request.total_us),
            "ended_at": request.ended_at,
            "model": request.model,
            "endpoint": request.endpoint,
            "replica": request.replica or None,
            "kind": request.kind,
            "stream": request.stream,
            "status": request.status,
            "key": KeyOfRequest(id=request.key, name=listed.key_name),
            "batch": request.batch or None,
            "tokens": TokensOfRequest(prompt=request.prompt, cached=request.cached, completion=request.completion),
            "counted": request.counted,
            "egress_bytes": request.egress_bytes,
            "timings": TimingsOfRequest(
                queue_ms=request.queue_us / 1000,
                first_token_ms=request.first_us / 1000 if request.first_us else None,
                total_ms=request.total_us / 1000,
            ),
            "cost": MoneyOut(amount=plain(decimal_from_nano(request.cost_nano)), currency=listed.currency),
        }

    @classmethod
    def of(cls, listed: Listed) -> "RequestOut":
        return cls(**cls.fields_of(listed))


class ContentOut(BaseModel):
    """Text as it went over the wire; bytes that are no UTF-8 are replaced."""

    request: str
    request_truncated: bool
    answer: str
    answer_truncated: bool


class ContentReason(BaseModel):
    code: ContentState
    message: str


class RequestDetail(RequestOut):
    content: ContentOut | None
    content_reason: ContentReason
    """Why there is no content; `shown` where there is."""

    @classmethod
    def found(cls, found: Found) -> "RequestDetail":
        state = found.content.state
        return cls(
            **cls.fields_of(found.listed),
            content=_content(found.content),
            content_reason=ContentReason(code=state, message=state.advice),
        )


class RequestList(BaseModel):
    data: list[RequestOut]
    has_more: bool
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[Listed]) -> "RequestList":
        data = [RequestOut.of(listed) for listed in page.data]
        return cls(data=data, has_more=page.has_more, next_cursor=page.next_cursor)


def _content(view: ContentView) -> ContentOut | None:
    content = view.content
    if content is None:
        return None
    return ContentOut(
        request=content.request.decode("utf-8", "replace"),
        request_truncated=content.request_bytes > len(content.request),
        answer=content.answer.decode("utf-8", "replace"),
        answer_truncated=content.answer_bytes > len(content.answer),
    )
