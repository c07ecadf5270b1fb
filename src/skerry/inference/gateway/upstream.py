"""Connections to replicas and to the control API: pooled, kept alive, one request at a time on each."""

import asyncio
import ssl
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httptools
from mypy_extensions import mypyc_attr

from skerry.inference.gateway.repeats import KnownHead

MAX_IDLE = 256
MAX_HEAD = 64 * 1024
CONNECT_SECONDS = 5.0
_NOT_CONNECTED: Final = asyncio.Transport()


@mypyc_attr(allow_interpreted_subclasses=True)
class Handler:
    """Who waits for an answer."""

    def upstream_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        raise NotImplementedError

    def upstream_body(self, data: bytes) -> None:
        raise NotImplementedError

    def upstream_chunks(self, data: bytes) -> int:
        """A chunked body with its framing, as it came. Bytes that were taken, all of them whole chunks: the rest is
        wanted as a body.
        """
        return 0

    def upstream_read(self) -> None:
        """What came at once has been handed over: the time to send on what was made of it."""

    def upstream_done(self) -> None:
        raise NotImplementedError

    def upstream_lost(self, reused: bool, answered: bool, why: str) -> None:
        """The connection broke before the answer was whole. `answered`: some of it had arrived."""
        raise NotImplementedError

    def upstream_writable(self, writable: bool) -> None:
        """Bodies are mostly bounded, so what the other side does not take yet may wait in memory."""


class Address:
    """Where a server listens: host and port, or a Unix socket."""

    def __init__(
        self, host: str = "", port: int = 0, tls: bool = False, path: str = "", base: bytes = b"",
        authority: bytes = b"",
    ) -> None:  # fmt: skip
        """`path`: of the Unix socket; empty for TCP. `base`: path prefix of all its routes, such as `/v1`."""
        self.host = host
        self.port = port
        self.tls = tls
        self.path = path
        self.base = base
        self.authority = authority

    @classmethod
    def parse(cls, url: str) -> "Address":
        if url.startswith("unix:"):
            return cls(path=url.removeprefix("unix:"), authority=b"localhost")
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        host = parts.hostname or ""
        name = f"[{host}]" if ":" in host else host
        authority = name if parts.port is None else f"{name}:{port}"
        return cls(host, port, tls, "", parts.path.rstrip("/").encode(), authority.encode())


class UpstreamConnection:
    """One connection: asyncio's protocol, and the callbacks of its parser.

    The parser is spared what it need not see, and misses nothing. In a chunked answer, chunks that arrive whole are
    offered as they are (`Handler.upstream_chunks`): a token of a stream is then neither parsed nor framed again, and
    the parser stands between two chunks before and after. A whole answer whose head is the one before it again
    (`KnownHead`) is not parsed at all: the parser stands between two answers.
    """

    def __init__(self, pool: "Pool") -> None:
        self.pool: Pool = pool
        self.transport: asyncio.Transport = _NOT_CONNECTED
        self.handler: Handler | None = None
        self.owner = ""
        """The project whose requests alone it carries, where the other side is not ours."""
        self.used = 0
        self.idle = False
        """Whether it lies in the pool."""
        self.once = False
        """Whether it serves one request only: its body may not have been taken whole."""
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._answered = False
        self._delimited = False
        self._chunked = False
        self._plain = False
        """Whether it is an answer like most, in one piece: the connection lives on."""
        self._keep = True
        self._complete = False
        """Whether the answer is whole."""
        self._dirty = False
        """Whether more came after it: then nothing here can be trusted."""
        self._between = False
        """Whether the parser stands between two chunks of a body."""
        self._known = KnownHead()
        self._known_headers: list[tuple[bytes, bytes]] = []
        """What that head says, but for the length."""
        self._quiet = 0
        """Bytes of an incomplete answer since the last that belong to its body: head, chunk extensions, trailers."""

    def send(self, handler: Handler, data: bytes) -> None:
        self.handler = handler
        self.used += 1
        self._answered = self._complete = self._between = False
        self._quiet = 1
        self.transport.write(data)

    def abandon(self) -> None:
        """Nobody wants the answer any more: closing tells the other side to stop working on it."""
        self.handler = None
        self.pool.forget(self)
        self.transport.abort()

    # asyncio
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports implement the interface without inheriting from it.
        self.transport = cast(asyncio.Transport, transport)
        self.pool.open.add(self)

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        handler = self.handler
        if handler is None:
            # Nobody asked: whoever came next would take it for the answer to something else.
            self.pool.distrust()
            self.abandon()
            return
        if self._between:
            taken = handler.upstream_chunks(data)
            if taken == len(data):
                return
            if taken:
                data = data[taken:]
            why = self._parse(data)
        elif self._answered:
            why = self._parse(data)
        else:
            start = self._known.body_of(data)
            if start:
                self._again(handler, data, start)
                return
            why = self._begin(handler, data)
        if self.handler is not None:
            self.handler.upstream_read()
        if self._complete:
            self._finish()
        elif why:
            self._fail(why)

    def _again(self, handler: Handler, data: bytes, start: int) -> None:
        """A whole answer with the same head as the one before."""
        self._answered = self._complete = True
        handler.upstream_head(200, [*self._known_headers, (b"content-length", b"%d" % (len(data) - start))])
        if self.handler is not None:
            handler.upstream_body(data[start:])
            handler.upstream_read()
        self._finish()

    def _begin(self, handler: Handler, data: bytes) -> str:
        """The first bytes of an answer. What is wrong with it, if anything."""
        self._answered = True
        head = data.find(b"\r\n\r\n") + 4
        if head < 4 or head == len(data):
            return self._parse(data)
        why = self._parse(data[:head])
        if why or self.handler is None:
            return why
        if self._between:
            taken = handler.upstream_chunks(data[head:])
            head += taken
            return self._parse(data[head:]) if head < len(data) else ""
        plain = self._plain
        why = self._parse(data[head:])
        if plain and self._complete and not self._dirty and self._known.learn(data, head):
            self._known_headers = [pair for pair in self._headers if pair[0] != b"content-length"]
        return why

    def _parse(self, data: bytes) -> str:
        """What is wrong with it, if anything."""
        self._quiet += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self._complete:
                return f"it does not speak HTTP: {error}"
            self._dirty = True
        if not self._complete and self._quiet > MAX_HEAD + len(data):
            return "its head, its trailers or a chunk extension are too large"
        return ""

    def connection_lost(self, exc: Exception | None) -> None:
        self.pool.forget(self)
        if self.handler is None:
            return
        if exc is None and self._answered and not self._delimited and not self._headers_pending():
            # An answer without a length ends with its connection.
            self._complete = True
            self._finish()
            return
        self._fail(str(exc) if exc else "it closed the connection")

    def pause_writing(self) -> None:
        if self.handler is not None:
            self.handler.upstream_writable(False)

    def resume_writing(self) -> None:
        if self.handler is not None:
            self.handler.upstream_writable(True)

    # httptools
    def on_message_begin(self) -> None:
        if self._complete:
            self._dirty = True
            return
        self._headers = []
        self._delimited = self._chunked = self._plain = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self._headers.append((name, value))
        if name == b"content-length":
            self._delimited = True
        elif name == b"transfer-encoding":
            self._delimited = True
            self._chunked = value.lower() == b"chunked"

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._dirty:
            return
        self._keep = self._parser.should_keep_alive()
        self._plain = self._keep and status == 200 and not self._chunked
        # What follows such a head is chunks, which is as good as standing between two.
        self._between = self._chunked and status == 200
        if self.handler is not None:
            self.handler.upstream_head(status, self._headers)

    def on_chunk_header(self) -> None:
        self._between = False

    def on_chunk_complete(self) -> None:
        self._between = True

    def on_body(self, data: bytes) -> None:
        self._quiet = 1
        if self.handler is not None and not self._dirty:
            self.handler.upstream_body(data)

    def on_message_complete(self) -> None:
        self._between = False
        if self._parser.get_status_code() >= 200:
            self._complete = True

    def _finish(self) -> None:
        """The answer is whole. Only now, with all that came read, can the connection serve somebody else."""
        handler, self.handler = self.handler, None
        if self._keep and not self._dirty and not self.once and not self.transport.is_closing():
            self.pool.give_back(self)
        else:
            if self._dirty:
                self.pool.distrust()
            self.pool.forget(self)
            self.transport.close()
        if handler is not None:
            handler.upstream_done()

    def _headers_pending(self) -> bool:
        return not self._headers

    def _fail(self, why: str) -> None:
        handler, self.handler = self.handler, None
        self.transport.abort()
        if handler is not None:
            handler.upstream_lost(self.used > 1, self._answered, why)


