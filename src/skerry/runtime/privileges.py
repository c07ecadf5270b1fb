"""Dropping root: the control plane runs as `skerry`, and keeps only what it opened before.

Python itself may live where that user cannot go (a virtual environment below a 0700 home). So a role imports what it
needs, loads its key, and only then drops; folders of modules stay reachable through descriptors opened before, should
something be imported late.
"""

import ctypes
import os
import signal
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path

from skerry.db.osuser import OsUser, ensure_system_user

USER = "skerry"
GROUP = "skerry"
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def control_user() -> OsUser | None:
    """The user of gateway, server and controller; made where it is missing. None where we are not root."""
    return ensure_system_user(USER, GROUP) if os.geteuid() == 0 else None


def drop_to(user: OsUser) -> None:
    """Become `user`, for good."""
    _keep_modules_reachable()
    os.setgroups(list(user.groups))
    os.setgid(user.gid)
    os.setuid(user.uid)
    os.umask(0o027)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def end_with_parent(parent: int) -> None:
    """Get SIGTERM when the process that started us ends. To be called after `drop_to`, which forgets the wish."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _keep_modules_reachable() -> None:
    """Open the folders of `sys.path` and look modules up through the descriptors from now on."""
    if sys.platform != "linux":
        return
    roots: list[tuple[str, str]] = []
    for folder in sorted(
        {os.path.realpath(entry) for entry in sys.path if Path(entry).is_dir()}, key=len, reverse=True
    ):
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        roots.append((folder, f"/proc/self/fd/{descriptor}"))
    loaders = (
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (SourceFileLoader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )

    def through_descriptor(path: str) -> FileFinder:
        for folder, reachable in roots:
            if path == folder or path.startswith(folder + os.sep):
                return FileFinder(reachable + path[len(folder) :], *loaders)
        raise ImportError(path)

    sys.path_hooks.insert(0, through_descriptor)
    sys.path_importer_cache.clear()
