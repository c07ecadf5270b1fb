"""Bytes in, bytes out: a backend that notes what reached it, and a client that reads answers strictly."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from tests.gateway.harness import KEY

CHAT = json.dumps({"model": "fake", "messages": [{"role": "user", "content": "hi"}]}).encode()
SECONDS = 12.0


@dataclass(frozen=True)
class Arrival:
    """One request as the backend saw it."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Backend:
    """Stands for the control API and for a replica: says yes to everything, with the request's `mark` header inside."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.port = 0
        self.delay = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                pairs = tuple((n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in head[1:] if line))
                method, target, version = head[0].split(" ")
                assert version == "HTTP/1.1", head[0]
                lengths = [value for name, value in pairs if name == "content-length"]
                assert len(lengths) <= 1 and not any(name == "transfer-encoding" for name, _ in pairs), pairs
                body = await reader.readexactly(int(lengths[0]) if lengths else 0)
                self.arrivals.append(Arrival(method, target, pairs, body))
                await asyncio.sleep(self.delay)
                said = json.dumps(
                    {
                        "choices": [{"index": 0, "message": {"role": "assistant", "content": self._mark(pairs, body)}}],
                        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                    }
                ).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:
            return  # the test is over
        finally:
            writer.close()

    def _mark(self, pairs: tuple[tuple[str, str], ...], body: bytes) -> str:
        """What the request wants to see again: its header, or the last message of its chat."""
        for name, value in pairs:
            if name == "mark":
                return value
        try:
            content = json.loads(body)["messages"][-1]["content"]
        except (ValueError, LookupError, TypeError):
            return ""
        return str(content)


@asynccontextmanager
async def backend():
    made = Backend()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def closes(self) -> bool:
        return ("connection", "close") in self.headers

    @property
    def mark(self) -> str:
        return json.loads(self.body)["choices"][0]["message"]["content"]


def parse_answers(data: bytes) -> tuple[list[Answer], bytes]:
    """Whole answers at the start of `data`, and what is left. Interim answers (1xx) are left out."""
    found: list[Answer] = []
    while b"\r\n\r\n" in data:
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        version, code, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1", lines[0]
        pairs = tuple((n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines[1:]))
        if code.startswith("1"):
            data = rest
            continue
        length = next((int(value) for name, value in pairs if name == "content-length"), None)
        if length is None:
            if ("transfer-encoding", "chunked") not in pairs or b"0\r\n\r\n" not in rest:
                break
            body, _, data = rest.partition(b"0\r\n\r\n")
            found.append(Answer(int(code), pairs, body))
            continue
        if len(rest) < length:
            break
        found.append(Answer(int(code), pairs, rest[:length]))
        data = rest[length:]
    return found, data


async def exchange(
    port: int, *pieces: bytes, half_close: bool = True, wait: float = 0.0, seconds: float = SECONDS
) -> list[Answer]:
    """Everything that a connection answers until it is closed by the other side, which it must be.

    `half_close`: we have nothing more to say, after a first answer or `wait` seconds.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        if wait:
            with suppress(TimeoutError):
                data = await asyncio.wait_for(reader.read(65536), wait)
        if half_close:
            writer.write_eof()
        async with asyncio.timeout(seconds):
            data += await reader.read()
    except ConnectionError:
        pass
    finally:
        writer.close()
    answers, rest = parse_answers(data)
    assert rest == b"", f"half an answer: {rest!r}"
    return answers


def chat_head(*lines: bytes, key: str = KEY) -> bytes:
    """A head of a chat request with these further lines, which bring their own ends."""
    return b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n%b\r\n" % (
        key.encode(),
        b"".join(lines),
    )


def sized(body: bytes = CHAT, *lines: bytes) -> bytes:
    return chat_head(b"content-length: %d\r\n" % len(body), *lines) + body


def marked(mark: str) -> bytes:
    """A chat whose answer says `mark`."""
    return sized(json.dumps({"model": "fake", "messages": [{"role": "user", "content": mark}]}).encode())
