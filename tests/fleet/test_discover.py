"""Discovery reads the share of the machine that is ours, from whichever control groups there are."""

import os
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from skerry.fleet import discover
from skerry.fleet.model import Accelerator, Machine

GIB = 1 << 30


def machine_with(tmp_path: Path, mountinfo: str, own: str, files: dict[str, str]) -> Path:
    """A /proc of a machine whose control groups lie below `tmp_path/cg`."""
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self/mountinfo").write_text(mountinfo.replace("CG", str(tmp_path / "cg")))
    (proc / "self/cgroup").write_text(own)
    (proc / "meminfo").write_text(f"MemTotal:       {64 * GIB // 1024} kB\nMemFree: 1 kB\n")
    for name, content in files.items():
        path = tmp_path / "cg" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return proc


V1 = """\
32 31 0:29 / CG/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / CG/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / CG/systemd rw,relatime - cgroup cgroup rw,name=systemd
"""
V2 = "25 30 0:23 / CG rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"


@pytest.fixture
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))


@pytest.mark.usefixtures("sixteen_cores")
def test_version_1_limits_count(tmp_path: Path) -> None:
    files = {
        "cpu/box/cpu.cfs_quota_us": "350000\n",
        "cpu/box/cpu.cfs_period_us": "100000\n",
        "memory/box/memory.limit_in_bytes": f"{8 * GIB}\n",
    }
    proc = machine_with(tmp_path, V1, "3:cpu,cpuacct:/box\n2:memory:/box\n1:name=systemd:/\n", files)
    assert discover.count_cores(proc) == 3
    assert discover.count_memory(proc) == 8 * GIB


@pytest.mark.usefixtures("sixteen_cores")
def test_version_2_limits_of_all_groups_above_count(tmp_path: Path) -> None:
    files = {
        "outer/cpu.max": "200000 100000\n",
        "outer/memory.max": f"{16 * GIB}\n",
        "outer/inner/cpu.max": "max 100000\n",
        "outer/inner/memory.max": "max\n",
    }
    proc = machine_with(tmp_path, V2, "0::/outer/inner\n", files)
    assert discover.count_cores(proc) == 2
    assert discover.count_memory(proc) == 16 * GIB


@pytest.mark.usefixtures("sixteen_cores")
def test_without_limits_the_affinity_and_the_kernel_count(tmp_path: Path) -> None:
    proc = machine_with(tmp_path, "", "", {})
    assert discover.count_cores(proc) == 16
    assert discover.count_memory(proc) == 64 * GIB


@pytest.mark.usefixtures("sixteen_cores")
def test_a_quota_below_one_core_is_one_core(tmp_path: Path) -> None:
    proc = machine_with(tmp_path, V2, "0::/box\n", {"box/cpu.max": "50000 100000\n"})
    assert discover.count_cores(proc) == 1


def test_a_mount_of_a_part_of_the_tree_is_understood(tmp_path: Path) -> None:
    """As in a container: the mount shows /docker/abc as its root."""
    mountinfo = "35 31 0:32 /docker/abc CG/memory ro - cgroup cgroup rw,memory\n"
    proc = machine_with(tmp_path, mountinfo, "2:memory:/docker/abc\n", {"memory/memory.limit_in_bytes": f"{2 * GIB}\n"})
    assert discover.count_memory(proc) == 2 * GIB


def test_no_driver_means_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    assert discover.find_gpus() == ()


def test_gpus_are_listed_with_type_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: b"NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda handle: SimpleNamespace(total=80 * GIB))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", lambda handle: f"GPU-{handle}")
    gpus = discover.find_gpus()
    assert gpus == (
        Accelerator(0, "H100-80GB-HBM3", 80 * GIB, "GPU-0"),
        Accelerator(1, "H100-80GB-HBM3", 80 * GIB, "GPU-1"),
    )
    machine = Machine("here", 16, 64 * GIB, gpus)
    assert (machine.accelerator_type, len(machine.accelerators)) == ("H100-80GB-HBM3", 2)


def test_this_very_machine_is_discovered() -> None:
    machine = discover.discover()
    assert machine.cores >= 1 and machine.memory_bytes > 0 and machine.hostname
    if not machine.gpus:
        assert machine.accelerator_type == "cpu" and len(machine.accelerators) == machine.cores
