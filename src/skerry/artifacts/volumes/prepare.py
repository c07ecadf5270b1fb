"""Makes the folders of volumes on a node, then becomes the program that uses them:

    python -m skerry.artifacts.volumes.prepare PROGRAM [ARGUMENTS…]    (a module)

Standard library only; run as root where the engine is. What to make stands in `$SKERRY_FILES/volumes.json`, a list of
`{root, project, volume, bytes, home, members}`; each of so many members of a cluster has a folder of its own in it.

Sizes are enforced by project quotas where the file system has them (XFS, and ext4 mounted with `prjquota`); else they
are what is paid, and nothing keeps a program from writing more. The log says which.
"""

import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any, Final

_ID: Final = re.compile(r"[a-z]+_[0-9a-z]{26}")
_REFUSED: Final = 78
_SECONDS: Final = 20.0


def main(arguments: list[str]) -> int:
    orders = json.loads(Path(os.environ["SKERRY_FILES"], "volumes.json").read_text(encoding="utf-8"))
    for order in orders:
        try:
            words = _make(order)
        except (OSError, ValueError) as error:
            sys.stderr.write(f"skerry: the folder of volume {order.get('volume')} cannot be made: {error}\n")
            return _REFUSED
        sys.stderr.write(f"volume {order['volume']}: {words}\n")
    sys.stderr.flush()
    os.umask(0o022)  # the engine's is 077: the folders that instances are made of are passed through by other users
    os.execv(sys.executable, [sys.executable, "-I", "-m", *arguments])  # noqa: S606 - a list of words, no shell


def _make(order: dict[str, Any]) -> str:
    """How its size is kept."""
    root, project, volume = Path(order["root"]), order["project"], order["volume"]
    if not root.is_absolute() or not _ID.fullmatch(project) or not _ID.fullmatch(volume):
        raise ValueError("this is not the place of a volume")
    folder = root / project / volume
    for parent in (root, root / project):
        if not parent.is_dir():
            parent.mkdir(mode=0o711, exist_ok=True)
            parent.chmod(0o711)
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        # A home is its root user's; a volume is written to by the project's instances and jobs, under different users.
        folder.chmod(0o700 if order["home"] else 0o1777)
    for number in range(order["members"]):
        (folder / str(number)).mkdir(mode=0o700, exist_ok=True)
    return _limit(folder, volume, int(order["bytes"]))


def _limit(folder: Path, volume: str, size: int) -> str:
    where = _quota_mount(folder)
    if where is None:
        return f"its {size} bytes are not enforced, since the file system has no project quotas"
    number = str(zlib.crc32(volume.encode()) & 0x7FFFFFFF or 1)
    for command in (
        ["chattr", "+P", "-p", number, str(folder)],
        ["setquota", "-P", number, "0", str(-(-size // 1024)), "0", "0", where],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        if done.returncode != 0:
            return f"its {size} bytes are not enforced: {command[0]}: {done.stderr.strip()}"
    return f"limited to {size} bytes by a project quota"


def _quota_mount(folder: Path) -> str | None:
    """The mount point that holds the folder, where it has project quotas."""
    found: tuple[str, str] = ("", "")
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, where, _, options, *_ = line.split(" ")
        if folder.is_relative_to(where) and len(where) >= len(found[0]):
            found = where, options
    return found[0] if {"prjquota", "pquota"} & set(found[1].split(",")) else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
