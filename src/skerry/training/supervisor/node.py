"""One node's part of a job: its fork server, its ranks, and what they say."""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from skerry.training.forkserver import protocol
from skerry.training.forkserver.client import ForkServerClient
from skerry.training.forkserver.server import Settings
from skerry.training.rules.commands import Program, ProgramKind, is_python
from skerry.training.rules.environment import Generation, Place, rank_environment
from skerry.training.spec import Launcher, SupervisorSpec
from skerry.training.supervisor.boards import Boards
from skerry.training.supervisor.memory import OutOfMemory
from skerry.training.supervisor.output import RankOutput
from skerry.training.supervisor.place import Here
from skerry.training.supervisor.pulses import Pulses
from skerry.training.supervisor.wire import (
    Cleared,
    Dump,
    Exited,
    FromNode,
    Kill,
    Progress,
    Ready,
    Start,
    States,
    Stop,
    ToNode,
)

_FLUSH_SECONDS: Final = 0.2
_BOARDS_SECONDS: Final = 2.0
_STDOUT: Final = 1
_NOT_FOUND: Final = 127
_MOST_SERVERS: Final = 3


class Node:
    """Does what `ToNode` asks and says `FromNode` through `emit`, all in one event loop."""

    def __init__(self, here: Here, spec: SupervisorSpec, program: Program, emit: Callable[[FromNode], None]) -> None:
        self._here = here
        self._spec = spec
        self._program = program
        self._emit = emit
        self._tasks = 1 if spec.launcher is Launcher.NONE else spec.tasks_per_node
        self._stop_file = here.files / "stop"
        self._boards = Boards([here.files / "tensorboard", here.folder / "runs"])
        self._memory = OutOfMemory()
        self._server: ForkServerClient | None = None
        self._outputs: dict[int, RankOutput] = {}
        self._live: set[int] = set()
        self._generation = 0
        self._ends_of_server = 0
        self._numbered: set[int] = set()
        self._pulses = Pulses(0, 0, self._numbered)
        self._steps: tuple[int, bytes] | None = None

    async def run(self) -> None:
        """Gathers signs of life until it is cancelled; then no rank is left."""
        missing = self._missing()
        if missing:
            self._emit(Ready(missing, _NOT_FOUND))
        else:
            self._start_server()
        try:
            await self._gather()
        finally:
            await self.close()

    async def close(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            await server.close()
        for rank in list(self._outputs):
            self._close_output(rank)
        self._close_steps()
        with suppress(FileNotFoundError):
            self._stop_file.unlink()

    def handle(self, message: ToNode) -> None:
        if isinstance(message, Start):
            self._start(message)
        elif isinstance(message, Kill):
            self._ask(lambda server: server.end(message.generation))
        elif isinstance(message, Stop):
            self._stop_file.touch(mode=0o600)
            self._ask(lambda server: server.signal(signal.SIGTERM))
        elif isinstance(message, Dump):
            self._ask(lambda server: server.dump())

    def _missing(self) -> str:
        """What the command names and is not there. Said once, before anything starts."""
        kind, target = self._program.kind, self._program.target
        if kind is ProgramKind.SCRIPT and not (self._here.folder / target).is_file():
            return f"there is no file {target!r} in the job's source"
        if kind is ProgramKind.EXECUTABLE and not is_python(target):
            path = self._environment()["PATH"]
            if shutil.which(str(self._here.folder / target) if "/" in target else target, path=path) is None:
                return f"there is no program {target!r}, neither in the job's source nor on its PATH"
        return ""

    def _start_server(self) -> None:
        kind, target = self._program.kind, self._program.target
        if kind is ProgramKind.EXECUTABLE and is_python(target):
            target = sys.executable
        settings = Settings(
            kind=kind.value,
            target=target,
            arguments=list(self._program.arguments),
            folder=str(self._here.folder),
            preload=kind is not ProgramKind.EXECUTABLE,
        )
        self._server = ForkServerClient(settings, self._environment(), self._heard, self._server_gone)
        self._server.start()

    def _environment(self) -> dict[str, str]:
        """The same for all ranks, and there before anything is imported."""
        env = {**os.environ, **self._spec.env}
        if self._tasks > 1:
            env.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does
        env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
        env["SKERRY_STOP_FILE"] = str(self._stop_file)
        env.setdefault("SKERRY_TENSORBOARD_DIR", str(self._here.files / "tensorboard"))
        return env

    def _start(self, message: Start) -> None:
        self._generation = message.generation
        self._pulses = Pulses(message.generation, message.checkpoint_step, self._numbered)
        self._memory.happened()
        generation = Generation(
            message.generation,
            message.master_address,
            message.master_port,
            self._spec.job,
            self._spec.max_restarts,
            message.checkpoint,
            message.checkpoint_step,
        )
        read, write = os.pipe()
        os.set_blocking(write, False)
        self._watch_steps(read)
        try:
            for local_rank in range(self._tasks):
                self._start_rank(local_rank, generation, write)
        finally:
            os.close(write)

    def _start_rank(self, local_rank: int, generation: Generation, steps: int) -> None:
        place = Place(
            self._here.node_rank,
            self._here.nodes,
            local_rank,
            self._tasks,
            self._here.devices,
            self._spec.accelerators_per_task,
        )
        read, write = os.pipe()
        self._close_output(place.rank)
        tagged = place.world_size > 1
        output = RankOutput(place.rank, read, _STDOUT, tagged=tagged, on_line=self._line)
        self._outputs[place.rank] = output
        asyncio.get_running_loop().add_reader(read, self._readable, output)
        self._live.add(place.rank)
        env = rank_environment(place, generation, self._program)
        try:
            self._ask(lambda server: server.start_rank(generation.number, place.rank, env, write, steps))
        finally:
            os.close(write)

    def _ask(self, what: Callable[[ForkServerClient], None]) -> None:
        if self._server is not None:
            with suppress(OSError):  # its end is noticed by itself
                what(self._server)

    def _heard(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == protocol.READY:
            self._emit(Ready())
        elif kind == protocol.EXITED:
            self._exited(message)
        elif kind == protocol.CLEARED:
            for rank in list(self._outputs):
                self._close_output(rank)
            self._flush()
            self._emit(Cleared(message["generation"]))
        elif kind == protocol.STATES:
            self._emit(States({int(rank): state for rank, state in message["states"].items()}))

    def _exited(self, message: dict[str, Any]) -> None:
        rank, number, asked = message["rank"], message["signal"], message["asked"]
        self._live.discard(rank)
        output = self._outputs.get(rank)
        if output is not None:
            output.read()
        self._flush()
        memory = number == signal.SIGKILL and not asked and self._memory.happened()
        tail = output.tail if output else ""
        self._emit(Exited(message["generation"], rank, 0, message["exit_code"], number, asked, memory, tail))

    def _server_gone(self) -> None:
        """Its ranks died with it. Nothing of ours ends it, so somebody else did: another one takes its place."""
        self._server = None
        for rank in sorted(self._live):
            self._emit(Exited(self._generation, rank, 0, None, signal.SIGKILL, False, False, ""))
        self._live.clear()
        self._ends_of_server += 1
        if self._ends_of_server > _MOST_SERVERS:
            self._emit(Ready("the node's fork server ends again and again: its log says why", 1))
        else:
            self._start_server()

    def _line(self, rank: int, line: str) -> None:
        self._pulses.printed(rank, line, _now())

    def _readable(self, output: RankOutput) -> None:
        self._pulses.wrote(_now())
        if not output.read():
            self._close_output(output.rank)
        self._flush_if_urgent()

    def _close_output(self, rank: int) -> None:
        output = self._outputs.get(rank)
        if output is not None and not output.closed:
            output.read()
            asyncio.get_running_loop().remove_reader(output.fd)
            output.close()

    def _watch_steps(self, fd: int) -> None:
        self._close_steps()
        os.set_blocking(fd, False)
        self._steps = (fd, b"")
        asyncio.get_running_loop().add_reader(fd, self._stepped)

    def _stepped(self) -> None:
        assert self._steps is not None
        fd, part = self._steps
        data = os.read(fd, 1 << 16)
        if not data:
            self._close_steps()
            return
        *lines, rest = (part + data).split(b"\n")
        self._steps = (fd, rest[-1024:])
        now = _now()
        for line in lines:
            if line.strip():
                self._pulses.told(line.decode("ascii", "replace"), now)
        self._flush_if_urgent()

    def _close_steps(self) -> None:
        if self._steps is not None:
            asyncio.get_running_loop().remove_reader(self._steps[0])
            os.close(self._steps[0])
            self._steps = None

    async def _gather(self) -> None:
        boards_at = 0.0
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            if time.monotonic() >= boards_at:
                boards_at = time.monotonic() + _BOARDS_SECONDS
                self._read_boards()
            self._flush()

    def _read_boards(self) -> None:
        now = _now()
        first = self._here.node_rank * self._tasks
        for scalar in self._boards.read():
            self._pulses.metric(first, scalar.tag, scalar.step, now, scalar.value)
            self._pulses.wrote(now)

    def _flush_if_urgent(self) -> None:
        if self._pulses.urgent:
            self._flush()

    def _flush(self) -> None:
        progress: Progress | None = self._pulses.take(_now())
        if progress is not None:
            self._emit(progress)


def _now() -> int:
    return time.monotonic_ns() // 1_000_000
