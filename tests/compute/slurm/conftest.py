"""One private Slurm for the session: tests of this folder share one worker (tests/conftest.py)."""

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import skerry
from skerry.compute.engines.slurm import probe
from skerry.compute.engines.slurm.config import SlurmConfig
from skerry.compute.engines.slurm.engine import SlurmEngine
from skerry.kernel.clock import SystemClock
from skerry.kernel.ids import new_id
from tests.compute.slurm.cluster import Cluster, is_required, missing

SOURCE = Path(skerry.__file__).parents[1]


@pytest.fixture(scope="session")
def slurm_tmp() -> Iterator[Path]:
    """A folder with a short path that any user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="sk-slurm-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(slurm_tmp: Path) -> Iterator[Cluster]:
    if why := missing():
        (pytest.fail if is_required(os.environ) else pytest.skip)(why)
    root = slurm_tmp / "cluster"
    root.mkdir(mode=0o755)
    cluster = Cluster(root)
    try:
        yield cluster.start()
    finally:
        cluster.stop()


def config_of(cluster: Cluster, folder: Path, **changes: object) -> SlurmConfig:
    for name in ("state", "shared", "work"):
        (folder / name).mkdir(mode=0o711, parents=True, exist_ok=True)
    values = {
        "mark": new_id("mark").rpartition("_")[2],
        "state": folder / "state",
        "shared": folder / "shared",
        "work": folder / "work",
        "partition": cluster.partition,
        "conf": cluster.conf,
        "runner": ("/usr/bin/env", f"PYTHONPATH={SOURCE}", sys.executable, "-m", "skerry.compute.engines.slurm.node"),
        "one_host": True,
        "call_seconds": 30.0,
        "poll_seconds": 0.1,
        "silent_seconds": 3.0,
        "log_bytes": 4096,
        "log_parts": 2,
        **changes,
    }
    return SlurmConfig(**values)


@pytest.fixture(scope="session")
def slurm_config(cluster: Cluster, slurm_tmp: Path) -> SlurmConfig:
    config = config_of(cluster, slurm_tmp / "engine")
    for name in cluster.names:
        probe.write(config.shared, probe.look(name))
    return config


@pytest.fixture
async def engine(slurm_config: SlurmConfig) -> AsyncIterator[SlurmEngine]:
    engine = SlurmEngine(slurm_config, SystemClock())
    yield engine
    for attempt in await engine.known():
        await engine.cancel(attempt, 0)


@pytest.fixture(scope="session")
def open_tmp(slurm_tmp: Path) -> Path:
    return slurm_tmp
