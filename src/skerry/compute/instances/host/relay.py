"""Passing TCP connections on, byte by byte, with each side's pace."""

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from typing import Final, cast

_BUFFER: Final = 1 << 20
_BACKLOG: Final = 128

Connect = Callable[[], tuple[socket.socket, tuple[str, int]]]
"""A fresh socket and whom it is to be connected to."""


class NoPort(RuntimeError):
    """All ports of the range are in use on this node."""


class Side(asyncio.Protocol):
    """One end of a passed connection. Ends when the other does; half-closed ends stay half-closed."""

    def __init__(self) -> None:
        self.other: Side | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(_BUFFER)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other is not None and self.other.transport is not None and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class Forward:
    """A listening port whose connections are passed on."""

    def __init__(self, connect: Connect, most: int = 512) -> None:
        self._connect = connect
        self._most = most
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, listening: socket.socket) -> None:
        self._server = await asyncio.get_running_loop().create_server(self._accept, sock=listening)

    async def close(self) -> None:
        """No new connections; those that are open end."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _accept(self) -> Side:
        side = _Accepted(self)
        return side

    def begin(self, client: Side) -> None:
        assert client.transport is not None
        if len(self._open) >= self._most:
            client.transport.abort()
            return
        client.transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self._pass(client))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _pass(self, client: Side) -> None:
        assert client.transport is not None
        upstream, address = self._connect()
        try:
            await asyncio.get_running_loop().sock_connect(upstream, address)
            await join(client, upstream)
        except OSError:
            upstream.close()
            client.transport.abort()


class _Accepted(Side):
    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self._forward = forward

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._forward.begin(self)


async def join(client: Side, upstream: socket.socket, first: bytes = b"") -> None:
    """Pass everything between a client, whose reading is paused, and a connected socket, until both have ended."""
    assert client.transport is not None
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    _, far = await loop.create_connection(lambda: _Far(done), sock=upstream)
    far.other, client.other = client, far
    assert far.transport is not None
    try:
        if client.transport.is_closing():
            return
        if first:
            far.transport.write(first)
        client.transport.resume_reading()
        await done
    finally:
        far.transport.abort() if not done.done() else far.transport.close()
        client.transport.close()


class _Far(Side):
    def __init__(self, done: asyncio.Future[None]) -> None:
        super().__init__()
        self._done = done

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if not self._done.done():
            self._done.set_result(None)


def claim(address: str, ports: tuple[int, int], wanted: int) -> socket.socket:
    """A socket listening on a free port of the range, `wanted` first. The kernel is the lock. Raises NoPort,
    OSError."""
    low, high = ports
    count = high - low + 1
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for step in range(count):
        listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((address, low + (wanted - low + step) % count))
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            continue
        return listening
    raise NoPort(f"all ports from {low} to {high} of {address} are in use: widen the range of instances' ports")


def addresses(found: Sequence[tuple[object, ...]]) -> list[str]:
    """The addresses of a getaddrinfo answer, each once, in order."""
    return list(dict.fromkeys(str(cast(tuple[object, ...], entry[4])[0]) for entry in found))
