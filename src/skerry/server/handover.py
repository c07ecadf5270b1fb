"""A new gateway for the old one, without a moment in which nobody serves and without cutting a stream.

Both have the listening socket. The successor is started first; when it serves, the old one is told (SIGQUIT) to take no
new connections and to finish what it has. A successor that never serves changes nothing. A gateway that ends by itself,
told by somebody else, says so, and its successor is started at once instead of after its last answer.
"""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from skerry.server.supervisor import Process, Supervisor

ROLE: Final = "gateway"
SERVING, DRAINING = "serving", "draining"
"""What gateways tell the launcher, with their process id: `serving 4711`."""
READY_SECONDS: Final = 60.0
"""A successor that does not serve after this long is given up."""
MARGIN_SECONDS: Final = 30.0
"""A gateway ends its drain by itself; this much later it is ended."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reload went. `number` counts them since the launcher's start."""

    number: int = 0
    ok: bool = True
    words: str = ""


@dataclass(slots=True, eq=False)
class Handover:
    """Single-threaded like the supervisor: `step` is called by the launcher's loop, before `Supervisor.poll`."""

    supervisor: Supervisor
    make: Callable[[], Process]
    """A process of the gateway, not started."""
    say: Callable[[str], None]
    drain_seconds: float
    """Longest time a gateway may take to finish what it has."""
    outcome: Outcome = Outcome()
    _successor: Process | None = None
    _deadline: float = 0.0
    _again: bool = False
    _rest: bytes = b""
    _serving: set[int] = field(default_factory=set)
    _leaving: list[tuple[Process, float]] = field(default_factory=list)

    def begin(self) -> None:
        """Start a successor. Asked again meanwhile, another one follows: what changed in between must not be missed."""
        if self._successor is not None:
            self._again = True
            return
        self._successor = successor = self.make()
        successor.once, successor.fresh, successor.phase = True, True, "starting"
        self._deadline = time.monotonic() + READY_SECONDS
        self.supervisor.start(successor)

    def fail(self, words: str) -> None:
        """Note that a reload came to nothing, before or after its successor was started."""
        self._close(False, f"{words}. Nothing was changed: the gateway that was there goes on")

    def heard(self, data: bytes) -> None:
        """News from gateways, as they come through their pipe."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            word, _, number = line.decode(errors="replace").partition(" ")
            process = next((p for p in self._gateways() if number.isdigit() and p.pid == int(number)), None)
            if process is None:
                continue
            if word == SERVING:
                self._serving.add(int(number))
            elif word == DRAINING and not process.once:
                self._let_go(process)

    def step(self) -> None:
        successor, now = self._successor, time.monotonic()
        if successor is not None:
            if successor.child is None:
                self._successor = None
                self.fail(f"the new gateway did not come up: it {successor.reason}")
            elif successor.pid in self._serving:
                self._replace(successor)
            elif now > self._deadline:
                successor.child.kill()
                self._deadline = now + READY_SECONDS
        if self._successor is None and not any(not process.once for process in self._gateways()):
            self.supervisor.start(self.make())
        self._end_late_ones(now)

    def _replace(self, successor: Process) -> None:
        old = [process for process in self._gateways() if process is not successor and not process.once]
        successor.once, successor.phase, self._successor = False, "running", None
        for process in old:
            if process.child is None:
                self.supervisor.processes.remove(process)
                continue
            self._let_go(process)
            process.child.send_signal(signal.SIGQUIT)
        self._close(True, "new connections go to the new gateway; the old one finishes what it has")
        if self._again:
            self._again = False
            self.begin()

    def _let_go(self, process: Process) -> None:
        process.once, process.phase = True, "draining"
        self._leaving.append((process, time.monotonic() + self.drain_seconds + MARGIN_SECONDS))
        self.supervisor.on_change()

    def _end_late_ones(self, now: float) -> None:
        self._leaving = [(process, due) for process, due in self._leaving if process.child is not None]
        self._serving &= {process.pid for process in self._gateways() if process.pid is not None}
        for process, due in self._leaving:
            if now > due and process.child is not None:
                process.child.kill()

    def _gateways(self) -> list[Process]:
        return [process for process in self.supervisor.processes if process.role == ROLE]

    def _close(self, ok: bool, words: str) -> None:
        self.outcome = Outcome(self.outcome.number + 1, ok, words)
        self.say(words)
        self.supervisor.on_change()
