"""The way from inside the sandbox to the node API, and to nothing else of the control plane.

The task finds `SKERRY_API_URL=http://127.0.0.1:PORT`, wherever the API is and although it may have no network: the
socket belongs to the sandbox's own loopback, and what comes in there is sent on from here. One request a connection.
"""

import contextlib
import selectors
import socket
import threading
from typing import Final

from skerry.compute.task.calling import PREFIX, connect, host_of

_HEAD_MAX: Final = 64 << 10
_PIECE: Final = 256 << 10
_CONNECTIONS: Final = 64
_SILENT_SECONDS: Final = 120.0
_NOT_PASSED: Final = (
    b"connection:", b"keep-alive:", b"host:", b"proxy-", b"x-skerry-", b"x-forwarded-", b"forwarded:", b"expect:",
)  # fmt: skip


class Relay:
    def __init__(self, listener: socket.socket, url: str) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._url = url
        self._free = threading.BoundedSemaphore(_CONNECTIONS)

    def accept(self) -> None:
        """A connection is there. Each has a thread of its own; those beyond the limit are closed."""
        try:
            inside, _ = self._listener.accept()
        except OSError:
            return
        if not self._free.acquire(blocking=False):
            inside.close()
            return
        threading.Thread(target=self._serve, args=(inside,), daemon=True).start()

    def _serve(self, inside: socket.socket) -> None:
        try:
            with inside, contextlib.suppress(OSError, ValueError):
                inside.settimeout(_SILENT_SECONDS)
                head, rest = _read_head(inside)
                request = rewritten(head, host_of(self._url))
                if request is None:
                    inside.sendall(_answer(403, "Only the node API can be reached from here."))
                    return
                try:
                    outside = connect(self._url)
                except OSError:
                    inside.sendall(_answer(503, "The control plane is away."))
                    return
                with outside:
                    outside.settimeout(_SILENT_SECONDS)
                    outside.sendall(request + rest)
                    _pump(inside, outside)
        finally:
            self._free.release()


def rewritten(head: bytes, host: str) -> bytes | None:
    """The head as it is sent on; None: this is not for the node API. Pure."""
    first, *lines = head.split(b"\r\n")
    parts = first.split(b" ")
    path = parts[1].split(b"?")[0] if len(parts) == 3 else b""
    inside = path.startswith(PREFIX.encode() + b"/")
    # What could be read as another path by whoever comes next is none of ours.
    if not inside or parts[2] != b"HTTP/1.1" or b".." in path or b"//" in path or b"%" in path or b"\\" in path:
        return None
    if any(line[:1] in (b" ", b"\t") or b"\n" in line or b"\r" in line for line in lines):
        return None
    kept = [line for line in lines if line and not line.lower().startswith(_NOT_PASSED)]
    return b"\r\n".join([first, b"host: " + host.encode(), b"connection: close", *kept, b"", b""])


def _read_head(inside: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = inside.recv(_HEAD_MAX)
        if not piece or len(data) > _HEAD_MAX:
            raise ValueError("no whole request")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _pump(inside: socket.socket, outside: socket.socket) -> None:
    """Both ways, until the answer is complete: the API closes then."""
    with selectors.DefaultSelector() as selector:
        selector.register(inside, selectors.EVENT_READ, outside)
        selector.register(outside, selectors.EVENT_READ, inside)
        while selector.get_map():
            ready = selector.select(_SILENT_SECONDS)
            if not ready:
                return
            for key, _ in ready:
                source, target = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                if not _send_on(source, target):
                    if source is outside:
                        return
                    selector.unregister(inside)


def _send_on(source: socket.socket, target: socket.socket) -> bool:
    """What is there now. False: nothing more comes."""
    while piece := source.recv(_PIECE):
        target.sendall(piece)
        if not getattr(source, "pending", lambda: 0)():  # TLS may hold more than the socket shows
            return True
    return False


def _answer(status: int, words: str) -> bytes:
    body = f'{{"status": {status}, "code": "relay", "detail": "{words}"}}'.encode()
    head = f"HTTP/1.1 {status} Relay\r\ncontent-type: application/problem+json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"connection: close\r\n\r\n" + body