class Pool:
    """Connections to one address. `get` gives an idle one at once, or None: then `connect` makes one.

    HTTP/1.1 tells whose an answer is by its order alone. A server that sends more than was asked for is found out, and
    its connections then serve one request each; until it is found out, what is too much can only reach the same owner.
    """

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None) -> None:
        self.address = address
        self.open: set[UpstreamConnection] = set()
        self._idle: dict[str, list[UpstreamConnection]] = {}
        self._count = 0
        self._tls = tls
        self._single_use = False

    def get(self, owner: str = "") -> UpstreamConnection | None:
        idle = self._idle.get(owner)
        while idle:
            connection = idle.pop()
            connection.idle = False
            self._count -= 1
            if not connection.transport.is_closing():
                return connection
        return None

    async def connect(self, owner: str = "") -> UpstreamConnection:
        """A new connection. Raises OSError, TimeoutError too."""
        loop = asyncio.get_running_loop()
        address = self.address
        make = cast(Any, self._make)  # a protocol in all but inheritance: compiled classes cannot have it
        async with asyncio.timeout(CONNECT_SECONDS):
            if address.path:
                _, made = await loop.create_unix_connection(make, address.path)
            else:
                tls = self._tls if address.tls else None
                _, made = await loop.create_connection(make, address.host, address.port, ssl=tls)
        connection = cast(UpstreamConnection, made)
        connection.owner = owner
        return connection

    def give_back(self, connection: UpstreamConnection) -> None:
        if self._single_use or self._count >= MAX_IDLE or connection.idle:
            connection.transport.close()
            return
        idle = self._idle.get(connection.owner)
        if idle is None:
            idle = self._idle[connection.owner] = []
        idle.append(connection)
        connection.idle = True
        self._count += 1

    def forget(self, connection: UpstreamConnection) -> None:
        self.open.discard(connection)
        if not connection.idle:
            return
        connection.idle = False
        idle = self._idle.get(connection.owner)
        if idle and connection in idle:
            idle.remove(connection)
            self._count -= 1
            if not idle:
                del self._idle[connection.owner]

    def distrust(self) -> None:
        """The other side sent what nobody asked for: no connection serves twice from now on."""
        self.retire()

    def retire(self) -> None:
        """Close what is idle now and the rest when its answer is out."""
        self._single_use = True
        for idle in self._idle.values():
            for connection in idle:
                connection.idle = False
                connection.transport.close()
        self._idle = {}
        self._count = 0

    def _make(self) -> UpstreamConnection:
        return UpstreamConnection(self)
