"""Fixtures for real instances. Where they cannot be had the tests say so; in CI that is a failure."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compute.instances.host.machines import Keys, Machine, missing


@pytest.fixture(scope="session")
def node() -> Iterator[Path]:
    """A folder that instances' users may pass through."""
    reason = missing()
    if reason is not None:
        if os.environ.get("CI"):
            pytest.fail(f"instances cannot be tried: {reason}")
        pytest.skip(f"instances need root and some programs: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="sk-i-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def keys(node: Path) -> Keys:
    folder = node / "keys"
    folder.mkdir(mode=0o700)
    return Keys(folder)


@pytest.fixture
def machine(node: Path, keys: Keys) -> Iterator[Callable[..., Machine]]:
    """Makes machines that are gone after the test."""
    made: list[Machine] = []

    def make(driver: str, **spec: Any) -> Machine:
        made.append(Machine(node, keys, driver, **spec))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and not one.ended:
            one.stop()
