"""Control groups for tasks, version 1 and 2: found out, never assumed.

A group holds everything a task starts, whatever it does to its session, so it is also what finds the last of them.
"""

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skerry.compute.engines import cgroupfs

_WANTED: Final = ("memory", "pids")
_UNIFIED: Final = ""


@dataclass(frozen=True, slots=True)
class Group:
    """One task's groups: one folder in version 2, one for each controller in version 1."""

    folders: tuple[str, ...]
    memory: str | None
    """The folder that counts memory."""

    def enter(self) -> None:
        """Move the calling process in."""
        for folder in self.folders:
            Path(folder, "cgroup.procs").write_text("0")

    def pids(self) -> set[int]:
        found: set[int] = set()
        for folder in self.folders:
            with contextlib.suppress(OSError):
                found.update(int(line) for line in Path(folder, "cgroup.procs").read_text().split())
        return found

    def oom_kills(self) -> int:
        """How many processes the kernel has killed here for want of memory."""
        if self.memory is None:
            return 0
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                for line in Path(self.memory, name).read_text().splitlines():
                    key, _, count = line.partition(" ")
                    if key == "oom_kill":
                        return int(count)
        return 0

    def kill(self) -> None:
        for pid in self.pids():
            # A pid that is listed here is in here: it was not reused by a stranger.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def remove(self) -> bool:
        """False while something is still in it."""
        return all([cgroupfs.remove(Path(folder)) for folder in self.folders])


class Cgroups:
    """The folders below which tasks get their groups: by controller in version 1, under the key `` in version 2."""

    def __init__(self, parents: Mapping[str, Path], controllers: Sequence[str]) -> None:
        self._parents = dict(parents)
        self.controllers = frozenset(controllers)

    @classmethod
    def none(cls) -> "Cgroups":
        return cls({}, ())

    @classmethod
    def detect(cls, folders: Mapping[str, tuple[Path, Path]], name: str) -> "Cgroups":
        """Make `skerry-NAME` where this process may. `folders`: controller → (mount, own group); `` is version 2."""
        unified = folders.get(_UNIFIED)
        if unified is not None and not any(controller in folders for controller in _WANTED):
            return _detect_unified(*unified, f"skerry-{name}")
        parents = {}
        for controller in _WANTED:
            if controller in folders:
                mount, own = folders[controller]
                parent = next((p for base in (own, mount) if (p := cgroupfs.make(base / f"skerry-{name}"))), None)
                if parent is not None:
                    parents[controller] = parent
        return cls(parents, tuple(parents))

    def create(self, name: str, *, memory_bytes: int | None, processes: int | None) -> Group | None:
        """The group `name`, made or found, with its limits set. None where no controller can be used."""
        if not self._parents:
            return None
        group = self.group(name)
        for folder in group.folders:
            Path(folder).mkdir(exist_ok=True)
        if memory_bytes is not None and group.memory is not None:
            _limit_memory(Path(group.memory), memory_bytes)
        pids = self._parents.get("pids") or self._parents.get(_UNIFIED)
        if processes is not None and pids is not None and "pids" in self.controllers:
            (pids / name / "pids.max").write_text(str(processes))
        return group

    def close(self) -> None:
        """Remove our folders, as far as nothing is in them."""
        for parent in self._parents.values():
            cgroupfs.remove(parent)

    def group(self, name: str) -> Group:
        """The group of that name, whether it exists or not."""
        memory = self._parents.get("memory") or self._parents.get(_UNIFIED)
        counted = str(memory / name) if memory is not None and "memory" in self.controllers else None
        return Group(tuple(str(parent / name) for parent in self._parents.values()), counted)

    def existing(self) -> dict[str, Group]:
        """All groups that are there, by name."""
        parents = [parent for parent in self._parents.values() if parent.is_dir()]
        names = {entry.name for parent in parents for entry in parent.iterdir() if entry.is_dir()}
        return {name: self.group(name) for name in names}


def _detect_unified(mount: Path, own: Path, name: str) -> Cgroups:
    """A version 2 group that hands controllers on may hold no processes, so our group's parents are tried too."""
    for base in dict.fromkeys((own, own.parent if own != mount else mount, mount)):
        available = cgroupfs.words(base / "cgroup.controllers")
        wanted = [controller for controller in _WANTED if controller in available]
        parent = cgroupfs.make(base / name) if wanted else None
        if parent is not None and cgroupfs.hand_on(base, wanted) and cgroupfs.hand_on(parent, wanted):
            return Cgroups({_UNIFIED: parent}, wanted)
        if parent is not None:
            cgroupfs.remove(parent)
    return Cgroups.none()


def _limit_memory(folder: Path, limit: int) -> None:
    # Without swap, so that the limit means memory; version 1 wants the plain limit to be set first.
    if (folder / "memory.max").exists():
        (folder / "memory.max").write_text(str(limit))
        cgroupfs.try_write(folder / "memory.swap.max", "0")
        cgroupfs.try_write(folder / "memory.oom.group", "1")
    else:
        (folder / "memory.limit_in_bytes").write_text(str(limit))
        cgroupfs.try_write(folder / "memory.memsw.limit_in_bytes", str(limit))
