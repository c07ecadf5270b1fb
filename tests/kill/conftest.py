"""A cloud to be hurt, apart from the one that other tests use; and the seeds, printed before anything runs."""

import os
from collections.abc import Iterator

import pytest

from tests.cloud import Cloud
from tests.e2e.scripted import FakeUpstream, running_upstream
from tests.kill.load import SCRIPTED, PacedScript

PRICE = {"prompt": "10", "cached": "1", "completion": "20"}


ROUNDS_A_CLOUD = 3
"""Then a new one: what dies again and again is restarted ever later, which is right, and not what is tested here."""


def rounds() -> list[tuple[int, int]]:
    """Cloud and seed of each round: `SKERRY_ROUNDS` of them, from `SKERRY_SEED` (1 or more) on."""
    first = int(os.environ.get("SKERRY_SEED", "1"))
    seeds = range(first, first + int(os.environ.get("SKERRY_ROUNDS", "3")))
    return [((seed - 1) // ROUNDS_A_CLOUD, seed) for seed in seeds]


def pytest_report_header() -> str:
    return f"kill tests: seeds {', '.join(str(seed) for _, seed in rounds())}"


@pytest.fixture(scope="package")
def cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    """The parameter is the cloud's number: tests with the same one share it."""
    cloud = Cloud()
    try:
        yield cloud.start()
    finally:
        cloud.close()


@pytest.fixture(scope="package")
def _upstream(cloud: Cloud) -> Iterator[FakeUpstream]:
    with running_upstream() as fake:
        cloud.add_upstream(SCRIPTED, fake.url, price=PRICE)
        yield fake


@pytest.fixture
def script(_upstream: FakeUpstream) -> PacedScript:
    _upstream.default = script = PacedScript()
    return script
