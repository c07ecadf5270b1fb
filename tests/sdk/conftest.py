"""One cloud for all client libraries. They are heavy, so they are tried only where asked for."""

import os
from collections.abc import Iterator

import pytest

from tests.cloud import Cloud
from tests.sdk.programs import Surroundings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("SKERRY_TEST_SDKS") == "1":
        return
    why = pytest.mark.skip(reason="heavy: scripts/sdk-clients.sh, then SKERRY_TEST_SDKS=1")
    for item in items:
        if item.get_closest_marker("sdk"):
            item.add_marker(why)


@pytest.fixture(scope="package")
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    try:
        yield cloud.start()
    finally:
        cloud.close()


@pytest.fixture(scope="package")
def surroundings(cloud: Cloud) -> Surroundings:
    return Surroundings(cloud)
