"""The operating system's side of running PostgreSQL: its unprivileged user, and whom a folder lets in."""

import grp
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class OsUser:
    """Whom to run a child as; `groups` are supplementary ones."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def popen_arguments(self) -> dict[str, Any]:
        """Nothing where we are that user already: only root can change."""
        if os.geteuid() != 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": list(self.groups)}


def current_user() -> OsUser:
    uid = os.geteuid()
    try:
        return OsUser(pwd.getpwuid(uid).pw_name, uid, os.getegid())
    except KeyError:
        raise LookupError(f"user id {uid} has no name in /etc/passwd; PostgreSQL needs one") from None


def ensure_system_user(name: str, group: str) -> OsUser:
    """The system user `name` with access to `group`; both are made where they are missing. Needs root."""
    ensure_system_group(group)
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        # A user of the group's own name gets that group; any other one a group of its own.
        primary = ("--gid", group) if name == group else ("--user-group",)
        _run("useradd", "--system", *primary, "--no-create-home", "--shell", "/usr/sbin/nologin", name)
        entry = pwd.getpwnam(name)
    return OsUser(name, entry.pw_uid, entry.pw_gid, (grp.getgrnam(group).gr_gid,))


def ensure_system_group(name: str) -> int:
    """The id of group `name`, made where it is missing. Needs root."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        _run("groupadd", "--system", "--force", name)
        return grp.getgrnam(name).gr_gid


def may(user: OsUser, access: str, path: Path) -> bool:
    """Whether `user` has `access` (`r`, `w` or `x`) to `path`, through all folders above it. The kernel is asked."""
    test = subprocess.run(["test", f"-{access}", str(path)], cwd="/", check=False, **user.popen_arguments())
    return test.returncode == 0


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # 9: somebody else was faster, which is as good
    if done.returncode not in (0, 9):
        raise LookupError(f"{command[0]} failed: {done.stderr.strip()}")
