"""Who dies is started again, later each time; the roles here are trivial programs."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.server import supervisor as supervisor_module
from skerry.server.supervisor import FIRST_WAIT, LONGEST_WAIT, STABLE_SECONDS, Process, Supervisor
from tests.waiting import eventually_sync

PROGRAM = {
    "sleeper": "import time; print('here', flush=True); time.sleep(60)",
    "dier": "raise SystemExit(3)",
    "stubborn": "import signal, time; signal.signal(15, signal.SIG_IGN); print('here', flush=True); time.sleep(60)",
}


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """Starts the programs above in place of roles."""
    python = tmp_path / "python"
    cases = "".join(f'{name}) exec "{sys.executable}" -c "{code}";;\n' for name, code in PROGRAM.items())
    python.write_text(f'#!/bin/sh\ncase "$3" in\n{cases}esac\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    changes: list[int] = []
    supervisor = Supervisor(tmp_path, lambda: changes.append(1))
    yield supervisor
    for process in list(supervisor.processes):
        process.grace_seconds = 0.1
        supervisor.stop(process.role)


def _said(tmp_path: Path, role: str) -> bool:
    path = tmp_path / f"{role}.log"
    return path.exists() and b"here" in path.read_bytes()


def _end(supervisor: Supervisor, process: Process) -> None:
    """Wait for the death of the present process and note it."""
    assert process.child is not None
    process.child.wait(10)
    supervisor.poll()


def test_who_is_killed_is_started_again_at_once_and_the_reason_is_known(supervisor: Supervisor) -> None:
    process = Process("sleeper", dict(os.environ), fresh=True)
    supervisor.start(process)
    first = process.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    _end(supervisor, process)
    assert process.pid is None and "SIGKILL" in process.reason
    supervisor.poll()
    assert process.pid is None, "not before its time"

    def is_back() -> bool:
        supervisor.pause(1.0)
        supervisor.poll()
        return process.pid is not None

    eventually_sync(is_back)
    assert process.pid != first and process.restarts == 1


def test_who_dies_again_and_again_is_waited_for_longer_each_time(supervisor: Supervisor) -> None:
    process = Process("dier", dict(os.environ), fresh=True)
    supervisor.start(process)
    waits = []
    for _ in range(9):
        waits.append(process.wait)
        _end(supervisor, process)
        assert process.reason.startswith("ended with status 3, see ")
        process.due = 0.0
        supervisor.poll()
    assert waits == [min(FIRST_WAIT * 2**n, LONGEST_WAIT) for n in range(9)]
    process.started -= STABLE_SECONDS + 1
    _end(supervisor, process)
    assert process.wait == FIRST_WAIT * 2, "it had run long"


def test_a_death_ends_the_pause_and_leaves_no_descriptor(supervisor: Supervisor) -> None:
    process = Process("sleeper", dict(os.environ), fresh=True)
    supervisor.start(process)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)
        supervisor.pause(30.0)  # the test would be slow
        _end(supervisor, process)
        process.due = 0.0
        supervisor.poll()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGRTMIN + 5])
def test_any_signal_can_be_told(supervisor: Supervisor, number: int) -> None:
    process = Process("sleeper", dict(os.environ), fresh=True)
    supervisor.start(process)
    assert process.pid is not None
    os.kill(process.pid, number)
    _end(supervisor, process)
    assert process.reason.startswith("ended with signal ")


def test_stopping_asks_first_and_then_insists(supervisor: Supervisor, tmp_path: Path) -> None:
    kind, stubborn = (
        Process("sleeper", dict(os.environ), fresh=True),
        Process("stubborn", dict(os.environ), grace_seconds=0.2, fresh=True),
    )
    for process in (kind, stubborn):
        supervisor.start(process)
    eventually_sync(lambda: _said(tmp_path, "sleeper") and _said(tmp_path, "stubborn"))
    children = [process.child for process in (kind, stubborn)]
    supervisor.stop("sleeper")
    supervisor.stop("stubborn")
    assert [child.returncode for child in children if child] == [-signal.SIGTERM, -signal.SIGKILL]
    assert supervisor.processes == []
    supervisor.stop("never there")


def test_a_log_that_grows_too_long_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "LOG_BYTES", 100)
    log = tmp_path / "x.log"
    log.write_bytes(b"a" * 150)
    supervisor_module._cut_log(log)
    assert log.read_bytes() == b"" and (tmp_path / "x.log.1").read_bytes() == b"a" * 150
