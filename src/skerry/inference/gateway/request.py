"""A request as it was read from the wire, and what its head forbids."""

import re
from typing import TYPE_CHECKING, Final

from skerry.inference.gateway.errors import ApiError

if TYPE_CHECKING:
    from skerry.inference.gateway.state import KeyState
    from skerry.inference.gateway.tickets import BatchTicket

MAX_HEADERS = 32 * 1024
MAX_HEADER_COUNT = 100
MAX_TARGET = 8 * 1024
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
        self.usual = False
        """Whether it was read whole and has nothing special about it: the next one may have the same head."""

    def pattern(self) -> "HttpRequest":
        """One with the same head, for `again`: without a length and a body."""
        made = self.again(b"")
        made.headers = [pair for pair in self.headers if pair[0] != b"content-length"]
        return made

    def again(self, body: bytes) -> "HttpRequest":
        """Of a pattern, one with this body."""
        made = HttpRequest()
        made.method = self.method
        made.target = self.target
        made.path = self.path
        made.headers = [*self.headers, (b"content-length", b"%d" % len(body))]
        made.authorization = self.authorization
        made.trace = self.trace
        made.usual = True
        made.body = body
        made.length = made.held = len(body)
        return made

    def header(self, name: bytes) -> bytes | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None


def too_large(limit: int) -> ApiError:
    return ApiError(413, f"The body is larger than the limit of {limit} bytes", code="request_too_large", close=True)


def header_too_large() -> ApiError:
    return ApiError(431, "The header is too large", code="header_too_large", close=True)


def check_head(request: HttpRequest, headers: list[tuple[bytes, bytes]], max_body: int) -> ApiError | None:
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
        return header_too_large()
    return None
