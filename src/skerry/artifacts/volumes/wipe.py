"""Removes what was in a volume: `python -m skerry.artifacts.volumes.wipe`, run by the engine as root where it lies.

Standard library only. What to remove stands in `$SKERRY_FILES/wipe.json`, `{root, project, volume}`; what was removed
goes to `$SKERRY_REPORT`. File systems give nobody blocks with somebody else's bytes in them, so removing is enough for
whoever reaches the storage through it; disks that leave the building are the operator's matter.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Final

_ID: Final = re.compile(r"[a-z]+_[0-9a-z]{26}")


def main() -> int:
    wanted = json.loads(Path(os.environ["SKERRY_FILES"], "wipe.json").read_text(encoding="utf-8"))
    root, project, volume = Path(wanted["root"]), wanted["project"], wanted["volume"]
    if not root.is_absolute() or not _ID.fullmatch(project) or not _ID.fullmatch(volume):
        sys.stderr.write("skerry: this is not the place of a volume\n")
        return 1
    files = size = 0
    for place in _places(root / project, volume):
        if place.is_mount():
            sys.stderr.write(f"skerry: {place} is still mounted\n")
            return 1
        counted = _count(place)
        files, size = files + counted[0], size + counted[1]
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()
    _report({"files": files, "bytes": size, "node": os.environ.get("SKERRY_NODE_NAME", "")})
    sys.stdout.write(f"removed {files} files with {size} bytes\n")
    return 0


def _places(folder: Path, volume: str) -> list[Path]:
    """The volume's folder, and what a host keeps beside it (an image, a lock)."""
    if not folder.is_dir():
        return []
    return sorted(one for one in folder.iterdir() if one.name == volume or one.name.startswith(f"{volume}."))


def _count(place: Path) -> tuple[int, int]:
    """Files, and bytes they take on the disk."""
    if place.is_symlink() or not place.is_dir():
        return 1, place.lstat().st_blocks * 512
    files = size = 0
    for folder, _, names in os.walk(place):
        for name in names:
            files += 1
            size += Path(folder, name).lstat().st_blocks * 512
    return files, size


def _report(words: dict[str, object]) -> None:
    where = os.environ.get("SKERRY_REPORT")
    if where:
        draft = Path(f"{where}.new")
        draft.write_text(json.dumps(words), encoding="utf-8")
        draft.replace(where)


if __name__ == "__main__":
    sys.exit(main())
