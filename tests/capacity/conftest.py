"""A cloud in this process with a fleet of 32 nodes, and its operator and customer."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from skerry.db.database import Database
from skerry.identity.model import Principal
from skerry.kernel.clock import FakeClock
from skerry.server.compose import Services, build
from tests.capacity.market import PRICES, build_fleet
from tests.server.conftest import Cloud, settings_in, started
from tests.server.starting import keyring


@pytest.fixture
def services(tmp_path: Path, database: Database, clock: FakeClock) -> Services:
    settings = replace(settings_in(tmp_path), credit_limit="100000000.00")
    return build(settings, database, keyring(), clock)


@pytest.fixture
async def cloud(services: Services) -> Cloud:
    return await started(services, services.settings)


@pytest.fixture
async def fleet(cloud: Cloud) -> dict[str, str]:
    """Ids by name. A reserved node costs 9 an hour, an accelerator on demand 1.80, on spot 0.90."""
    owner = await cloud.services.identity.authenticate(cloud.operator_key)
    await cloud.services.billing.prices.publish_price_book(owner, PRICES, "USD")
    return await build_fleet(cloud.services)


@pytest.fixture
async def customer(cloud: Cloud, fleet: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    async with cloud.client(cloud.project_key) as client:
        yield client


@pytest.fixture
async def operator(cloud: Cloud, fleet: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    async with cloud.client(cloud.operator_key) as client:
        yield client


@pytest.fixture
async def principal(cloud: Cloud, fleet: dict[str, str]) -> Principal:
    """The customer, in its project."""
    return await cloud.services.identity.authenticate(cloud.project_key)
