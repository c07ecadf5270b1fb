"""The folders that outlive an attempt, on this node."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from skerry.compute.task.ends import CannotRun
from skerry.compute.task.order import MountOrder, ProjectUser
from skerry.compute.task.sandbox import Bind

CHECKPOINTS: Final = "checkpoints"
_FOLDER: Final = 0o700


def prepare(mounts: Sequence[MountOrder], user: ProjectUser | None) -> tuple[Bind, ...]:
    """Make what is to be made, for the project alone. Raises CannotRun."""
    return tuple(_prepare(mount, user) for mount in mounts)


def without_sandbox(mounts: Sequence[MountOrder]) -> None:
    """Raises CannotRun for what needs one: without it a folder is seen where it lies, and nowhere else."""
    for mount in mounts:
        if mount.kind != CHECKPOINTS and mount.target != mount.path:
            raise CannotRun(f"{mount.target}: a {mount.kind} can be mounted in a sandbox only, and there is none here")


def checkpoint_folder(mounts: Sequence[MountOrder], *, sandboxed: bool) -> str | None:
    """What `SKERRY_CHECKPOINT_DIR` says."""
    found = next((mount for mount in mounts if mount.kind == CHECKPOINTS), None)
    return None if found is None else found.target if sandboxed else found.path


def _prepare(mount: MountOrder, user: ProjectUser | None) -> Bind:
    try:
        if mount.make:
            _make(Path(mount.path), user)
        found = _stat_beneath(mount)
    except FileNotFoundError as error:
        raise CannotRun(f"{mount.target}: there is no {mount.kind} {mount.name} on this node") from error
    except OSError as error:
        raise CannotRun(f"{mount.target}: {mount.path} cannot be used: {error.strerror}") from error
    return Bind(mount.path, mount.target, mount.read_only, (found.st_dev, found.st_ino))


def _make(path: Path, user: ProjectUser | None) -> None:
    """Folders above are for all to pass through, and the last one is the project's."""
    for folder in reversed(path.parents):
        if not folder.exists():
            folder.mkdir(mode=0o711, exist_ok=True)
            folder.chmod(0o711)
    path.mkdir(mode=_FOLDER, exist_ok=True)
    if user is not None and path.lstat().st_uid == 0:
        os.chown(path, user.uid, user.uid, follow_symlinks=False)


def _stat_beneath(mount: MountOrder) -> os.stat_result:
    """Which folder it is. Below the base nothing but folders is gone through: links there are the project's own."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    fd = os.open(mount.base, flags)
    try:
        for part in mount.name.split("/"):
            below = os.open(part, flags | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = below
        return os.fstat(fd)
    finally:
        os.close(fd)
