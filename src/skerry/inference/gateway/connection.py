"""A client's connection: HTTP/1.1 in, answers out in order, one request worked on at a time."""

import asyncio
import re
from collections import deque
from typing import TYPE_CHECKING, Final, cast

import httptools
from mypy_extensions import mypyc_attr

from skerry.inference.gateway.errors import REASONS, ApiError
from skerry.inference.gateway.upstream import Handler

if TYPE_CHECKING:
    from skerry.inference.gateway.gateway import Gateway
    from skerry.inference.gateway.state import KeyState
    from skerry.inference.gateway.tickets import BatchTicket

MAX_HEADERS = 32 * 1024
MAX_HEADER_COUNT = 100
MAX_TARGET = 8 * 1024
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
_CHECKED = {
    b"authorization": 1,
    b"content-length": 2,
    b"host": 3,
    b"transfer-encoding": 4,
    b"content-encoding": 5,
    b"expect": 6,
    b"traceparent": 7,
}
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+;=%:\[\]-]*\Z")
_TRACE: Final = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_ERROR_HEAD = b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b%b%b%b\r\n"


class HttpRequest:
    """One request as read from the wire. Header names are lower case."""

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.path = b""
        """The target without its query."""
        self.headers: list[tuple[bytes, bytes]] = []
        self.authorization = b""
        self.body = b""
        self.length = -1
        """The body's length as announced; -1: it is chunked, or there is none."""
        self.keep_alive = True
        self.http11 = True
        self.held = 0
        """Bytes of its body that are kept in memory until it is answered."""
        self.expects = False
        """Whether the client waits for `100 Continue` before it sends the body."""
        self.chunked = False
        self.key: KeyState | None = None
        """Whose it is, where that was looked up with the head."""
        self.ticket: BatchTicket | None = None
        """Where it is a row of a batch."""
        self.trace = ""
        """The client's `traceparent`."""
        self.problem: ApiError | None = None
        """What is wrong with it as HTTP; it is answered with this."""

    def header(self, name: bytes) -> bytes | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None


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
        if self._quiet:
            self._quiet += len(data)
            if self._quiet > MAX_HEADERS + len(data):
                self._refuse(_header_too_large())
                return
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
        request.path = target if b"?" not in target else target.partition(b"?")[0]
        limit = gateway.body_limit(request)
        request.problem = _check_head(request, self._headers, limit)
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


def too_large(limit: int) -> ApiError:
    return ApiError(413, f"The body is larger than the limit of {limit} bytes", code="request_too_large", close=True)


def _header_too_large() -> ApiError:
    return ApiError(431, "The header is too large", code="header_too_large", close=True)


def _check_head(request: HttpRequest, headers: list[tuple[bytes, bytes]], max_body: int) -> ApiError | None:
    """Note what matters of a head, and say what it forbids: RFC 9112 §6 on framing, RFC 9110 §7.2 on Host."""
    lengths = hosts = size = 0
    chunked = False
    for name, value in headers:
        size += len(name) + len(value)
        check = _CHECKED.get(name)
        if check is None:
            continue
        if check == 1:
            if request.authorization:
                return ApiError(400, "There are two Authorization headers", code="ambiguous_authorization")
            request.authorization = value
        elif check == 2:
            lengths += 1
            if not value.isdigit():
                return ApiError(400, "Content-Length is not a number", code="malformed_http")
            request.length = int(value) if len(value) < 19 else 1 << 62
            if request.length > max_body:
                return too_large(max_body)
        elif check == 3:
            hosts += 1
            if _HOST.match(value) is None:
                return ApiError(400, "The Host header is not a host and port", code="bad_host")
        elif check == 4:
            if value.lower() != b"chunked" or chunked:
                return ApiError(501, "Only the transfer encoding 'chunked' is known here", code="unknown_encoding")
            chunked = request.chunked = True
        elif check == 5:
            if value.lower() != b"identity":
                return ApiError(415, "Compressed bodies are not taken: send it plain", code="compressed_body")
        elif check == 7:
            if _TRACE.match(value) is not None:
                request.trace = value.decode()
        elif value.lower() != b"100-continue":
            return ApiError(417, "Only 'Expect: 100-continue' is known here", code="unknown_expectation")
        else:
            request.expects = True
    if (lengths and chunked) or lengths > 1:
        return ApiError(400, "Content-Length is given twice, or with Transfer-Encoding", code="ambiguous_length")
    if chunked and not request.http11:
        return ApiError(400, "HTTP/1.0 has no Transfer-Encoding", code="malformed_http")
    if hosts > 1 or (request.http11 and not hosts):
        return ApiError(400, "Exactly one Host header is needed", code="bad_host")
    if len(request.target) > MAX_TARGET:
        return ApiError(414, f"The target is longer than {MAX_TARGET} bytes", code="target_too_long")
    if size > MAX_HEADERS or len(headers) > MAX_HEADER_COUNT:
        return _header_too_large()
    return None
