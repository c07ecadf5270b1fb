"""Processes below the fork server, as /proc shows them."""

import contextlib
import ctypes
import os
import signal
import time
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process when `parent` ends, at once if it has already."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def call_it(name: str) -> None:
    """What `ps -o comm` and `top` show; fifteen bytes of it."""
    _LIBC.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def adopt_orphans() -> None:
    """What ranks leave behind becomes our child instead of init's, so that we can end it."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(of: int) -> list[int]:
    """Live ones; zombies are nobody to be ended."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat(int(name))
            if fields is not None and fields[1] == str(of) and fields[0] != "Z":
                found.append(int(name))
    return found


def stat(pid: int) -> tuple[str, str] | None:
    """(letter of its state, parent), or None where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    return fields[0].decode(), fields[1].decode()


def kill_group(leader: int) -> None:
    """The leader and all of its process group."""
    for end in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            end(leader, signal.SIGKILL)


def pause() -> None:
    time.sleep(0.002)
