"""One cloud for all end-to-end tests, and beside it an upstream that does as it is told."""

from collections.abc import Iterator

import pytest

from tests.cloud import Cloud
from tests.e2e.scripted import FakeUpstream, running_upstream, well

SCRIPTED = "scripted"
PRICE = {"prompt": "1000", "cached": "100", "completion": "2000"}
"""Dear, so that budgets end soon."""


@pytest.fixture(scope="package")
def cloud() -> Iterator[Cloud]:
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
def upstream(_upstream: FakeUpstream) -> FakeUpstream:
    """Answers the model `scripted`: three tokens each, until a test says otherwise."""
    _upstream.seen.clear()
    _upstream.scripts.clear()
    _upstream.default, _upstream.gone = well, 0
    return _upstream
