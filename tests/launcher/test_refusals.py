"""What cannot start says so in one clear line, at once, and leaves nothing running."""

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.runtime.settings import BadSetting, Settings

UP = [("up",), ("up", "--detach")]


@pytest.fixture
def port() -> Iterator[int]:
    """One that is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def skerry(home: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    ours = {"SKERRY_HOME": str(home), **{f"SKERRY_{name.upper()}": value for name, value in settings.items()}}
    rest = {name: value for name, value in os.environ.items() if not name.startswith("SKERRY_")}
    return subprocess.run(
        [sys.executable, "-m", "skerry.server", *arguments],
        env={**rest, **ours},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    """The reason: the last line, alone but for the stages before it."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    *stages, reason = done.stderr.strip().splitlines()
    assert all(line.startswith("skerry: folders") for line in stages), done.stderr
    return reason


@pytest.mark.parametrize("command", UP)
def test_a_port_that_is_taken(home: Path, port: int, command: tuple[str, ...]) -> None:
    reason = one_line(skerry(home, *command, "--port", str(port)))
    assert reason == (
        f"skerry: port {port} on 127.0.0.1 cannot be used (Address already in use): choose another with --port"
    )
    assert not (home / "postgres").exists()


@pytest.mark.parametrize("command", UP)
def test_a_home_that_is_in_use(home: Path, port: int, command: tuple[str, ...]) -> None:
    home.mkdir()
    with (home / "launcher.lock").open("w") as lock:
        lock.write("4711")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        reason = one_line(skerry(home, *command, "--port", str(port)))
    assert f"{home} is in use by a running Skerry (process 4711)" in reason


def test_being_asked_for_the_status_is_not_being_in_use(home: Path, port: int) -> None:
    """Whoever asks holds the lock for a moment."""
    home.mkdir()
    with (home / "launcher.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(
            [sys.executable, "-m", "skerry.server", "up", "--port", str(port)],
            env={**os.environ, "SKERRY_HOME": str(home)},
            stderr=subprocess.PIPE,
            text=True,
        ) as starting:
            assert starting.stderr is not None
            starting.stderr.readline()  # it has begun
            fcntl.flock(lock, fcntl.LOCK_UN)
            said = starting.stderr.read()
    assert f"port {port}" in said, "it went on to the next thing"


@pytest.mark.parametrize(("command", "below"), [(UP[0], "inner"), (UP[1], "")])
def test_a_home_that_is_a_file(home: Path, command: tuple[str, ...], below: str) -> None:
    home.write_text("")
    assert f"{home / below} cannot be used" in one_line(skerry(home / below, *command))


@pytest.mark.parametrize("command", UP)
def test_a_home_that_cannot_be_made(command: tuple[str, ...]) -> None:
    assert "/proc/skerry cannot be used" in one_line(skerry(Path("/proc/skerry"), *command))


def test_a_key_that_others_may_read(home: Path) -> None:
    home.mkdir()
    (home / "secret.key").write_text("k1:" + "a" * 44)
    (home / "secret.key").chmod(0o644)
    reason = one_line(skerry(home, "up"))
    assert "chmod 600" in reason and "aaaa" not in reason


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "eighty"),
        ("port", "0"),
        ("port", "70000"),
        ("max_body_bytes", "-1"),
        ("queue_seconds", "soon"),
        ("default_model", "perhaps"),
        ("log_level", "loud"),
        ("credit_limit", "a lot"),
        ("credit_limit", "-5"),
        ("credit_limit", "1e3"),
        ("currency", "dollars"),
    ],
)
def test_a_setting_that_is_none(home: Path, name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if (name, value) in (("port", "eighty"), ("log_level", "loud")):
        assert value in one_line(skerry(home, "up", **{name: value}))
    elif name == "port":
        assert value in one_line(skerry(home, "status", port=value))
    else:
        with pytest.raises(BadSetting, match=f"SKERRY_{name.upper()}"):
            Settings.from_env({f"SKERRY_{name.upper()}": value})
    assert not home.exists()


def test_a_host_that_is_none_of_ours(home: Path) -> None:
    assert "on 203.0.113.7 cannot be used" in one_line(skerry(home, "up", "--host", "203.0.113.7", "--port", "18080"))


def test_with_nothing_running_there_is_nothing_to_tell_and_nothing_to_end(home: Path) -> None:
    for made in (False, True):
        if made:
            home.mkdir()
            (home / "launcher.lock").write_text("1")  # what a dead launcher leaves
        down, status = skerry(home, "down"), skerry(home, "status", "--json")
        assert (down.returncode, down.stdout) == (0, f"nothing runs in {home}\n")
        assert json.loads(skerry(home, "down", "--json").stdout) == {"stopped": False}
        assert status.returncode == 3
        assert json.loads(status.stdout) == {"url": None, "version": None, "ready": False, "processes": []}
        assert home.exists() == made
