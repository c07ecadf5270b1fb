"""The parent of all ranks of one node: imports once, forks often. One thread, no event loop, never touches CUDA.

It belongs to one supervisor and thereby to one customer. It lives as long as the other end of its socket is open; when
that closes, however its supervisor died, it ends every rank and itself. Ranks die with it by PR_SET_PDEATHSIG.
"""

import errno
import os
import resource
import select
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any

from skerry.training.forkserver import preload, processes, protocol
from skerry.training.forkserver.child import Child


@dataclass(frozen=True, slots=True)
class Settings:
    """`kind`, `target`, `arguments`: what runs in every rank (rules/commands.py)."""

    kind: str
    target: str
    arguments: list[str]
    folder: str
    preload: bool


@dataclass(slots=True)
class _Rank:
    generation: int
    rank: int
    pid: int
    asked: bool = False
    """We are ending it: its end is nobody's fault."""


class ForkServer:
    def __init__(self, sock: socket.socket, settings: Settings) -> None:
        self._sock = sock
        self._settings = settings
        self._ranks: dict[int, _Rank] = {}
        self._pid = os.getpid()
        self._wake, waker = socket.socketpair()
        self._waker = waker
        self._limits = _limits()

    def prepare(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the supervisor decides; the engine signals the whole group
        processes.adopt_orphans()
        began = time.monotonic()
        if self._settings.preload:
            preload.preload()
        for end in (self._wake, self._waker):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._say({"type": protocol.READY, "threads": preload.threads(), "seconds": time.monotonic() - began})

    def serve(self) -> Child | None:
        """Until the supervisor is gone. Returns in a forked rank too, with what it is to run."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._wake.fileno() in ready:
                self._drain()
            self._reap()
            if self._sock.fileno() not in ready:
                continue
            received = self._receive()
            if received is None:
                self._end()
                return None
            child = self._handle(*received)
            if child is not None:
                return child

    def _receive(self) -> tuple[dict[str, Any], list[int]] | None:
        try:
            return protocol.receive(self._sock)
        except ConnectionError:
            return None

    def _handle(self, message: dict[str, Any], descriptors: list[int]) -> Child | None:
        kind = message["type"]
        if kind == protocol.START:
            return self._start(message, descriptors)
        if kind == protocol.SIGNAL:
            self._signal(message["signal"])
        elif kind == protocol.DUMP:
            self._dump()
        elif kind == protocol.END:
            self._end()
            self._say({"type": protocol.CLEARED, "generation": message["generation"]})
        return None

    def _start(self, message: dict[str, Any], descriptors: list[int]) -> Child | None:
        pid = os.fork()
        if pid == 0:
            processes.die_with_parent(self._pid)
            signal.set_wakeup_fd(-1)
            for end in (self._sock, self._wake, self._waker):
                end.close()
            return Child(
                self._settings.kind,
                self._settings.target,
                self._settings.arguments,
                self._settings.folder,
                message["env"],
                descriptors[0],
                descriptors[1],
                self._limits,
            )
        for descriptor in descriptors:
            os.close(descriptor)
        self._ranks[pid] = _Rank(message["generation"], message["rank"], pid)
        self._say({"type": protocol.STARTED, "rank": message["rank"], "pid": pid})
        return None

    def _signal(self, number: int) -> None:
        for rank in self._ranks.values():
            os.kill(rank.pid, number)

    def _dump(self) -> None:
        """To Python ranks only: the signal's default would end any other program."""
        if self._settings.kind != "executable":
            self._signal(signal.SIGUSR2)
        states = {}
        for rank in self._ranks.values():
            fields = processes.stat(rank.pid)
            states[str(rank.rank)] = fields[0] if fields else "?"
        self._say({"type": protocol.STATES, "states": states})

    def _end(self) -> None:
        """Whoever died before now did so by themselves; the rest, and whatever they started, is ended."""
        self._reap()
        for rank in self._ranks.values():
            rank.asked = True
            processes.kill_group(rank.pid)
        while self._ranks or (left := processes.children(self._pid)):
            if not self._ranks:
                for pid in left:
                    processes.kill_group(pid)
            self._reap()
            processes.pause()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            rank = self._ranks.pop(pid, None)
            if rank is not None:
                code = os.waitstatus_to_exitcode(status)
                self._say(
                    {
                        "type": protocol.EXITED,
                        "generation": rank.generation,
                        "rank": rank.rank,
                        "asked": rank.asked,
                        "exit_code": code if code >= 0 else None,
                        "signal": -code if code < 0 else None,
                    }
                )

    def _drain(self) -> None:
        try:
            while self._wake.recv(4096):
                pass
        except BlockingIOError:
            return

    def _say(self, message: dict[str, Any]) -> None:
        try:
            protocol.send(self._sock, message)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
                raise  # else: it is gone, and the next look at the socket says so


def _limits() -> dict[int, tuple[int, int]]:
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {which: resource.getrlimit(which) for which in {getattr(resource, name) for name in names}}


def _nothing(_number: int, _frame: Any) -> None:
    """A handler is needed for the wake-up to be written."""
