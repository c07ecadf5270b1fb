"""A scripted OpenAI-like server: each request is answered by the next script, or by the default one."""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

Script = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    def __init__(self, path: str, headers: dict[str, str], body: dict, writer: asyncio.StreamWriter) -> None:
        self.path, self.headers, self.body, self.writer = path, headers, body, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def json(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        await self.send(
            b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
        )
        await self.send(body)

    async def stream_head(self) -> None:
        await self.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    async def event(self, value: object) -> None:
        data = b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def token(self, text: str = " skua") -> None:
        await self.event({"model": self.body["model"], "choices": [{"index": 0, "delta": {"content": text}}]})

    async def end(self, prompt: int = 9, completion: int = 3, cached: int = 0) -> None:
        await self.event({"model": self.body["model"], "choices": [], "usage": usage(prompt, completion, cached)})
        await self.event(b"[DONE]")
        await self.send(b"0\r\n\r\n")

    def die(self) -> None:
        self.writer.transport.abort()


def usage(prompt: int = 9, completion: int = 3, cached: int = 0) -> dict:
    value: dict = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return value | ({"prompt_tokens_details": {"cached_tokens": cached}} if cached else {})


async def well(exchange: Exchange) -> None:
    """Three tokens, as asked: streamed or at once."""
    if exchange.body.get("stream"):
        await exchange.stream_head()
        for _ in range(3):
            await exchange.token()
        await exchange.end()
    elif exchange.path.endswith("/tokenize"):
        await exchange.json({"tokens": list(range(7))})
    else:
        text = exchange.path.endswith("/chat/completions")
        choice = {"message": {"role": "assistant", "content": " skua" * 3}} if text else {"text": " skua" * 3}
        await exchange.json({"model": exchange.body["model"], "choices": [{"index": 0, **choice}], "usage": usage()})


class FakeUpstream:
    def __init__(self) -> None:
        self.seen: list[Exchange] = []
        self.scripts: deque[Script] = deque()
        self.default: Script = well
        self.gone = 0
        """Connections the other side has closed in the middle of an answer."""
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                exchange = Exchange(head[0].split()[1], headers, json.loads(body or b"{}"), writer)
                self.seen.append(exchange)
                script = self.scripts.popleft() if self.scripts else self.default
                work = asyncio.ensure_future(script(exchange))
                await work
        except asyncio.IncompleteReadError:
            pass
        except ConnectionError:
            self.gone += 1
        except asyncio.CancelledError:
            return  # the test is over
        finally:
            writer.close()


@asynccontextmanager
async def upstream():
    fake = FakeUpstream()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
