"""Keeps the roles running: starts them, starts them again when they die, ends them in order."""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from skerry.server.forking import Child, World, fork
from skerry.server.role import run_role

FIRST_WAIT, LONGEST_WAIT = 0.1, 10.0
STABLE_SECONDS = 30.0
"""After running this long, a role's next restart is a quick one again."""
LOG_BYTES = 16 * 1024 * 1024


@dataclass(slots=True, eq=False)
class Process:
    """One role and its present process."""

    role: str
    environment: dict[str, str]
    descriptors: tuple[int, ...] = ()
    grace_seconds: float = 10.0
    child: Child | None = None
    started: float = 0.0
    wait: float = FIRST_WAIT
    due: float = 0.0
    """Monotonic seconds of the next start, where it is not running."""
    reason: str = ""
    restarts: int = 0
    fresh: bool = False
    """Whether it is to be a program of its own, with the code that is installed now, and no fork of the launcher."""
    once: bool = False
    """Whether it is not started again when it ends: it has a successor, or is one on trial."""
    phase: str = "running"
    """What it does while it is alive, in the words of `skerry status`."""

    @property
    def pid(self) -> int | None:
        return self.child.pid if self.child is not None and self.child.returncode is None else None

    @property
    def status(self) -> str:
        return self.phase if self.pid else "restarting"


@dataclass(slots=True, eq=False)
class Supervisor:
    """All children of the launcher but the database. Single-threaded: `poll` is called by the launcher's loop."""

    logs: Path
    on_change: Callable[[], None]
    processes: list[Process] = field(default_factory=list)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _watched: dict[int, int] = field(default_factory=dict)

    def watch(self, descriptor: int, heard: Callable[[bytes], None] = lambda _: None) -> None:
        """Wake up `pause` when this can be read; `heard` is given what was."""
        self._selector.register(descriptor, selectors.EVENT_READ, heard)

    def start(self, process: Process) -> None:
        if process not in self.processes:
            self.processes.append(process)
        with (self.logs / f"{process.role}.log").open("ab") as log:
            process.child = _execute(process, log) if process.fresh else _fork(process, log)
        process.started, process.reason = time.monotonic(), ""
        self.watch_child(process.child.pid)
        self.on_change()

    def poll(self, except_for: Sequence[str] = ()) -> None:
        """Notice who has died, and start again who is due."""
        now = time.monotonic()
        for process in list(self.processes):
            if process.child is not None and process.child.poll() is not None:
                self._note_death(process, now)
            if process.child is None and process.once:
                self.processes.remove(process)
            elif process.child is None and now >= process.due and process.role not in except_for:
                process.restarts += 1
                self.start(process)
            _cut_log(self.logs / f"{process.role}.log")

    def pause(self, seconds: float) -> None:
        """Wait until a child ends, a signal comes, or the time is over."""
        waits = [process.due - time.monotonic() for process in self.processes if process.child is None]
        for key, _ in self._selector.select(max(0.0, min([seconds, *waits]))):
            if key.fd in self._watched:
                self._selector.unregister(key.fd)
                self._watched.pop(key.fd)
                os.close(key.fd)
            else:
                key.data(os.read(key.fd, 4096))

    def stop(self, role: str) -> None:
        """End one role, all processes of it at once: SIGTERM, their grace, then SIGKILL."""
        ending = [process for process in self.processes if process.role == role]
        deadline = time.monotonic() + max((process.grace_seconds for process in ending), default=0.0)
        for process in ending:
            self.processes.remove(process)
            if process.child is not None and process.child.poll() is None:
                process.child.send_signal(signal.SIGTERM)
        for child in [process.child for process in ending if process.child is not None]:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def watch_child(self, pid: int) -> None:
        if hasattr(os, "pidfd_open"):
            descriptor = os.pidfd_open(pid)
            self._watched[descriptor] = pid
            self._selector.register(descriptor, selectors.EVENT_READ)

    def _note_death(self, process: Process, now: float) -> None:
        assert process.child is not None
        code = process.child.returncode
        assert code is not None
        how = f"signal {_signal_name(-code)}" if code < 0 else f"status {code}"
        process.reason = f"ended with {how}, see {self.logs / process.role}.log"
        if now - process.started > STABLE_SECONDS:
            process.wait = FIRST_WAIT
        process.due = now + process.wait
        process.wait = min(process.wait * 2, LONGEST_WAIT)
        process.child = None
        self.on_change()


def _fork(process: Process, log: BinaryIO) -> Child:
    world = World(process.role, process.environment, log.fileno(), process.descriptors)
    return fork(lambda: run_role(process.role), world)


def _execute(process: Process, log: BinaryIO) -> Child:
    return subprocess.Popen(
        [sys.executable, "-m", "skerry.server", process.role],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=process.environment,
        pass_fds=process.descriptors,
        cwd="/",
        start_new_session=True,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return str(number)


def _cut_log(path: Path) -> None:
    """Keep one old log. The process goes on writing to the same file, which begins anew."""
    try:
        if path.stat().st_size < LOG_BYTES:
            return
        old = path.with_suffix(".log.1")
        old.write_bytes(path.read_bytes())
        os.truncate(path, 0)
    except OSError:
        return
