"""One gateway after another: the roles here are trivial programs that say what gateways say."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skerry.server import handover as handover_module
from skerry.server.handover import Handover
from skerry.server.supervisor import Process, Supervisor
from tests.waiting import eventually_sync

NEWS = "TEST_NEWS_FD"
GOOD = """
import os, signal, sys, time
def tell(word): os.write(int(os.environ['TEST_NEWS_FD']), f'{word} {os.getpid()}\\n'.encode())
def leave(*_):
    tell('draining')
    while not os.path.exists(os.environ['TEST_DONE']): time.sleep(0.01)
    os._exit(0)
signal.signal(signal.SIGQUIT, leave)
signal.signal(signal.SIGTERM, leave)
tell('serving')
while True: time.sleep(60)
"""
PROGRAMS = {"good": GOOD, "dies": "raise SystemExit(3)", "mute": "import time; time.sleep(60)"}


class Cast:
    """A supervisor whose gateways run one of the programs above."""

    def __init__(self, folder: Path, choose: Callable[[str], None]) -> None:
        self.folder, self.choose = folder, choose
        self.said: list[str] = []
        self.done = folder / "done"
        reader, writer = os.pipe()
        self._pipe = reader, writer
        environment = {**os.environ, NEWS: str(writer), "TEST_DONE": str(self.done)}
        self.supervisor = Supervisor(folder, lambda: None)
        self.handover = Handover(
            self.supervisor,
            lambda: Process("gateway", dict(environment), (writer,), fresh=True),
            self.said.append,
            60.0,
        )
        self.supervisor.watch(reader, self.handover.heard)

    def turn(self, seconds: float = 0.1) -> None:
        """One turn of the launcher's loop."""
        self.supervisor.poll()
        self.handover.step()
        self.supervisor.pause(seconds)

    def until(self, condition: Callable[[], object]) -> None:
        def there() -> bool:
            self.turn()
            return bool(condition())

        eventually_sync(there, 15)

    def phases(self) -> list[str]:
        return [process.status for process in self.supervisor.processes]

    def close(self) -> None:
        self.done.touch()
        for process in self.supervisor.processes:
            process.grace_seconds = 1.0
        self.supervisor.stop("gateway")
        for descriptor in self._pipe:
            os.close(descriptor)


@pytest.fixture
def cast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cast]:
    python, program = tmp_path / "python", tmp_path / "program.py"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))

    def choose(name: str) -> None:
        program.write_text(PROGRAMS[name])

    choose("good")
    cast = Cast(tmp_path, choose)
    cast.until(lambda: cast.handover._serving)
    yield cast
    cast.close()


def test_the_old_one_is_told_to_finish_only_when_the_new_one_serves(cast: Cast) -> None:
    old = cast.supervisor.processes[0].pid
    cast.handover.begin()
    assert cast.phases() == ["running", "starting"]
    cast.until(lambda: cast.handover.outcome.number)
    assert cast.handover.outcome.ok and cast.phases() == ["draining", "running"]
    assert cast.supervisor.processes[0].pid == old, "it finishes what it has"
    cast.done.touch()
    cast.until(lambda: cast.phases() == ["running"])
    for _ in range(3):
        cast.turn(0.01)
    assert cast.phases() == ["running"], "who was replaced is not started again"


@pytest.mark.parametrize(("program", "why"), [("dies", "ended with status 3"), ("mute", "ended with signal SIGKILL")])
def test_a_new_one_that_does_not_come_up_changes_nothing(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, program: str, why: str
) -> None:
    monkeypatch.setattr(handover_module, "READY_SECONDS", 1.0)
    old = cast.supervisor.processes[0].pid
    cast.choose(program)
    cast.handover.begin()
    cast.until(lambda: cast.handover.outcome.number)
    cast.turn()
    assert not cast.handover.outcome.ok and why in cast.said[-1]
    assert [process.pid for process in cast.supervisor.processes] == [old] and cast.phases() == ["running"]


def test_one_that_ends_by_itself_is_followed_at_once(cast: Cast) -> None:
    old = cast.supervisor.processes[0].pid
    assert old is not None
    os.kill(old, signal.SIGTERM)
    cast.until(lambda: cast.phases() == ["draining", "running"])
    assert cast.supervisor.processes[0].pid == old
    cast.done.touch()
    cast.until(lambda: cast.phases() == ["running"])


def test_one_that_is_killed_is_started_again_as_ever(cast: Cast) -> None:
    old = cast.supervisor.processes[0].pid
    assert old is not None
    os.kill(old, signal.SIGKILL)
    cast.until(lambda: cast.phases() == ["running"] and cast.supervisor.processes[0].pid != old)
    assert len(cast.supervisor.processes) == 1


def test_the_old_one_may_die_while_the_new_one_starts(cast: Cast) -> None:
    old = cast.supervisor.processes[0].pid
    assert old is not None
    cast.handover.begin()
    os.kill(old, signal.SIGKILL)
    cast.until(lambda: cast.handover.outcome.number)
    cast.until(lambda: cast.phases()[-1] == "running")
    cast.done.touch()
    cast.until(lambda: cast.phases() == ["running"])


def test_asked_twice_it_is_done_twice_one_after_the_other(cast: Cast) -> None:
    cast.done.touch()
    cast.handover.begin()
    cast.handover.begin()
    cast.until(lambda: cast.handover.outcome.number == 2)
    cast.until(lambda: cast.phases() == ["running"])


def test_news_in_pieces_and_nonsense_do_no_harm(cast: Cast) -> None:
    pid = cast.supervisor.processes[0].pid
    for piece in (b"drai", b"ning 1\nserving x\n\xff\xfe\nserv", b"ing %d\n" % pid, b"hello\n", b"draining\n"):
        cast.handover.heard(piece)
    cast.turn()
    assert cast.phases() == ["running"]
