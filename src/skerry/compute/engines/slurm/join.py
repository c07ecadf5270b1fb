"""A node joins: `python -m skerry.compute.engines.slurm.join SHARED WORK`, on the node, as root.

It sees whether tasks can run there as they must, writes down what the node can, and prints the line for slurm.conf.
"""

import argparse
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skerry.compute.engines.embedded.users import NoSuchUser, can_reach, ensure_user
from skerry.compute.engines.slurm import probe
from skerry.fleet.discover import discover
from skerry.fleet.model import Machine

_SPARE_BYTES: Final = 1 << 30
"""Left to the system."""
_DYNAMIC: Final = (22, 5)
"""From this version on `slurmd -Z` registers a node that slurm.conf does not name."""


@dataclass(frozen=True, slots=True)
class Joined:
    """`problems`: what has to be put right first. `lines`: what to do then."""

    problems: tuple[str, ...]
    lines: tuple[str, ...]


def node_line(name: str, machine: Machine) -> str:
    """Of slurm.conf."""
    memory = max(1, (machine.memory_bytes - _SPARE_BYTES) >> 20)
    gpus = f" Gres=gpu:{len(machine.accelerators)}" if machine.gpus else ""
    return f"NodeName={name} CPUs={machine.cores} RealMemory={memory}{gpus} State=UNKNOWN"


def dynamic_line(name: str, machine: Machine) -> str:
    """For a slurmd that registers itself; needs MaxNodeCount in slurm.conf."""
    words = node_line(name, machine).split()[1:-1]
    return f"slurmd -Z --conf '{' '.join(words)}' -N {name}"


def slurm_version(text: str) -> tuple[int, int] | None:
    """Of `slurmd -V`, such as `slurm-wlm 22.05.8`."""
    number = text.split()[-1].split(".") if text.split() else []
    return (int(number[0]), int(number[1])) if len(number) > 1 and number[0].isdigit() and number[1].isdigit() else None


def join(name: str, shared: Path, work: Path) -> Joined:
    problems = []
    version = _slurmd_version()
    if version is None:
        problems.append("slurmd is not installed here: install slurmd and munge")
    if not os.access(shared, os.W_OK):
        problems.append(f"{shared} is not here or cannot be written: mount the folder that engine and nodes share")
    work.mkdir(mode=0o711, parents=True, exist_ok=True)
    try:
        if os.geteuid() == 0 and not can_reach(ensure_user(), work):
            problems.append(f"{work} cannot be entered by the user that tasks run as")
    except NoSuchUser as error:
        problems.append(str(error))
    if problems:
        return Joined(tuple(problems), ())
    probe.write(shared, probe.look(name))
    machine = discover()
    lines = [f"In slurm.conf, on all nodes:  {node_line(name, machine)}"]
    if machine.gpus:
        lines.append(f"In gres.conf:  NodeName={name} Name=gpu File=/dev/nvidia[0-{len(machine.accelerators) - 1}]")
    if version is not None and version >= _DYNAMIC:
        lines.append(f"Or, where slurm.conf sets MaxNodeCount, without naming it there:  {dynamic_line(name, machine)}")
    return Joined((), tuple(lines))


def _slurmd_version() -> tuple[int, int] | None:
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    try:
        command = ["slurmd", "-V"]
        done = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return slurm_version(done.stdout)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="skerry.compute.engines.slurm.join")
    parser.add_argument("shared", type=Path)
    parser.add_argument("work", type=Path, nargs="?", default=Path("/var/lib/skerry/slurm"))
    parser.add_argument("--name", default=socket.gethostname().partition(".")[0])
    given = parser.parse_args(arguments)
    joined = join(given.name, given.shared, given.work)
    sys.stdout.write("".join(f"{line}\n" for line in (*joined.problems, *joined.lines)))
    return 1 if joined.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
