"""A cloud to be hurt, apart from the one that other tests use; and the seeds, printed before anything runs."""

import os
from collections.abc import Iterator

import pytest

from tests.cloud import Cloud
from tests.e2e.scripted import FakeUpstream, running_upstream
from tests.kill.load import SCRIPTED, PacedScript

PRICE = {"prompt": "10", "cached": "1", "completion": "20"}


def rounds() -> list[tuple[int, int]]:
    """Number and seed of each round: `SKERRY_ROUNDS` of them, from `SKERRY_SEED` on."""
    first = int(os.environ.get("SKERRY_SEED", "1"))
    return [(number, first + number) for number in range(int(os.environ.get("SKERRY_ROUNDS", "3")))]


def pytest_report_header() -> str:
    return f"kill tests: seeds {', '.join(str(seed) for _, seed in rounds())}"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    try:
        yield cloud.start()
    finally:
        cloud.close()


@pytest.fixture(scope="module")
def _upstream(cloud: Cloud) -> Iterator[FakeUpstream]:
    with running_upstream() as fake:
        cloud.add_upstream(SCRIPTED, fake.url, price=PRICE)
        yield fake


@pytest.fixture
def script(_upstream: FakeUpstream) -> PacedScript:
    _upstream.default = script = PacedScript()
    return script
