"""Control groups as files: what version 1 and version 2 have in common for those who make groups."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path


def try_write(path: Path, text: str) -> None:
    if path.exists():
        with contextlib.suppress(OSError):
            path.write_text(text)


def make(folder: Path) -> Path | None:
    """The group, also where it was there before; None where processes cannot be put into it."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder / "cgroup.procs", os.W_OK) else None


def remove(folder: Path) -> bool:
    """False: something is in it still."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def hand_on(folder: Path, controllers: Sequence[str]) -> bool:
    """Have the groups below a version 2 group use these controllers; whether they may."""
    control = folder / "cgroup.subtree_control"
    missing = [controller for controller in controllers if controller not in words(control)]
    try:
        if missing:
            control.write_text(" ".join(f"+{controller}" for controller in missing))
    except OSError:
        return False
    return True
