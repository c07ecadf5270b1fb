"""The Unix user of a project on this node."""

import codecs
import fcntl
import grp
import os
import pwd
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from skerry.compute.task.ends import CannotRun
from skerry.compute.task.order import ProjectUser

_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
_EXISTS: Final = 9
_TRIES: Final = 5
_PAUSE_SECONDS: Final = 0.2
_ADD_SECONDS: Final = 20.0


def ensure(user: ProjectUser, near: Path) -> None:
    """The user has its number here: made where the number is free. Needs root. Raises CannotRun.

    What counts is the number. Its name is for who looks at the node, and keeps others from taking the number: where
    users cannot be made (a read-only `/etc`), the bare number does. A lock in the folder `near` keeps tasks that start
    together from making it together.
    """
    if _is_there(user):
        return
    with (near / ".users.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(_TRIES):
            if _is_there(user) or _add(user):
                return
            time.sleep(_PAUSE_SECONDS)  # somebody else on this node makes users too


def become(user: ProjectUser | None) -> None:
    """In a child: for good. Python itself may lie where the user cannot go (a closed home above it), so what would be
    imported late is imported before: the codecs of host names and of zip."""
    for codec in ("idna", "cp437", "latin-1"):
        codecs.lookup(codec)
    if user is not None:
        os.setgroups([])
        os.setresgid(user.uid, user.uid, user.uid)
        os.setresuid(user.uid, user.uid, user.uid)


def give(path: Path, user: ProjectUser) -> None:
    """A folder of ours and what is in it, now the user's. Not for what a user has written to: links are not followed,
    but nothing keeps one from being moved meanwhile."""
    os.chown(path, user.uid, user.uid, follow_symlinks=False)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.chown(Path(folder) / name, user.uid, user.uid, follow_symlinks=False)


def passwd(user: ProjectUser | None, home: str) -> tuple[str, str]:
    """`passwd` and `group` as a task sees them: itself, root and nobody."""
    uid, gid = (user.uid, user.uid) if user is not None else (os.getuid(), os.getgid())
    name = user.name if user is not None else "task"
    users = {0: "root:x:0:0:root:/root:/usr/sbin/nologin", 65534: "nobody:x:65534:65534::/:/usr/sbin/nologin"}
    groups = {0: "root:x:0:", 65534: "nogroup:x:65534:"}
    users[uid] = f"{name}:x:{uid}:{gid}::{home}:/bin/sh"
    groups[gid] = f"{name}:x:{gid}:"
    return "\n".join(users.values()) + "\n", "\n".join(groups.values()) + "\n"


def _is_there(user: ProjectUser) -> bool:
    """Raises CannotRun where the number is somebody else's."""
    owners = []
    with suppress(KeyError):
        owners.append(pwd.getpwuid(user.uid).pw_name)
    with suppress(KeyError):
        owners.append(grp.getgrgid(user.uid).gr_name)
    if other := [name for name in owners if name != user.name]:
        words = f"number {user.uid} is {other[0]}'s on this node"
        raise CannotRun(f"{words}: set SKERRY_PROJECT_UIDS to numbers that are free on all nodes")
    return owners == [user.name, user.name]


def _add(user: ProjectUser) -> bool:
    number = str(user.uid)
    commands = (
        ["groupadd", "--gid", number, user.name],
        ["useradd", "--uid", number, "--gid", number, "--no-create-home", "--home-dir", "/nonexistent",
         "--shell", "/usr/sbin/nologin", "--no-log-init", user.name],
    )  # fmt: skip
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, timeout=_ADD_SECONDS, check=False, env={"PATH": _PATH})
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode not in (0, _EXISTS):
            return False
    return True
