"""The host program's end of the stage: starting it, talking to it, and its pipes."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from typing import Final

import msgspec

from skerry.compute.instances.host.console import Console, pump
from skerry.compute.instances.host.drivers.base import CannotStart
from skerry.compute.instances.host.plan import GO, STARTED, StagePlan

MODULE: Final = "skerry.compute.instances.host.stage"
_SECONDS: Final = 60.0


class Stage:
    """A running stage. To be begun in the main thread: the stage dies with the thread that started it."""

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, pumps: list[asyncio.Task[None]]
    ) -> None:
        self.pid = process.pid
        self._process = process
        self._control = control
        self._pumps = pumps
        self._pidfd = os.pidfd_open(process.pid)
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._pidfd, self._collect)

    @classmethod
    async def begin(cls, plan: StagePlan, console: Console) -> "Stage":
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with tempfile.TemporaryFile() as file, theirs:
            file.write(msgspec.json.encode(plan))
            file.flush()
            file.seek(0)
            process = subprocess.Popen(  # noqa: ASYNC220 - in this thread: it dies with it, and only forks
                [sys.executable, "-I", "-m", MODULE, str(file.fileno()), str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(file.fileno(), theirs.fileno()),
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
                start_new_session=True,
                cwd="/",
            )
        assert process.stdout is not None and process.stderr is not None
        pumps = [
            asyncio.get_running_loop().create_task(pump(os.dup(pipe.fileno()), take))
            for pipe, take in ((process.stdout, console.script_line), (process.stderr, console.log_line))
        ]
        process.stdout.close()
        process.stderr.close()
        return cls(process, ours, pumps)

    async def expect(self, word: bytes, console: Console) -> None:
        """Raises CannotStart where the stage ends instead."""
        if await self._read(1) != word:
            raise await self._failure(console)

    def go(self) -> None:
        with contextlib.suppress(OSError):  # it has ended: the next thing expected of it says so
            self._control.send(GO)

    async def started(self, console: Console) -> int:
        """The pid of the instance's first process. Raises CannotStart."""
        await self.expect(STARTED, console)
        digits = b""
        while (byte := await self._read(1)) not in (b"\n", b""):
            digits += byte
        return int(digits)

    async def end(self) -> None:
        """At once; what it has begun in its own namespaces ends with it, or with its standard input."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            await self.ended
        self._control.close()
        # Processes that ended a moment ago may still be letting go of the pipes.
        await asyncio.wait(self._pumps, timeout=2)
        for task in self._pumps:
            task.cancel()

    def _collect(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.ended.set_result(self._process.wait())

    async def _read(self, count: int) -> bytes:
        try:
            async with asyncio.timeout(_SECONDS):
                return await asyncio.get_running_loop().sock_recv(self._control, count)
        except ConnectionResetError:  # it ended with our last word unread
            return b""
        except TimeoutError:
            raise CannotStart(f"the instance was not set up within {_SECONDS:g} s", final=False) from None

    async def _failure(self, console: Console) -> CannotStart:
        await asyncio.wait(self._pumps, timeout=5)
        words = [line for line in console.last_words if line.strip()]
        return CannotStart(words[-1].removeprefix("skerry: ") if words else "the instance ended while it was set up")
