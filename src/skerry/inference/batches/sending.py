"""Rows on the wire: ordinary requests to a gateway, on connections that are kept."""

import asyncio

# Named here although asyncio would find it itself: nothing can be imported after privileges were dropped.
import encodings.idna  # noqa: F401
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

from skerry.inference.batches.rules import Answer, cost_of

CONNECT_SECONDS: Final = 5.0
MAX_HEAD: Final = 64 * 1024
MAX_BODY: Final = 64 * 1024 * 1024
WAITED_MS: Final = 1000
"""Queueing beyond which a row counts as having waited."""


class GatewayAway(Exception):
    """No answer. `begun`: the request may have reached a gateway."""

    def __init__(self, why: str, *, begun: bool) -> None:
        super().__init__(why)
        self.begun = begun


class Sender(Protocol):
    async def send(self, path: str, authorization: str, body: bytes) -> Answer:
        """Raises GatewayAway."""
        ...

    def close(self) -> None: ...


@dataclass(slots=True, eq=False)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used: bool = False


class HttpSender:
    """To `unix:/path/to.sock` or `http(s)://host:port`. Connects when it is first needed."""

    def __init__(self, url: str, *, answer_seconds: float, tls: ssl.SSLContext | None = None) -> None:
        """`answer_seconds`: longest silence, queueing included, until a row is given up and sent again."""
        self._socket = url.removeprefix("unix:") if url.startswith("unix:") else None
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "localhost", parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._authority = "localhost" if self._socket else parts.netloc
        self._answer_seconds = answer_seconds
        self._idle: deque[_Connection] = deque()

    async def send(self, path: str, authorization: str, body: bytes) -> Answer:
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self._authority}\r\nauthorization: {authorization}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        while True:
            connection = self._idle.pop() if self._idle else await self._connect()
            try:
                answer = await self._exchange(connection, head.encode("latin-1") + body)
            except _ClosedWhileIdle:
                connection.writer.close()
                continue
            except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
                connection.writer.close()
                raise GatewayAway(str(error) or type(error).__name__, begun=True) from error
            except asyncio.CancelledError:
                # The gateway sees that nobody waits any more, and stops the engine's work.
                connection.writer.transport.abort()
                raise
            return answer

    def close(self) -> None:
        while self._idle:
            self._idle.pop().writer.close()

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                if self._socket is not None:
                    opened = await asyncio.open_unix_connection(self._socket, limit=MAX_HEAD)
                else:
                    opened = await asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=MAX_HEAD)
        except OSError as error:
            raise GatewayAway(str(error) or type(error).__name__, begun=False) from error
        return _Connection(*opened)

    async def _exchange(self, connection: _Connection, request: bytes) -> Answer:
        reader, writer = connection.reader, connection.writer
        async with asyncio.timeout(self._answer_seconds):
            try:
                writer.write(request)
                await writer.drain()
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                if connection.used and not getattr(error, "partial", b""):
                    raise _ClosedWhileIdle from error
                raise
            status, headers = _parse_head(head)
            body = await _read_body(reader, headers)
        if headers.get("connection", "").lower() == "close":
            writer.close()
        else:
            connection.used = True
            self._idle.append(connection)
        return _answer(status, headers, body)


class _ClosedWhileIdle(Exception):
    """The other side had ended a kept connection: nobody has seen the request."""


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Raises ValueError."""
    first, *lines = head.decode("latin-1").split("\r\n")
    version, status, *_ = first.split(" ")
    if not version.startswith("HTTP/1.") or not status.isdecimal():
        raise ValueError(f"not an answer: {first[:100]!r}")
    pairs = (line.partition(":") for line in lines if line)
    return int(status), {name.lower(): value.strip() for name, _, value in pairs}


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    """Raises ValueError for more than `MAX_BODY`, EOFError where it ends early."""
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(_bounded(int(headers.get("content-length", "0"))))
    chunks: list[bytes] = []
    total = 0
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        total = _bounded(total + size)
        chunks.append((await reader.readexactly(size + 2))[:-2])
    await reader.readuntil(b"\r\n")
    return b"".join(chunks)


def _bounded(size: int) -> int:
    if not 0 <= size <= MAX_BODY:
        raise ValueError(f"an answer of {size} bytes")
    return size


def _answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    return Answer(
        status,
        body,
        request_id=headers.get("x-request-id", ""),
        cost=cost_of(headers.get("x-skerry-cost")),
        after=_number(headers.get("retry-after")),
        waited=(_number(headers.get("x-skerry-queue-ms")) or 0.0) > WAITED_MS,
    )


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdecimal() else None
