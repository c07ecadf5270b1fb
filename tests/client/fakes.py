"""A server made of a list of answers, and the requests that it got."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from skerry.client import AsyncSkerry, Retries, Skerry

Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]

URL = "http://cloud.test"


@dataclass
class Script:
    """Gives the answers in turn; the last one for ever."""

    answers: Sequence[Answer]
    requests: list[httpx.Request] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else _fresh(answer)

    def client(self, **options: Any) -> Skerry:
        return Skerry(
            URL,
            "sk-test",
            transport=httpx.MockTransport(self),
            retries=Retries(jitter=Random(1)),
            sleep=self.waits.append,
            **options,
        )

    def async_client(self, **options: Any) -> AsyncSkerry:
        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)

        return AsyncSkerry(
            URL,
            "sk-test",
            transport=httpx.MockTransport(self),
            retries=Retries(jitter=Random(1)),
            sleep=sleep,
            **options,
        )


def _fresh(answer: httpx.Response) -> httpx.Response:
    """A response can be sent once; these are sent again and again. Streams are handed on as they are."""
    try:
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
    except httpx.ResponseNotRead:
        return answer


def script(*answers: Answer) -> Script:
    return Script(answers)


def ok(body: object, status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, json=body, headers=headers)


def problem(status: int, code: str = "some_code", **fields: object) -> httpx.Response:
    body = {
        "type": "about:blank",
        "title": "A title",
        "status": status,
        "code": code,
        "detail": "What happened.",
        **fields,
    }
    return httpx.Response(status, content=json.dumps(body), headers={"content-type": "application/problem+json"})


def page(items: list[dict[str, Any]], cursor: str | None = None) -> httpx.Response:
    return ok({"data": items, "has_more": cursor is not None, "next_cursor": cursor})


def events(*chunks: object, done: bool = True, pieces: int = 7) -> Callable[[httpx.Request], httpx.Response]:
    """A stream of the chunks, cut into small pieces that respect nothing."""
    data = b"".join(b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n" for chunk in chunks)
    data += b"data: [DONE]\n\n" if done else b""
    cut = [data[at : at + pieces] for at in range(0, len(data), pieces)]

    class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self):
            return iter(cut)

        async def __aiter__(self):
            for piece in cut:
                yield piece

    headers = {"content-type": "text/event-stream", "x-request-id": "req_1", "x-skerry-replica": "rep_1"}
    return lambda request: httpx.Response(200, stream=Pieces(), headers=headers)


def delta(text: str, finish: str | None = None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "model": "tiny",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}],
    }


def usage_chunk(prompt: int = 12, cached: int = 4, completion: int = 3, **skerry: object) -> dict[str, Any]:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    return {"id": "chatcmpl-1", "model": "tiny", "choices": [], "usage": usage, "skerry": skerry}
