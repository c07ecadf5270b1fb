"""Looking at the machine itself: the cores, the memory and the GPUs that this process may use.

A container's share is smaller than its host: scheduling affinity, CPU quota and memory limit of every control group
above us count. Nothing here fails because something is absent.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pynvml

from skerry.fleet.model import Accelerator, Machine

_PROC: Final = Path("/proc")
_UNIFIED: Final = ""
"""Key of the version 2 tree: it has no controller in its name."""


class CgroupFolder(NamedTuple):
    """Where a controller is mounted and which folder below it this process is in."""

    mount: Path
    own: Path


def discover(proc: Path = _PROC) -> Machine:
    return Machine(
        hostname=socket.gethostname(), cores=count_cores(proc), memory_bytes=count_memory(proc), gpus=find_gpus()
    )


def count_cores(proc: Path = _PROC) -> int:
    """Whole cores: the affinity mask, cut by the smallest CPU quota; at least 1."""
    cores = len(os.sched_getaffinity(0))
    quotas = [quota for folder in _ancestry(proc, "cpu") if (quota := _cpu_quota(folder)) is not None]
    return max(1, int(min([float(cores), *quotas])))


def count_memory(proc: Path = _PROC) -> int:
    """Bytes: what the kernel has, cut by the smallest limit."""
    limits = [limit for folder in _ancestry(proc, "memory") if (limit := _memory_limit(folder)) is not None]
    return min([_memory_total(proc), *limits])


def find_gpus() -> tuple[Accelerator, ...]:
    """GPUs by NVML's numbering; none where there is no driver or it does not answer."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_gpu(index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def cgroup_folders(proc: Path = _PROC) -> dict[str, CgroupFolder]:
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


def _gpu(index: int) -> Accelerator:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    return Accelerator(
        index=index,
        type=_text(pynvml.nvmlDeviceGetName(handle)).removeprefix("NVIDIA ").replace(" ", "-"),
        memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
    )


def _text(value: str | bytes) -> str:
    """Older bindings answer with bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _cgroup_mounts(proc: Path) -> dict[str, tuple[str, Path]]:
    """Controller → (folder of the hierarchy that is mounted, where). Format: proc(5), `/proc/[pid]/mountinfo`."""
    mounts: dict[str, tuple[str, Path]] = {}
    for line in _lines(proc / "self/mountinfo"):
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, mount = before.split(" ")[3:5]
        if kind == "cgroup2":
            mounts.setdefault(_UNIFIED, (root, Path(mount)))
        elif kind == "cgroup":
            for option in options.split(" ")[-1].split(","):
                mounts.setdefault(option.removeprefix("name="), (root, Path(mount)))
    return mounts


def _ancestry(proc: Path, controller: str) -> Iterator[Path]:
    """Our group of the controller and all groups above it, in version 1 and in version 2."""
    folders = cgroup_folders(proc)
    for key in (controller, _UNIFIED):
        if key in folders:
            mount, folder = folders[key]
            yield folder
            while folder != mount:
                folder = folder.parent
                yield folder


def _cpu_quota(folder: Path) -> float | None:
    """Cores a group may use at most; None: as many as there are."""
    if (unified := _read(folder / "cpu.max")) is not None:
        quota, _, period = unified.partition(" ")
    else:
        quota, period = _read(folder / "cpu.cfs_quota_us") or "", _read(folder / "cpu.cfs_period_us") or ""
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _memory_limit(folder: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        if (limit := _read(folder / name)) is not None and limit.isdigit():
            return int(limit)
    return None


def _memory_total(proc: Path) -> int:
    for line in _lines(proc / "meminfo"):
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _lines(path: Path) -> list[str]:
    return (_read(path) or "").splitlines()
