"""Control groups of instances, version 1 and 2, in a folder of their own: an instance outgrows its host program's
group.

What an instance writes into memory file systems counts against its memory too.
"""

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skerry.compute.engines import cgroupfs
from skerry.compute.instances.host.devices import DeviceNode
from skerry.compute.instances.host.spec import InstanceLimits

FOLDER: Final = "skerry-instances"
PERIOD_US: Final = 100_000
_WANTED: Final = ("memory", "cpu", "pids")
_ALLOWED_DEVICES: Final = (
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
)
"""null, zero, full, random, urandom, tty, ptmx, pseudo terminals."""


class NoLimits(RuntimeError):
    """A limit was asked for that this node cannot set."""


@dataclass(frozen=True, slots=True)
class Groups:
    """`parents`: controller → our folder; the key `` is version 2, for all of them."""

    parents: Mapping[str, Path]
    controllers: frozenset[str]

    @classmethod
    def detect(cls, mount: Path = Path("/sys/fs/cgroup")) -> "Groups":
        """Find and make our folders. A `unified` folder beside version 1 says nothing: what has controllers counts."""
        available = cgroupfs.words(mount / "cgroup.controllers")
        if available:
            wanted = [name for name in _WANTED if name in available]
            parent = cgroupfs.make(mount / FOLDER)
            if parent is not None and cgroupfs.hand_on(mount, wanted) and cgroupfs.hand_on(parent, wanted):
                return cls({"": parent}, frozenset(wanted))
            return cls({}, frozenset())
        made = {name: cgroupfs.make(mount / name / FOLDER) for name in (*_WANTED, "devices") if (mount / name).is_dir()}
        parents = {name: folder for name, folder in made.items() if folder is not None}
        return cls(parents, frozenset(parents))

    def create(self, name: str, limits: InstanceLimits, devices: Sequence[DeviceNode]) -> list[str]:
        """The folders of a group with its limits set. Raises NoLimits for one that cannot be had here."""
        asked = {"memory": limits.memory_bytes, "cpu": limits.cpus, "pids": limits.processes}
        for controller, value in asked.items():
            if value is not None and controller not in self.controllers:
                raise NoLimits(f"this node cannot limit {controller}: its control groups lack it")
        folders = self.folders(name)
        for folder in folders:
            folder.mkdir(exist_ok=True)
        with contextlib.ExitStack() as undo:
            undo.callback(self.remove, name)
            try:
                self._limit(name, limits, devices)
            except OSError as error:
                raise NoLimits(f"a limit cannot be set on this node: {error}") from error
            undo.pop_all()
        return [str(folder) for folder in folders]

    def folders(self, name: str) -> list[Path]:
        return [parent / name for parent in self.parents.values()]

    def names(self) -> set[str]:
        return {entry.name for parent in self.parents.values() for entry in parent.iterdir() if entry.is_dir()}

    def pids(self, name: str) -> set[int]:
        """As this namespace numbers them."""
        found: set[int] = set()
        for folder in self.folders(name):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in (folder / "cgroup.procs").read_text().split())
        return found - {0}

    def kill(self, name: str) -> None:
        for pid in self.pids(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def remove(self, name: str) -> bool:
        """False while something is still in it."""
        return all([cgroupfs.remove(folder) for folder in self.folders(name)])

    def _limit(self, name: str, limits: InstanceLimits, devices: Sequence[DeviceNode]) -> None:
        if "" in self.parents:
            folder = self.parents[""] / name
            if limits.memory_bytes is not None:
                (folder / "memory.max").write_text(str(limits.memory_bytes))
                cgroupfs.try_write(folder / "memory.swap.max", "0")
            if limits.cpus is not None:
                (folder / "cpu.max").write_text(f"{quota(limits.cpus)} {PERIOD_US}")
            if limits.processes is not None:
                (folder / "pids.max").write_text(str(limits.processes))
            return
        if limits.memory_bytes is not None:
            folder = self.parents["memory"] / name
            (folder / "memory.limit_in_bytes").write_text(str(limits.memory_bytes))
            cgroupfs.try_write(folder / "memory.memsw.limit_in_bytes", str(limits.memory_bytes))
        if limits.cpus is not None:
            folder = self.parents["cpu"] / name
            (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (folder / "cpu.cfs_quota_us").write_text(str(quota(limits.cpus)))
        if limits.processes is not None:
            (self.parents["pids"] / name / "pids.max").write_text(str(limits.processes))
        if "devices" in self.parents:
            folder = self.parents["devices"] / name
            (folder / "devices.deny").write_text("a")
            for line in (*_ALLOWED_DEVICES, *(f"{node.kind} {node.major}:{node.minor} rw" for node in devices)):
                (folder / "devices.allow").write_text(line)


def quota(cpus: float) -> int:
    """Microseconds of each period; the kernel takes no less than 1 ms."""
    return max(int(cpus * PERIOD_US), 1000)
