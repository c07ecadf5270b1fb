"""Everything that is not hot goes to the control API: re-serialised, never passed through as bytes."""

import re
from typing import TYPE_CHECKING

from skerry.inference.gateway.connection import ClientConnection, Exchange
from skerry.inference.gateway.errors import REASONS, ApiError, unavailable
from skerry.inference.gateway.request import HttpRequest
from skerry.inference.gateway.upstream import Pool, UpstreamConnection

if TYPE_CHECKING:
    from skerry.inference.gateway.gateway import Gateway

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade content-length expect host x-request-id forwarded via".split()
)
OURS = (b"x-forwarded-", b"x-skerry-", b"x-real-")
TARGET = re.compile(rb"/[\x21\x22\x24-\x7e]*\Z")
"""A path and its query (RFC 9112 §3.2.1); a fragment is the client's own business."""
UPLOADS = frozenset([b"/v1/files"])
"""Paths whose bodies may be larger than memory: they are passed on as they come."""
METHODS = frozenset([b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"])


class Passage(Exchange):
    """One request on its way to `server` and back. Uploads go on as they come, and no faster than they are taken."""

    def __init__(self, gateway: "Gateway", client: ClientConnection, http: HttpRequest, pool: Pool) -> None:
        self._gateway: Gateway = gateway
        self._client: ClientConnection = client
        self._http: HttpRequest = http
        self._pool: Pool = pool
        self._request_id = gateway.new_request_id()
        self._upstream: UpstreamConnection | None = None
        self._streams = http.path in UPLOADS and http.method == b"POST"
        """Whether the body comes through `body_data`."""
        self._early: list[bytes] = []
        """Of the body, before there was a connection to send it on."""
        self._whole = False
        self._head_sent = False
        self._ended = False
        self._chunked = False
        self._status = 0

    def start(self) -> None:
        http = self._http
        if not TARGET.match(http.target) or http.method not in METHODS:
            code, status = ("bad_target", 400) if http.method in METHODS else ("method_not_allowed", 405)
            self._refuse(ApiError(status, "This method or target is not taken here", code=code))
            return
        self._gateway.metrics.passed += 1
        self._send()

    def body_data(self, data: bytes) -> None:
        if self._ended:
            return
        framed = b"%x\r\n%b\r\n" % (len(data), data) if self._http.length < 0 else data
        if self._upstream is None:
            self._early.append(framed)
            self._client.transport.pause_reading()
        else:
            self._upstream.transport.write(framed)

    def body_done(self) -> None:
        self._whole = True
        if self._upstream is not None and not self._ended and self._http.length < 0:
            self._upstream.transport.write(b"0\r\n\r\n")

    def client_lost(self) -> None:
        self._ended = True
        if self._upstream is not None:
            self._upstream.abandon()

    def client_writable(self, writable: bool) -> None:
        if self._upstream is not None:
            if writable:
                self._upstream.transport.resume_reading()
            else:
                self._upstream.transport.pause_reading()

    def give_up(self, error: ApiError) -> None:
        if self._streams and not self._whole and not self._head_sent:
            if self._upstream is not None:
                self._upstream.abandon()
                self._upstream = None
            self._refuse(ApiError(408, "The upload did not arrive in time.", code="request_timeout", close=True))
            return
        self.upstream_lost(False, True, "it was silent for too long")

    # --- to the server
    def _send(self) -> None:
        # An upload cannot be sent twice: it needs a connection that is not about to be closed.
        connection = self._pool.get() if not self._streams else None
        if connection is None:
            self._gateway.spawn(self._connect())
        else:
            self._write(connection)

    async def _connect(self) -> None:
        try:
            connection = await self._pool.connect()
        except OSError:
            self._refuse(
                unavailable("The control API is not up at the moment.", code="server_unavailable", retry_after=2)
            )
            return
        if self._ended:
            self._pool.give_back(connection)
        else:
            self._write(connection)

    def _write(self, connection: UpstreamConnection) -> None:
        self._upstream = connection
        http = self._http
        if not self._streams:
            self._client.deadline = self._gateway.now() + self._gateway.silence_seconds
        named = _named(http.header(b"connection"))
        method = b"GET" if http.method == b"HEAD" else http.method
        lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method, http.target, self._public_host())]
        for name, value in http.headers:
            if name not in HOP_BY_HOP and name not in named and not name.startswith(OURS):
                lines.append(b"%b: %b\r\n" % (name, value))
        lines.append(b"x-request-id: %b\r\n" % self._request_id.encode())
        lines.append(b"x-skerry-client-ip: %b\r\n" % self._client.peer.encode())
        if self._streams:
            connection.once = True
            framing = b"transfer-encoding: chunked\r\n" if http.length < 0 else b"content-length: %d\r\n" % http.length
            lines.append(framing + b"\r\n")
            lines += self._early
            self._early = []
            if self._whole and http.length < 0:
                lines.append(b"0\r\n\r\n")
            self._client.transport.resume_reading()
        else:
            if http.body or method in (b"POST", b"PUT", b"PATCH"):
                lines.append(b"content-length: %d\r\n" % len(http.body))
            lines.append(b"\r\n")
            lines.append(http.body)
        connection.send(self, b"".join(lines))

    def _public_host(self) -> bytes:
        return self._http.header(b"host") or b"localhost"

    # --- and back
    def upstream_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        http = self._http
        self._status = status
        self._head_sent = True
        # What is followed may be silent for as long as it likes.
        self._client.deadline = float("inf")
        sized = next((value for name, value in headers if name == b"content-length"), None)
        bodiless = status in (204, 304) or http.method == b"HEAD"
        self._chunked = sized is None and not bodiless and http.http11
        lines = [b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b"Status"))]
        lines += [b"%b: %b\r\n" % pair for pair in headers if pair[0] not in HOP_BY_HOP]
        lines.append(b"x-request-id: %b\r\n" % self._request_id.encode())
        if sized is not None:
            lines.append(b"content-length: %b\r\n" % sized)
        if self._chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        if not self._keeps_alive():
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        self._client.transport.write(b"".join(lines))

    def upstream_body(self, data: bytes) -> None:
        if self._ended or self._http.method == b"HEAD":
            return
        self._client.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def upstream_done(self) -> None:
        self._upstream = None
        if self._ended:
            return
        self._ended = True
        if self._chunked:
            self._client.transport.write(b"0\r\n\r\n")
        self._finish(self._keeps_alive())

    def upstream_lost(self, reused: bool, answered: bool, why: str) -> None:
        upstream, self._upstream = self._upstream, None
        if self._ended:
            return
        if upstream is not None and not upstream.transport.is_closing():
            upstream.abandon()
        if self._head_sent:
            # Half an answer has left: only a broken connection can say so.
            self._ended = True
            self._client.transport.abort()
        elif reused and not answered and self._may_repeat():
            self._send()
        else:
            self._refuse(unavailable("The control API did not answer.", code="server_unavailable", retry_after=2))

    def upstream_writable(self, writable: bool) -> None:
        if not self._streams:
            return  # bodies that were read whole are bounded: what the server does not take yet may wait in memory
        if writable:
            self._client.transport.resume_reading()
        elif not self._whole:
            self._client.transport.pause_reading()

    def _may_repeat(self) -> bool:
        """Whether sending it twice does no harm (RFC 9110 §9.2.2)."""
        http = self._http
        return http.method not in (b"POST", b"PATCH") or http.header(b"idempotency-key") is not None

    def _keeps_alive(self) -> bool:
        http = self._http
        framed = self._chunked or http.http11
        return http.keep_alive and framed and not self._gateway.draining

    def _refuse(self, error: ApiError) -> None:
        if self._ended:
            return
        self._ended = True
        self._client.send_error(error, self._http, self._request_id)
        self._finish(self._http.keep_alive and not error.close)

    def _finish(self, keep_alive: bool) -> None:
        if self._streams and not self._client.transport.is_closing():
            self._client.transport.resume_reading()  # an answer may come while the body still waited
        self._client.finished(keep_alive)


def _named(connection: bytes | None) -> list[bytes]:
    """Headers that are for this hop alone, since the client says so (RFC 9110 §7.6.1)."""
    return [name.strip().lower() for name in connection.split(b",")] if connection else []
