"""`ip` of iproute2, and the few things that are quicker without it."""

import contextlib
import ctypes
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from skerry.compute.fabric.base import FabricError

NAMED: Final = Path("/run/netns")
_SECONDS: Final = 20.0
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CLONE_NEWNET: Final = 0x40000000
_libc: Final = ctypes.CDLL(None, use_errno=True)


class Run(Protocol):
    """Runs a program and gives its output. Raises FabricError."""

    def __call__(self, arguments: Sequence[str], text: str = "") -> str: ...


def named(name: str) -> Path:
    """Where a named network namespace is."""
    return NAMED / name


def run(arguments: Sequence[str], text: str = "") -> str:
    """A program with `text` as its input. Raises FabricError with what it said."""
    try:
        done = subprocess.run(
            arguments,
            input=text,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env={"PATH": _PATH, "LANG": "C.UTF-8"},
        )
    except FileNotFoundError as error:
        raise FabricError(f"{arguments[0]} is not installed (package iproute2)") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FabricError(f"{' '.join(arguments)}: {error}") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).replace("\n", "; ")
        raise FabricError(f"{' '.join(arguments)}: {said or f'exit code {done.returncode}'}")
    return done.stdout


def batch(lines: Sequence[str], namespace: str | None = None) -> None:
    """Several `ip` commands in one process, in order; the first that fails ends it. Raises FabricError."""
    where = ["-n", namespace] if namespace else []
    run(["ip", *where, "-batch", "-"], "\n".join(lines) + "\n")


def links(namespace: str) -> list[dict[str, Any]]:
    """All interfaces of a named namespace."""
    found: list[dict[str, Any]] = json.loads(run(["ip", "-n", namespace, "-json", "link", "show"]) or "[]")
    return found


@contextlib.contextmanager
def inside(path: Path) -> Iterator[None]:
    """The calling thread in the network namespace at `path`. Nothing may be awaited meanwhile."""
    with open("/proc/thread-self/ns/net", "rb") as back, open(path, "rb") as there:
        _setns(there.fileno())
        try:
            yield
        finally:
            _setns(back.fileno())


def socket_in(path: Path) -> socket.socket:
    """A TCP socket that belongs to the namespace at `path`, used from this one."""
    with inside(path):
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)


def received(path: Path, interface: str) -> int | None:
    """Bytes that an interface of the namespace at `path` has received; None: there is none."""
    with inside(path):
        text = Path("/proc/thread-self/net/dev").read_text()
    for line in text.splitlines():
        name, colon, counters = line.strip().partition(":")
        if colon and name == interface:
            return int(counters.split()[0])
    return None


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise FabricError(f"cannot enter a network namespace: {os.strerror(number)}")
