"""Looking at the machine itself: the cores, the memory and the GPUs that this process may use.

A container's share is smaller than its host: scheduling affinity, CPU quota and memory limit of every control group
above us count. Nothing here fails because something is absent.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pynvml

from skerry.fleet.cgroups import PROC, UNIFIED, cgroup_folders, read
from skerry.fleet.model import Accelerator, Machine


def discover(proc: Path = PROC) -> Machine:
    return Machine(
        hostname=socket.gethostname(), cores=count_cores(proc), memory_bytes=count_memory(proc), gpus=find_gpus()
    )


def count_cores(proc: Path = PROC) -> int:
    """Whole cores: the affinity mask, cut by the smallest CPU quota; at least 1."""
    cores = len(os.sched_getaffinity(0))
    quotas = [quota for folder in _ancestry(proc, "cpu") if (quota := _cpu_quota(folder)) is not None]
    return max(1, int(min([float(cores), *quotas])))


def count_memory(proc: Path = PROC) -> int:
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


def _ancestry(proc: Path, controller: str) -> Iterator[Path]:
    """Our group of the controller and all groups above it, in version 1 and in version 2."""
    folders = cgroup_folders(proc)
    for key in (controller, UNIFIED):
        if key in folders:
            mount, folder = folders[key]
            yield folder
            while folder != mount:
                folder = folder.parent
                yield folder


def _cpu_quota(folder: Path) -> float | None:
    """Cores a group may use at most; None: as many as there are."""
    if (unified := read(folder / "cpu.max")) is not None:
        quota, _, period = unified.partition(" ")
    else:
        quota, period = read(folder / "cpu.cfs_quota_us") or "", read(folder / "cpu.cfs_period_us") or ""
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _memory_limit(folder: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        if (limit := read(folder / name)) is not None and limit.isdigit():
            return int(limit)
    return None


def _memory_total(proc: Path) -> int:
    for line in (read(proc / "meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
