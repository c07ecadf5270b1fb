"""A fork of the launcher has as little of the launcher as a program that was executed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from skerry.server.forking import Forked, World, fork

LOOK = """
import json, os, signal, sys
from skerry.server.forking import World, fork

def look():
    print(json.dumps({
        "environment": dict(os.environ), "here": os.getcwd(), "leads": os.getsid(0) == os.getpid(),
        "open": sorted(int(name) for name in os.listdir("/dev/fd") if os.path.exists(f"/dev/fd/{name}")),
        "stdin": os.readlink("/dev/fd/0"), "term": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
        "said": open("/proc/self/cmdline").read().rstrip("\\0 "),
    }), flush=True)
    return 7

signal.signal(signal.SIGTERM, lambda *_: None)
secret = os.open("/dev/zero", os.O_RDONLY)
kept = os.open("/dev/null", os.O_RDONLY)
child = fork(look, World("server", {"SKERRY_HOME": "/home/cloud", "A": "b"}, 1, (kept,)))
assert child.wait(30) == 7
print(kept)
"""


@pytest.fixture(scope="module")
def seen() -> tuple[dict[str, object], int]:
    done = subprocess.run(
        [sys.executable, "-c", LOOK], env={**os.environ, "SECRET": "of the launcher"}, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    first, kept = done.stdout.decode().splitlines()
    return json.loads(first), int(kept)


def test_it_has_the_environment_it_was_given_and_no_other(seen: tuple[dict[str, object], int]) -> None:
    found = seen[0]["environment"]
    assert isinstance(found, dict)
    assert {name: text for name, text in found.items() if name != "LC_CTYPE"} == {
        "SKERRY_HOME": "/home/cloud",
        "A": "b",
    }


def test_it_keeps_what_it_was_given_open_and_nothing_else(seen: tuple[dict[str, object], int]) -> None:
    assert seen[0]["open"] == [0, 1, 2, seen[1]]
    assert seen[0]["stdin"] == "/dev/null"


def test_it_leads_a_session_of_its_own_and_handles_no_signal_of_the_launchers(
    seen: tuple[dict[str, object], int],
) -> None:
    assert (seen[0]["leads"], seen[0]["term"], seen[0]["here"]) == (True, True, "/")


def test_it_is_shown_under_its_own_name(seen: tuple[dict[str, object], int]) -> None:
    assert seen[0]["said"] == f"{sys.executable} -m skerry.server server /home/cloud"


def _fails() -> int:
    raise ValueError("no such thing")


def _leaves() -> int:
    raise SystemExit(2)


def _is_killed() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@pytest.mark.parametrize(
    ("run", "status"), [(lambda: 0, 0), (lambda: 3, 3), (_fails, 1), (_leaves, 2), (_is_killed, -signal.SIGKILL)]
)
def test_its_end_is_known_and_never_goes_on_as_its_parent(run: Callable[[], int], status: int, tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as log:
        child = fork(run, World("role", {}, log.fileno()))
    assert child.wait(30) == status
    assert child.poll() == status, "asked again it says the same"
    assert ("no such thing" in (tmp_path / "log").read_text()) == (run is _fails)


def test_waiting_has_an_end(tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as log:
        child = fork(lambda: signal.pause() or 0, World("role", {}, log.fileno()))
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.01)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    child.send_signal(signal.SIGTERM)  # to nobody: its number may be another's by now


def test_forked_children_look_like_others() -> None:
    assert {"pid", "returncode", "poll", "wait", "send_signal", "kill"} <= set(dir(Forked))
