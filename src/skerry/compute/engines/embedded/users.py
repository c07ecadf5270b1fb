"""The unprivileged user that tasks run as when the agent is root, and whether it can reach a folder."""

import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

RUN_USER: Final = "skerry_run"
_USER_EXISTS = 9  # useradd(8): somebody else was faster


class NoSuchUser(RuntimeError):
    """The user is missing and cannot be made."""


@dataclass(frozen=True, slots=True)
class RunAs:
    """Whom tasks run as."""

    uid: int
    gid: int


def ensure_user(name: str = RUN_USER) -> RunAs:
    """The system user, made where it is missing. Needs root for that. Raises NoSuchUser."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        _add_user(name)
        entry = pwd.getpwnam(name)
    return RunAs(entry.pw_uid, entry.pw_gid)


def can_reach(user: RunAs, folder: Path) -> bool:
    """Whether the user may pass through every folder on the way to this one, itself included (mode bits, no ACLs)."""
    existing = [path for path in (folder, *folder.parents) if path.exists()]
    return all(_may_pass(user, path.stat()) for path in existing)


def _may_pass(user: RunAs, info: os.stat_result) -> bool:
    if info.st_uid == user.uid:
        return bool(info.st_mode & stat.S_IXUSR)
    if info.st_gid == user.gid:
        return bool(info.st_mode & stat.S_IXGRP)
    return bool(info.st_mode & stat.S_IXOTH)


def _add_user(name: str) -> None:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoSuchUser(f"user {name} is missing and useradd cannot be run: {error}") from error
    if done.returncode not in (0, _USER_EXISTS):
        raise NoSuchUser(f"user {name} is missing and useradd failed: {done.stderr.strip()}")
