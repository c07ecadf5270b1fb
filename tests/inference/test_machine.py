"""How a replica is fitted to the machine it runs on."""

import os
from pathlib import Path

import pytest

from skerry.inference.engines.llamacpp.config import HostConfig
from skerry.inference.engines.llamacpp.host import CannotStart, fitted
from skerry.inference.engines.llamacpp.machine import Machine, this_machine

GIB = 1024**3
CORES = len(os.sched_getaffinity(0))


def config(**changes) -> HostConfig:
    values = {"slots": 4, "fixed_bytes": GIB, "slot_bytes": GIB, **changes}
    return HostConfig("/m.gguf", "m", context_length=512, **values)


@pytest.mark.parametrize(("cores", "threads", "slots"), [(1, 1, 4), (2, 1, 4), (8, 7, 14), (64, 63, 32)])
def test_one_core_is_left_and_each_thread_has_two_slots(cores, threads, slots):
    machine = Machine(cores, None)
    assert (machine.threads, machine.slots) == (threads, slots)


def test_slots_shrink_to_the_memory_that_is_granted():
    assert fitted(config(), Machine(4, 16 * GIB)).slots == 4
    assert fitted(config(), Machine(4, 3 * GIB)).slots == 2
    assert fitted(config(), Machine(4, None)).slots == 4
    with pytest.raises(CannotStart, match="2048 MiB"):
        fitted(config(), Machine(4, GIB))


def test_threads_that_were_given_stay():
    assert fitted(config(threads=1), Machine(8, None)).threads == 1
    assert fitted(config(), Machine(8, None)).threads == 7


@pytest.fixture
def kernel(tmp_path: Path):
    """Files as the kernel shows them; what is given is written."""

    def make(**files: str) -> Machine:
        (tmp_path / "own").write_text(files.pop("own", "0::/a/b\n"))
        (tmp_path / "memory").write_text("MemTotal:       16777216 kB\n")
        for name, content in files.items():
            path = tmp_path / "groups" / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return this_machine(tmp_path / "own", tmp_path / "groups", tmp_path / "memory")

    return make


def test_without_limits_it_is_the_whole_machine(kernel):
    assert kernel() == Machine(CORES, 16 * GIB)
    assert kernel(a__b__cpu_DOT_max="max 100000\n", a__b__memory_DOT_max="max\n") == Machine(CORES, 16 * GIB)


def test_the_tightest_of_all_groups_above_holds(kernel):
    found = kernel(
        a__memory_DOT_max=f"{2 * GIB}\n", a__b__memory_DOT_max=f"{3 * GIB}\n", a__cpu_DOT_max="150000 100000\n"
    )
    assert found == Machine(1, 2 * GIB), "a part of a core is none to count on"


def test_groups_of_version_1(kernel):
    found = kernel(
        own="5:memory:/x\n4:cpu,cpuacct:/x\n",
        memory__x__memory_DOT_limit_in_bytes=f"{GIB}\n",
        **{"cpu,cpuacct__x__cpu_DOT_cfs_quota_us": "50000\n", "cpu,cpuacct__x__cpu_DOT_cfs_period_us": "100000\n"},
    )
    assert found == Machine(1, GIB)


def test_this_very_machine_can_be_read():
    machine = this_machine()
    assert 1 <= machine.cores <= CORES
    assert machine.memory_bytes and machine.memory_bytes > 2**20
