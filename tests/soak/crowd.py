"""Many clients of all kinds, quickly: raw bytes, and answers looked at only as far as their end."""

import asyncio
import json
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import cast

from tests.gateway.harness import KEY

LENGTH = re.compile(rb"content-length: (\d+)", re.I)
DONE = b"data: [DONE]\n\n\r\n0\r\n\r\n"
TOKENS = 6
_ANSWER = json.dumps(
    {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello there"}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    }
).encode()
_PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_ANSWER), _ANSWER)
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunk(value: object) -> bytes:
    data = b"data: %b\n\n" % (value if isinstance(value, bytes) else json.dumps(value).encode())
    return b"%x\r\n%b\r\n" % (len(data), data)


_TOKEN = _chunk({"choices": [{"index": 0, "delta": {"content": " skua"}}]})
_LAST = _chunk({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": TOKENS, "total_tokens": 15}})
_STREAM = _STREAM_HEAD + _TOKEN * TOKENS + _LAST + _chunk(b"[DONE]") + b"0\r\n\r\n"
_BROKEN = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"


class QuickUpstream(asyncio.Protocol):
    """Answers what was asked for: streams where the body says so, breaks off where it says `break`."""

    def __init__(self) -> None:
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while b"\r\n\r\n" in self._data:
            head, _, rest = self._data.partition(b"\r\n\r\n")
            found = LENGTH.search(head)
            length = int(found[1]) if found else 0
            if len(rest) < length:
                return
            body, self._data = rest[:length], rest[length:]
            if b"break" in body:
                self._transport.write(_BROKEN)
                self._transport.close()
                return
            self._transport.write(_STREAM if b'"stream":true' in body else _PLAIN)


@dataclass
class Tally:
    """What was asked, by kind, and what went wrong."""

    asked: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def _request(kind: str, rng: random.Random) -> bytes:
    text = "x" * rng.randrange(400) + ("break" if kind == "broken" else "")
    body: dict[str, object] = {"model": "fake", "messages": [{"role": "user", "content": text}]}
    if kind in ("stream", "left"):
        body["stream"] = True
    if kind == "bad":
        body["lora"] = f"x{rng.random()}"
    if kind == "stranger":
        body["model"] = f"model-{rng.random()}"
    target = f"/api/v1/things/{rng.random()}" if kind == "control" else "/v1/chat/completions"
    method = "GET" if kind == "control" else "POST"
    raw = b"" if kind == "control" else json.dumps(body, separators=(",", ":")).encode()
    head = f"{method} {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(raw)}\r\n\r\n"
    return head.encode() + raw


KINDS = {"plain": 50, "stream": 30, "control": 5, "bad": 4, "stranger": 3, "broken": 3, "left": 3, "garbage": 2}
"""In 100 requests. `left`: the client goes in the middle; `stranger`: a model of a new name each time."""
EXPECTED = {"plain": 200, "stream": 200, "control": 200, "bad": 400, "stranger": 404, "broken": 503, "garbage": 400}


async def client(port: int, share: int, seed: int, tally: Tally) -> None:
    """`share` requests one after the other, on connections that last a while."""
    rng = random.Random(seed)
    kinds, weights = list(KINDS), list(KINDS.values())
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    for _ in range(share):
        if writer is None or reader is None or rng.random() < 0.01:
            if writer is not None:
                writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        kind = rng.choices(kinds, weights)[0]
        tally.asked[kind] += 1
        writer.write(b"GARBAGE %d\r\n\r\n" % rng.getrandbits(64) if kind == "garbage" else _request(kind, rng))
        if kind == "left":
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()
            writer = None
            continue
        async with asyncio.timeout(30):
            status = await _answer(reader, streams=kind == "stream")
        if status != EXPECTED[kind]:
            tally.wrong.append(f"{kind}: {status}")
        if kind == "garbage":
            writer.close()
            writer = None
    if writer is not None:
        writer.close()


async def _answer(reader: asyncio.StreamReader, *, streams: bool) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    if status == 200 and streams:
        await reader.readuntil(DONE)
    elif found := LENGTH.search(head):
        await reader.readexactly(int(found[1]))
    return status
