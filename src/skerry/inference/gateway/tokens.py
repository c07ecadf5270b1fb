"""Counting a prompt after the fact, for answers that ended before the engine told."""

import asyncio
from urllib.parse import urlsplit

import msgspec
import orjson

from skerry.inference.gateway.state import ReplicaState
from skerry.inference.gateway.upstream import Handler, UpstreamConnection
from skerry.inference.gateway.wire import AnyRequest, ChatRequest, EmbeddingsRequest, encode
from skerry.inference.model import Route

COUNT_SECONDS = 5.0


class _Tokens(msgspec.Struct):
    tokens: list[msgspec.Raw] = []
    input_tokens: int | None = None


class _Call(Handler):
    """One small request: the handler of its connection."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._chunks: list[bytes] = []
        self._status = 0

    def upstream_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status

    def upstream_body(self, data: bytes) -> None:
        self._chunks.append(data)

    def upstream_done(self) -> None:
        if not self.answer.done():
            self.answer.set_result(b"".join(self._chunks) if self._status == 200 else b"{}")

    def upstream_lost(self, reused: bool, answered: bool, why: str) -> None:
        if not self.answer.done():
            self.answer.set_result(b"{}")


async def count_prompt(replica: ReplicaState, route: Route, request: AnyRequest) -> int:
    """Tokens of the prompt by the replica's own tokenizer; 0 where it has none, is gone or too slow.

    Where the engine counts only plain text, the chat template's own tokens are left out: a little less than was used,
    never more.
    """
    profile = route.profile
    if isinstance(request, ChatRequest) and profile.chat_count_path is not None:
        path, body = profile.chat_count_path, encode(request)
    elif profile.tokenize_path is not None:
        path, body = profile.tokenize_path, orjson.dumps({"content": prompt_text(request)})
    else:
        return 0
    connection: UpstreamConnection | None = None
    try:
        async with asyncio.timeout(COUNT_SECONDS):
            connection = await replica.pool.connect("count")
            call = _Call()
            connection.send(call, _call_bytes(replica, path, body))
            counted = msgspec.json.decode(await call.answer, type=_Tokens)
        count = len(counted.tokens) if counted.input_tokens is None else counted.input_tokens
        return min(count, route.context_length)
    except (OSError, msgspec.MsgspecError):
        if connection is not None:
            connection.abandon()
        return 0


def prompt_text(request: AnyRequest) -> str:
    """The words of the request, without the template's."""
    if isinstance(request, ChatRequest):
        parts: list[str] = []
        for message in request.messages:
            content = message.content
            if isinstance(content, str):
                parts.append(content)
            elif content is not None:
                parts += [getattr(part, "text", "") for part in content]
        return "\n".join(parts)
    prompt = request.input if isinstance(request, EmbeddingsRequest) else request.prompt
    return prompt if isinstance(prompt, str) else "\n".join(part for part in prompt if isinstance(part, str))


def _call_bytes(replica: ReplicaState, path: str, body: bytes) -> bytes:
    key = replica.replica.key
    lines = [
        f"POST {path} HTTP/1.1",
        f"host: {urlsplit(replica.replica.base_url).netloc}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *([f"authorization: Bearer {key}"] if key else []),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
