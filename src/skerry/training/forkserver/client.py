"""The supervisor's side of its fork server."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from skerry.training.forkserver import protocol
from skerry.training.forkserver.server import Settings

Heard = Callable[[dict[str, Any]], None]


class ForkServerClient:
    """Starts the server and speaks with it. `heard` gets each of its messages, `gone` its end, in the event loop."""

    def __init__(self, settings: Settings, env: Mapping[str, str], heard: Heard, gone: Callable[[], None]) -> None:
        self._settings = settings
        self._env = env
        self._heard = heard
        self._gone = gone
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "skerry.training.forkserver", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, env=dict(self._env), pass_fds=(theirs.fileno(),)
            )
        self._sock = ours
        protocol.send(ours, asdict(self._settings))
        ours.setblocking(False)
        asyncio.get_running_loop().add_reader(ours.fileno(), self._readable)

    def start_rank(self, generation: int, rank: int, env: Mapping[str, str], output: int, steps: int) -> None:
        """The descriptors stay the caller's. Raises OSError where the server is gone."""
        message = {"type": protocol.START, "generation": generation, "rank": rank, "env": dict(env)}
        self._send(message, (output, steps))

    def signal(self, number: int) -> None:
        self._send({"type": protocol.SIGNAL, "signal": int(number)})

    def dump(self) -> None:
        self._send({"type": protocol.DUMP})

    def end(self, generation: int) -> None:
        self._send({"type": protocol.END, "generation": generation})

    async def close(self) -> None:
        """Ends every rank, and returns when none is left."""
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)

    def _send(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        if self._sock is None:
            raise ConnectionResetError("the fork server is gone")
        self._sock.setblocking(True)  # packets are small and the server reads them; waiting for it is brief
        try:
            protocol.send(self._sock, message, descriptors)
        finally:
            self._sock.setblocking(False)

    def _readable(self) -> None:
        while self._sock is not None:
            try:
                received = protocol.receive(self._sock)
            except BlockingIOError:
                return
            except ConnectionError:
                received = None
            if received is None:
                self._lost()
                return
            self._heard(received[0])

    def _lost(self) -> None:
        assert self._sock is not None
        asyncio.get_running_loop().remove_reader(self._sock.fileno())
        self._sock.close()
        self._sock = None
        self._gone()
