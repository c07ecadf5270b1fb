"""The checkpoint folder, as it looks from outside."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from skerry.training.rules.checkpoints import Folder, abandoned, newest_complete
from skerry.training.user import folders


@dataclass(frozen=True, slots=True)
class Look:
    """`newest`: the newest complete one. `growth` changes while something is being written."""

    newest: Folder | None = None
    growth: tuple[int, int] = (0, 0)

    @property
    def step(self) -> int | None:
        return self.newest.step if self.newest else None


def look(folder: Path | None) -> Look:
    if folder is None:
        return Look()
    found = folders(folder)
    return Look(newest_complete(found), _growth(folder, found))


def remove_abandoned(folder: Path | None) -> list[Path]:
    """What no rank will finish. Only while none runs."""
    if folder is None:
        return []
    removed = []
    for old in abandoned(folders(folder)):
        with suppress(OSError):
            shutil.rmtree(folder / old.name)
            removed.append(folder / old.name)
    return removed


def _growth(folder: Path, found: list[Folder]) -> tuple[int, int]:
    """(files, bytes) of the newest checkpoint by number, and how many there are."""
    if not found:
        return (0, 0)
    last = max(found, key=lambda one: one.step or 0)
    size = 0
    for name in last.files:
        with suppress(OSError):
            size += (folder / last.name / name).stat().st_size
    return (len(found) + len(last.files), size)
