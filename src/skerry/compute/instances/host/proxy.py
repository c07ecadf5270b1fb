"""The way of instances to the internet: an HTTP proxy on the node's end of their uplink (CONNECT, and plain http://).

It connects to public addresses only, whatever a name resolves to: not to the node, its network, or a metadata service.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from skerry.compute.instances.host import relay

PORT: Final = 3128
_HEAD_BYTES: Final = 32 << 10
_HEAD_SECONDS: Final = 30.0
_CONNECT_SECONDS: Final = 20.0
_HOP: Final = re.compile(rb"^(proxy-[a-z-]+|connection|keep-alive)\s*:", re.IGNORECASE)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Refused(Exception):
    """Answered with this status and these words."""

    def __init__(self, status: str, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


class EgressProxy:
    """`allowed` are networks that may be reached though they are not public."""

    def __init__(self, allowed: Sequence[Network] = (), resolve: Resolve | None = None, most: int = 512) -> None:
        self._allowed = tuple(allowed)
        self._resolve = resolve or _look_up
        self._most = most
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, listening: socket.socket) -> None:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Head(self), sock=listening)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def begin(self, client: "_Head") -> None:
        assert client.transport is not None
        if len(self._open) >= self._most:
            client.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(client))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, client: "_Head") -> None:
        assert client.transport is not None
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                head, rest = await client.head
            host, port, first, hello = request(head)
            upstream = await self._connect(host, port)
        except Refused as refused:
            client.transport.write(
                f"HTTP/1.1 {refused.status}\r\nConnection: close\r\nContent-Type: text/plain\r\n"
                f"Content-Length: {len(refused.words) + 1}\r\n\r\n{refused.words}\n".encode()
            )
            client.transport.close()
            return
        except TimeoutError:
            client.transport.abort()
            return
        if hello:
            client.transport.write(hello)
        await relay.join(client, upstream, first + rest)

    async def _connect(self, host: str, port: int) -> socket.socket:
        try:
            found = await self._resolve(host, port)
        except OSError as error:
            raise Refused("502 Bad Gateway", f"skerry: {host} has no address: {error}") from error
        public = [address for address in found if self.may_reach(address)]
        if not public:
            raise Refused("403 Forbidden", f"skerry: {host} is not a public address: instances reach public ones only")
        last: OSError | None = None
        for address in public:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            upstream = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    await asyncio.get_running_loop().sock_connect(upstream, (address, port))
            except OSError as error:  # TimeoutError is one
                upstream.close()
                last = error
                continue
            return upstream
        raise Refused("502 Bad Gateway", f"skerry: {host} does not answer: {last or 'time is up'}")

    def may_reach(self, text: str) -> bool:
        address = ipaddress.ip_address(text.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self._allowed):
            return True
        return address.is_global and not address.is_multicast


class _Head(relay.Side):
    """A client whose request's head is being read."""

    def __init__(self, proxy: EgressProxy) -> None:
        super().__init__()
        self._proxy = proxy
        self._buffer = b""
        self.head: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._proxy.begin(self)

    def data_received(self, data: bytes) -> None:
        if self.head.done():
            super().data_received(data)
            return
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        assert self.transport is not None
        if end:
            self.transport.pause_reading()
            self.head.set_result((head, rest))
        elif len(self._buffer) > _HEAD_BYTES:
            self.head.set_exception(
                Refused("431 Request Header Fields Too Large", "skerry: the request's head is too long")
            )

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if not self.head.done():
            self.head.cancel()


def request(head: bytes) -> tuple[str, int, bytes, bytes]:
    """Host, port, what to send first, what to answer first. Raises Refused."""
    line, *fields = head.split(b"\r\n")
    words = line.split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        raise Refused("400 Bad Request", "skerry: this is an HTTP proxy")
    method, target, version = words[0].decode("latin-1"), words[1].decode("latin-1"), words[2]
    try:
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Refused("400 Bad Request", f"skerry: {error}") from error
    if method == "CONNECT":
        if host is None or port is None:
            raise Refused("400 Bad Request", "skerry: CONNECT wants host:port")
        return host, port, b"", b"HTTP/1.1 200 Connection established\r\n\r\n"
    if parts.scheme != "http" or host is None:
        raise Refused("400 Bad Request", "skerry: only http:// addresses and CONNECT")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    kept = [field for field in fields if not _HOP.match(field)]
    # One request a connection: the next one may be for another host.
    first = b"\r\n".join([f"{method} {path} ".encode("latin-1") + version, *kept, b"Connection: close", b"", b""])
    return host, port or 80, first, b""


async def _look_up(host: str, port: int) -> Sequence[str]:
    return relay.addresses(await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM))
