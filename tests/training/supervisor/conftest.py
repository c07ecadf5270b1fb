from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.supervisor.jobs import ControlPlane, job_of
from tests.training.supervisor.zygote import Zygote


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    plane = ControlPlane()
    yield plane
    plane.close()


@pytest.fixture
def run(zygote: Zygote, plane: ControlPlane, tmp_path: Path):
    """`with run("torchrun", "train.py", nodes=2, …) as job:` ends whatever is left of it."""
    return job_of(zygote, plane, tmp_path)
