"""This process's control groups: where they are, and which it is in. Runners on nodes load this: it imports little."""

from pathlib import Path
from typing import Final, NamedTuple

PROC: Final = Path("/proc")
UNIFIED: Final = ""
"""Key of the version 2 tree: it has no controller in its name."""


class CgroupFolder(NamedTuple):
    """Where a controller is mounted and which folder below it this process is in."""

    mount: Path
    own: Path


def cgroup_folders(proc: Path = PROC) -> dict[str, CgroupFolder]:
    """This process's control groups by controller (`memory`, `cpu`, `pids` …); the version 2 tree has the key ``."""
    mounts = _cgroup_mounts(proc)
    folders: dict[str, CgroupFolder] = {}
    for line in _lines(proc / "self/cgroup"):
        _, controllers, path = line.split(":", 2)
        for controller in controllers.removeprefix("name=").split(","):
            if controller in mounts:
                root, mount = mounts[controller]
                below = path.removeprefix(root) if root != "/" else path
                own = mount / below.lstrip("/")
                folders[controller] = CgroupFolder(mount, own if own.is_dir() else mount)
    return folders


def _cgroup_mounts(proc: Path) -> dict[str, tuple[str, Path]]:
    """Controller → (folder of the hierarchy that is mounted, where). Format: proc(5), `/proc/[pid]/mountinfo`."""
    mounts: dict[str, tuple[str, Path]] = {}
    for line in _lines(proc / "self/mountinfo"):
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, mount = before.split(" ")[3:5]
        if kind == "cgroup2":
            mounts.setdefault(UNIFIED, (root, Path(mount)))
        elif kind == "cgroup":
            for option in options.split(" ")[-1].split(","):
                mounts.setdefault(option.removeprefix("name="), (root, Path(mount)))
    return mounts


def _lines(path: Path) -> list[str]:
    return (read(path) or "").splitlines()


def read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
