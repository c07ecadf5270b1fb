"""What a node can do, written down by the node itself when it joins, for the engine to read."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from skerry.compute.engines.embedded.cgroups import Cgroups
from skerry.compute.task import sandbox
from skerry.fleet.cgroups import cgroup_folders

_FOLDER: Final = "nodes"


@dataclass(frozen=True, slots=True)
class Probe:
    """`memory` and `processes`: whether a task's can be limited there, by control groups. `isolation`: whether the
    sandbox of `compute/task` works."""

    node: str
    memory: bool
    processes: bool
    isolation: bool = False


def look(node: str) -> Probe:
    """Makes control groups for a try, and removes them."""
    folders = {name: (found.mount, found.own) for name, found in cgroup_folders().items()}
    groups = Cgroups.detect(folders, f"probe-{node}-{os.getpid()}")
    try:
        isolation = not sandbox.probe()
        return Probe(node, "memory" in groups.controllers, "pids" in groups.controllers, isolation)
    finally:
        groups.close()


def write(shared: Path, probe: Probe) -> None:
    folder = shared / _FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f".{probe.node}.new"
    draft.write_bytes(msgspec.json.encode(probe))
    draft.rename(folder / f"{probe.node}.json")


def read_all(shared: Path) -> Sequence[Probe]:
    found = []
    for path in sorted((shared / _FOLDER).glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Probe))
        except (FileNotFoundError, msgspec.DecodeError):
            continue
    return found
