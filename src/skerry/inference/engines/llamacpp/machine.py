"""How much of a machine a process may use: what the kernel grants it, and what its control group leaves of that.

The rule by which a replica is fitted to it (`threads`, `slots`) is in engines/README.md.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")
_MEMORY: Final = Path("/proc/meminfo")
LEAST_SLOTS: Final = 4
MOST_SLOTS: Final = 32


@dataclass(frozen=True, slots=True)
class Machine:
    """`cores` whole ones, at least 1; `memory_bytes` None: not known."""

    cores: int
    memory_bytes: int | None

    @property
    def threads(self) -> int:
        """One core is left to everything else: with all of them busy llama.cpp falls to a tenth of its speed."""
        return max(1, self.cores - 1)

    @property
    def slots(self) -> int:
        """Requests worth working on at once: two for each thread, since tokens of several are made together."""
        return min(max(LEAST_SLOTS, 2 * self.threads), MOST_SLOTS)


def this_machine(own: Path = _OWN, groups: Path = _GROUPS, memory: Path = _MEMORY) -> Machine:
    """Reads /proc and /sys: version 2 of control groups, and of version 1 the memory and cpu controllers."""
    cores, limits = len(os.sched_getaffinity(0)), [limit for limit in (_total(memory),) if limit]
    for group in _ancestors(own, groups):
        quota = _quota(group)
        if quota:
            cores = min(cores, quota)
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _number(group / name)
            if limit:
                limits.append(limit)
    return Machine(max(1, cores), min(limits, default=None))


def _ancestors(own: Path, groups: Path) -> Iterator[Path]:
    """The folders of our control groups and of all above them."""
    for line in _text(own).splitlines():
        _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "", "/")
        for root in [groups / controllers] if controllers else [groups]:
            folder = root / path.lstrip("/")
            while folder.is_relative_to(root):
                yield folder
                folder = folder.parent


def _quota(group: Path) -> int | None:
    """Whole cores; a part of one counts as one."""
    words = _text(group / "cpu.max").split()
    if len(words) == 2:
        share, period = words
    else:
        share, period = _text(group / "cpu.cfs_quota_us").strip(), _text(group / "cpu.cfs_period_us").strip()
    if not (share.isdigit() and period.isdigit() and int(period)):
        return None
    return max(1, int(share) // int(period))


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _total(memory: Path) -> int | None:
    for line in _text(memory).splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
