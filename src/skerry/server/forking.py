"""A role's process as a fork of the launcher: what all roles import is imported once, and a role that died is back in
a moment. The agent, which keeps root, and whoever is to run newly installed code are started afresh instead.
"""

import gc
import importlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from setproctitle import getproctitle, setproctitle

COMMON: Final = ("skerry.server.compose", "uvloop", "prometheus_client", "skerry.runtime.telemetry")
"""What every role but the agent loads, and most of what loading a role takes."""
_POLL_SECONDS: Final = 0.01


class Child(Protocol):
    """What the supervisor needs of a child: `subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...

    returncode: int | None

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, number: int) -> None: ...

    def kill(self) -> None: ...


@dataclass(slots=True)
class Forked:
    """A child that was forked. `returncode` as in `subprocess`: minus the signal's number where one ended it."""

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self._reap(os.WNOHANG)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            self._reap(0 if deadline is None else os.WNOHANG)
            if self.returncode is None and deadline is not None:
                if time.monotonic() > deadline:
                    raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
                time.sleep(_POLL_SECONDS)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _reap(self, how: int) -> None:
        pid, status = os.waitpid(self.pid, how)
        if pid:
            self.returncode = os.waitstatus_to_exitcode(status)


@dataclass(frozen=True, slots=True)
class World:
    """What a fork finds around it: of all that is open it keeps `descriptors` and, as output and error, `output`."""

    name: str
    environment: Mapping[str, str]
    output: int
    descriptors: Sequence[int] = ()


def load_common(home: Path) -> None:
    """Import what the roles share. Then nothing of it is looked at by the collector: a child that only reads a page
    shares it with us. The process is told by its home from now on: its first environment is no longer to be seen."""
    setproctitle(f"{getproctitle()} {home}")
    for name in COMMON:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def fork(run: Callable[[], int], world: World) -> Forked:
    """A fork of this process, which has one thread, that does nothing but `run`; its result is the exit status."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Forked(pid)
    status = 1
    try:
        _become(world)
        status = run()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # the outermost of this process: it may never go on as the launcher
        os.write(2, traceback.format_exc().encode())
    finally:
        try:
            sys.stderr.flush()
        finally:
            os._exit(status)


def _become(world: World) -> None:
    """Keep as little of the launcher as a program that was executed would have."""
    setproctitle(f"{sys.executable} -m skerry.server {world.name} {world.environment.get('SKERRY_HOME', '')}".rstrip())
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (world.output, 1), (world.output, 2)):
        os.dup2(source, target)
    _close_all_but({0, 1, 2, *world.descriptors})
    os.chdir("/")
    os.environ.clear()
    os.environ.update(world.environment)
    sys.argv = ["-m", world.name]


def _close_all_but(kept: set[int]) -> None:
    for name in os.listdir("/dev/fd"):
        number = int(name)
        if number not in kept:
            try:
                os.close(number)
            except OSError:  # the listing's own
                continue
