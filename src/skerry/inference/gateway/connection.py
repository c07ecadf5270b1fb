"""A client's connection: HTTP/1.1 in, answers out in order, one request worked on at a time."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, cast

import httptools
from mypy_extensions import mypyc_attr

from skerry.inference.gateway.errors import REASONS, ApiError
from skerry.inference.gateway.repeats import KnownHead
from skerry.inference.gateway.request import MAX_HEADERS, HttpRequest, check_head, header_too_large, too_large
from skerry.inference.gateway.upstream import Handler

if TYPE_CHECKING:
    from skerry.inference.gateway.gateway import Gateway
    from skerry.inference.gateway.state import KeyState

MAX_PIPELINED = 16
HEAD_SECONDS = 15.0
"""From the first byte of a request to the end of its head."""
BODY_SECONDS = 120.0
IDLE_SECONDS = 75.0
SEND_SECONDS = 120.0
"""A client that takes nothing for this long is given up."""
LINGER_SECONDS = 1.0
MAX_BUFFERED = 512 * 1024 * 1024
"""Of all bodies that are being received or answered."""
LEAST_RATE = 10 * 1024
"""Bytes a second of an upload, after a while: slower ones hold a connection for nothing."""
HIGH_WATER = 256 * 1024
_FOR_EVER: Final = float("inf")
_VERSIONS: Final = ("1.1", "1.0")
_NOT_CONNECTED: Final = asyncio.Transport()
_ERROR_HEAD = b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b%b%b%b\r\n"


@mypyc_attr(allow_interpreted_subclasses=True)
class Exchange(Handler):
    """One request being answered, between its client and an upstream. It ends by `ClientConnection.finished`."""

    def start(self) -> None:
        raise NotImplementedError

    def body_data(self, data: bytes) -> None:
        """More of the body, where it is taken as it comes."""

    def body_done(self) -> None:
        """The body is whole."""

    def client_lost(self) -> None:
        raise NotImplementedError

    def client_writable(self, writable: bool) -> None:
        raise NotImplementedError

    def give_up(self, error: ApiError) -> None:
        """The other side was silent for too long: end with this error."""
        raise NotImplementedError


class ClientConnection:
    """asyncio's protocol, the parser's callbacks, and flow control. What to answer is decided by exchanges."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway: Gateway = gateway
        self.transport: asyncio.Transport = _NOT_CONNECTED
        self._parser = httptools.HttpRequestParser(self)
        self._request: HttpRequest = HttpRequest()
        self._headers: list[tuple[bytes, bytes]] = self._request.headers
        self._chunks: list[bytes] = []
        self._size = 0
        self._held = 0
        """Bytes of bodies that came whole and are not answered yet."""
        self._answering = 0
        """Of these, the one that is being answered."""
        self._upload_begun = 0.0
        self._in_head = False
        self._quiet = 0
        """Bytes of an incomplete request since the last that belong to its body: of its head, of chunk extensions, of
        trailers. 0 between requests."""
        self._pending: deque[HttpRequest] = deque()
        self._exchange: Exchange | None = None
        self._streaming: Exchange | None = None
        """The exchange that takes the body as it comes."""
        self._stop_reading = False
        self._receiving = False
        """Whether a request has begun to arrive and is not whole."""
        self.writable = True
        self.deadline: float = gateway.now() + IDLE_SECONDS
        """Monotonic seconds; the sweep closes the connection after it."""
        self.peer = ""
        self.internal = False
        """Whether it came in through the internal socket."""
        self._known = KnownHead()
        self._usual: HttpRequest = self._request
        """The request that had this head."""
        self._requests = 0
        """That the parser has read whole, but for uploads."""
        self.authorization = b""
        """The last one sent here, and whose it was: the same again need not be looked up again."""
        self.key: KeyState | None = None

    # asyncio
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports implement the interface without inheriting from it.
        self.transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(HIGH_WATER)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self._gateway.connections.add(self)
        self._gateway.metrics.connections += 1

    def data_received(self, data: bytes) -> None:
        if self._stop_reading:
            return
        if not self._quiet and self._exchange is None:
            start = self._known.body_of(data)
            if start and self._again(data, start):
                return
            self._read_anew(data)
            return
        if self._quiet:
            self._quiet += len(data)
            if self._quiet > MAX_HEADERS + len(data):
                self._refuse(header_too_large())
                return
        self._parse(data)

    def _again(self, data: bytes, start: int) -> bool:
        """A whole request with the same head as the one before: the parser, which stands between two, need not see it.

        False where there is more to be said about it.
        """
        gateway = self._gateway
        size = len(data) - start
        if size > gateway.max_body or gateway.buffered + size > MAX_BUFFERED or self._pending:
            return False
        request = self._usual.again(data[start:])
        try:
            gateway.check_head(self, request)
        except ApiError as error:
            self._refuse(error)
            return True
        gateway.buffered += size
        self._held += size
        self._take(request)
        return True

    def _read_anew(self, data: bytes) -> None:
        """The beginning of a request, or all of it."""
        before = self._requests
        self._parse(data)
        request = self._request
        usual = self._requests == before + 1 and not self._quiet and request.usual
        if usual and self._known.learn(data, len(data) - request.length):
            self._usual = request.pattern()

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(ApiError(400, "Upgrades are not offered here", code="no_upgrade", close=True))
        except httptools.HttpParserError as error:
            self._refuse(ApiError(400, f"This is not HTTP/1.1: {error}", code="malformed_http", close=True))
        if len(self._pending) > 1:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._gateway.connections.discard(self)
        self._received()
        self._gateway.buffered -= self._held
        self._held = self._answering = 0
        self._stop_reading = True
        self._pending.clear()
        exchange, self._exchange, self._streaming = self._exchange, None, None
        if exchange is not None:
            exchange.client_lost()

    def pause_writing(self) -> None:
        self.writable = False
        self.deadline = self._gateway.now() + SEND_SECONDS
        if self._exchange is not None:
            self._exchange.client_writable(False)

    def resume_writing(self) -> None:
        self.writable = True
        if self._exchange is not None:
            self.deadline = self._gateway.now() + self._gateway.silence_seconds
            self._exchange.client_writable(True)
        elif not self._stop_reading:
            self.deadline = self._gateway.now() + (BODY_SECONDS if self._receiving else IDLE_SECONDS)

    # httptools
    def on_message_begin(self) -> None:
        self._request = HttpRequest()
        self._chunks = []
        self._headers = self._request.headers
        self._size = 0
        self._quiet = 1
        self._in_head = self._receiving = True
        if self._exchange is None:
            self.deadline = self._gateway.now() + HEAD_SECONDS

    def on_url(self, url: bytes) -> None:
        self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers come after everything was checked: they are left out (RFC 9110 §6.5.1)
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        request, parser = self._request, self._parser
        request.method = parser.get_method()
        request.keep_alive = parser.should_keep_alive()
        version = parser.get_http_version()
        request.http11 = version != "1.0"
        self._in_head = False
        gateway = self._gateway
        target = request.target
        request.path = target if target.find(b"?") < 0 else target.partition(b"?")[0]
        limit = gateway.body_limit(request)
        request.problem = check_head(request, self._headers, limit)
        if version not in _VERSIONS:
            request.problem = ApiError(505, "HTTP/1.1 is spoken here", code="http_version")
        if request.problem is None and parser.should_upgrade():
            request.problem = ApiError(400, "Upgrades are not offered here", code="no_upgrade")
        if request.problem is None:
            try:
                gateway.check_head(self, request)
            except ApiError as error:
                request.problem = error
        if request.problem is not None:
            self._refuse(request.problem)
            return
        if self._exchange is None:
            self.deadline = gateway.now() + BODY_SECONDS
            if request.expects and not self._pending:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if limit > gateway.max_body:
                self._take_as_it_comes(request)

    def on_body(self, data: bytes) -> None:
        gateway = self._gateway
        self._quiet = 1
        streaming = self._streaming
        if streaming is not None:
            if self._exchange is streaming:
                self._size += len(data)
                self.deadline = self._upload_begun + BODY_SECONDS + self._size / LEAST_RATE
                streaming.body_data(data)
            return
        if self._stop_reading:
            return
        self._size += len(data)
        gateway.buffered += len(data)
        if self._size > gateway.max_body:
            self._refuse(too_large(gateway.max_body))
        elif gateway.buffered > MAX_BUFFERED:
            message = "The gateway is receiving more than it can hold. Please try again."
            self._refuse(ApiError(503, message, code="overloaded", retry_after=2, close=True))
        else:
            self._chunks.append(data)

    def on_message_complete(self) -> None:
        self._quiet = 0
        streaming = self._streaming
        self._streaming = None
        if streaming is not None:
            self._size = 0
            self._receiving = False
            if self._exchange is streaming:
                self.deadline = self._gateway.now() + self._gateway.silence_seconds
                streaming.body_done()
            return
        if self._stop_reading:
            self._received()
            return
        request = self._request
        chunks = self._chunks
        self._requests += 1
        request.usual = (
            request.problem is None
            and request.keep_alive
            and request.http11
            and request.length > 0
            and not request.chunked
            and not request.expects
        )
        request.held = self._size
        self._held += self._size
        self._size = 0
        self._receiving = False
        request.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._take(request)

    def is_busy(self) -> bool:
        return self._exchange is not None

    def expire(self) -> None:
        """The deadline has passed."""
        self.deadline = self._gateway.now() + LINGER_SECONDS
        if self._exchange is not None and self.writable:
            error = ApiError(503, "The model did not answer in time.", code="replica_timeout", retry_after=1)
            self._exchange.give_up(error)
        elif self._exchange is None and not self._stop_reading and self._receiving:
            self._refuse(ApiError(408, "The request did not arrive in time.", code="request_timeout", close=True))
        else:
            self.transport.abort()

    # answers
    def finished(self, keep_alive: bool) -> None:
        """The exchange has written its last byte."""
        self._exchange = None
        if self._answering:
            self._gateway.buffered -= self._answering
            self._held -= self._answering
            self._answering = 0
        if self.transport.is_closing():
            return
        if not keep_alive or self._gateway.draining or self._streaming is not None:
            # The rest of an upload that was answered early is not worth reading.
            self._linger()
            return
        if self.writable:
            self.deadline = self._gateway.now() + (BODY_SECONDS if self._receiving else IDLE_SECONDS)
        if self._pending:
            request = self._pending.popleft()
            if not self._pending:
                self.transport.resume_reading()
            self._begin(request)

    def send_error(self, error: ApiError, request: HttpRequest, request_id: str, headers: bytes = b"") -> None:
        """Write a whole error answer. The caller then calls `finished`."""
        control = request.target.startswith(b"/api/")
        body = error.problem() if control else error.body()
        close = error.close or not request.keep_alive
        head = _ERROR_HEAD % (
            error.status,
            REASONS.get(error.status, b"Error"),
            b"application/problem+json" if control else b"application/json",
            len(body),
            request_id.encode(),
            b"retry-after: %d\r\n" % error.retry_after if error.retry_after is not None else b"",
            error.headers,
            headers,
            b"connection: close\r\n" if close else b"",
        )
        self.transport.write(head + body)

    def _received(self) -> None:
        """The body will never be whole."""
        self._receiving = False
        if self._streaming is None:
            self._gateway.buffered -= self._size
        self._size = 0

    def _linger(self) -> None:
        """Close, but read on a little: closing with unread bytes would reset the connection and lose the answer."""
        self._stop_reading = True
        self._pending.clear()
        transport = self.transport
        unsent = transport.get_write_buffer_size() > 0
        self.deadline = self._gateway.now() + (SEND_SECONDS if unsent else LINGER_SECONDS)
        if transport.can_write_eof():
            transport.write_eof()
            transport.resume_reading()
        else:
            transport.close()

    def _take_as_it_comes(self, request: HttpRequest) -> None:
        """Begin the exchange before the body is there: an upload, larger than what is held in memory."""
        self._upload_begun = self._gateway.now()
        exchange = self._gateway.exchange_for(self, request)
        self._exchange = self._streaming = exchange
        exchange.start()

    def _take(self, request: HttpRequest) -> None:
        if self._exchange is None:
            self._begin(request)
            return
        self._pending.append(request)
        if len(self._pending) >= MAX_PIPELINED:
            # Whoever pipelines this much gets these answered, then has to come again.
            self._stop_reading = True
            request.keep_alive = False

    def _begin(self, request: HttpRequest) -> None:
        self.deadline = _FOR_EVER
        if request.problem is not None:
            self.send_error(request.problem, request, self._gateway.new_request_id())
            self.finished(keep_alive=False)
            return
        self._answering = request.held
        exchange = self._gateway.exchange_for(self, request)
        self._exchange = exchange
        exchange.start()

    def _refuse(self, problem: ApiError) -> None:
        """Answer this as soon as what came before it is answered, then close: the stream cannot be trusted further."""
        if self._stop_reading:
            return
        self._stop_reading = True
        problem.close = True
        request = HttpRequest()
        request.keep_alive = False
        request.problem = problem
        self._take(request)


def accept(gateway: "Gateway", internal: bool = False) -> asyncio.BaseProtocol:
    """For a listening socket. A protocol in all but inheritance: compiled classes cannot have it."""
    made = ClientConnection(gateway)
    made.internal = internal
    return cast(asyncio.BaseProtocol, made)
