"""The command, from its start to its end: in the sandbox or, where none is needed and none can be had, beside it."""

import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skerry.compute.task import inner
from skerry.compute.task.ends import CannotRun

_START_SECONDS: Final = 30.0
_PORT: Final = struct.Struct("<H")
_NOT_PASSED: Final = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, 32, 33} | {
    # Raised by a process's own doing; Python's own handling has to stay.
    signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGSYS,
    signal.SIGPIPE,
}  # fmt: skip
PASSED: Final = sorted(number for number in signal.valid_signals() if number not in _NOT_PASSED)


@dataclass(frozen=True, slots=True)
class Start:
    """What the first process inside is told. `uid` None: it stays who it is."""

    command: Sequence[str]
    folder: str
    uid: int | None
    gid: int | None
    mounted: Sequence[tuple[str, tuple[int, int]]] = ()
    """What must be found at these paths: device and inode."""
    umask: int = 0o077

    def line(self, env: Mapping[str, str]) -> bytes:
        told = {
            "command": list(self.command), "env": dict(env), "folder": self.folder,
            "uid": self.uid, "gid": self.gid, "umask": self.umask, "mounted": list(self.mounted),
        }  # fmt: skip
        return json.dumps(told).encode() + b"\n"


class Running:
    """One command. Made by `begin`; `follow` it to its end."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, relay: socket.socket) -> None:
        self._process = process
        self._control = control
        self.relay = relay
        self.selector = selectors.DefaultSelector()

    @classmethod
    def begin(cls, prefix: Sequence[str]) -> "Running":
        """Start our first process behind `prefix` (a sandbox's arguments, or nothing). Raises CannotRun.

        It is told what to run by `tell`. Signals for the wrapper's group do not reach it: they are passed on, once.
        """
        ours, theirs = socket.socketpair()
        command = [*prefix, sys.executable, "-I", "-S", str(Path(inner.__file__)), str(theirs.fileno())]
        marks = {name: value for name, value in os.environ.items() if name.startswith("SKERRY_") or name == "LANG"}
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=marks,
                cwd="/",
                process_group=0,
                preexec_fn=_deafen,
            )
        except OSError as error:
            raise CannotRun(f"the sandbox cannot be started: {error}") from error
        theirs.close()
        ours.settimeout(_START_SECONDS)
        try:
            data, fds, _, _ = socket.recv_fds(ours, _PORT.size, 1)
        except OSError as error:
            process.kill()
            raise CannotRun(f"the sandbox did not start: {error}") from error
        if not fds:
            process.kill()
            raise CannotRun(f"the sandbox did not start (code {process.wait()}): see the lines above")
        ours.settimeout(None)
        relay = socket.socket(fileno=fds[0])
        cls._require_port(relay, data)
        return cls(process, ours, relay)

    @property
    def port(self) -> int:
        found: int = self.relay.getsockname()[1]
        return found

    def tell(self, start: Start, env: Mapping[str, str]) -> None:
        self._control.sendall(start.line(env))

    def pass_on(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self._control.sendall(bytes([number]))

    def follow(self, woken: int, on_signal: Callable[[int], None], on_tick: Callable[[], float]) -> int:
        """The wait status. `woken` is from `listen`; `on_tick` says in how many seconds it wants to be called again."""
        self.selector.register(woken, selectors.EVENT_READ)
        self.selector.register(self._control, selectors.EVENT_READ)
        while True:
            for key, _ in self.selector.select(on_tick()):
                if key.fileobj == woken:
                    for number in _read(woken):
                        if number in PASSED:
                            on_signal(number)
                            self.pass_on(number)
                elif key.fileobj is self._control:
                    return self._status()
                else:
                    key.data()

    def _status(self) -> int:
        data = self._control.recv(inner.STATUS.size, socket.MSG_WAITALL)
        code = self._process.wait()
        if len(data) == inner.STATUS.size:
            (status,) = inner.STATUS.unpack(data)
            return int(status)
        # Our own process was killed: for memory, or by somebody who found it.
        number = -code if code < 0 else code - 128 if code > 128 else 0
        return number if number in signal.valid_signals() else signal.SIGKILL

    @staticmethod
    def _require_port(relay: socket.socket, data: bytes) -> None:
        if relay.family != socket.AF_INET or relay.getsockname()[1] != _PORT.unpack(data)[0]:
            raise CannotRun("the sandbox did not start as it should")


def listen() -> int:
    """Take note of signals from now on, rather than die of them: their numbers can be read from the descriptor."""
    woken, wake = os.pipe()
    for fd in (woken, wake):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in PASSED:
        signal.signal(number, lambda *_: None)
    return woken


def end_like(status: int) -> int:
    """The exit code to end with; does not return where a signal ended the command: then it ends us too."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        signal.set_wakeup_fd(-1)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
        return 128 + number
    return os.WEXITSTATUS(status)


def _deafen() -> None:
    """For what stands between us and the command: whoever signals them all means the command, and we pass that on."""
    os.umask(0o022)  # of the folders that the sandbox makes on the way to what it shows; the command has its own
    for number in PASSED:
        signal.signal(number, signal.SIG_IGN)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 512)
    except BlockingIOError:
        return b""
