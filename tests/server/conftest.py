"""The whole control API over HTTP, in this process, on a real database."""

from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from structlog.testing import capture_logs

from skerry.db.database import Database
from skerry.kernel.clock import FakeClock
from skerry.runtime.settings import Settings
from skerry.server.app import create_app
from skerry.server.compose import Services, build
from tests.conftest import _admin, _with_database
from tests.server.starting import keyring


@dataclass
class Cloud:
    """The app and the two keys of its first start."""

    app: FastAPI
    services: Services
    operator_key: str
    project_key: str

    @asynccontextmanager
    async def client(self, key: str | None = None, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        given = {**({"authorization": f"Bearer {key}"} if key else {}), **headers}
        async with httpx.AsyncClient(transport=transport, base_url="http://cloud", headers=given) as client:
            yield client


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged, before it was written."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


@pytest.fixture
def services(settings: Settings, database: Database, clock: FakeClock) -> Services:
    return build(settings, database, keyring(), clock)


@pytest.fixture
async def cloud(services: Services, settings: Settings) -> Cloud:
    return await started(services, settings)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_cloud(
    server_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Cloud]:
    """One cloud for all tests of a module that leave nothing behind: making the app takes a third of a second."""
    name = f"skerry_test_{uuid4().hex[:12]}"
    _admin(server_url, "CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, template_database)
    db = Database(_with_database(server_url, name), pool_size=4, name="skerry-test")
    settings = settings_in(tmp_path_factory.mktemp("home"))
    yield await started(build(settings, db, keyring(), FakeClock()), settings)
    await db.close()
    _admin(server_url, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
async def operator(cloud: Cloud) -> AsyncIterator[httpx.AsyncClient]:
    async with cloud.client(cloud.operator_key) as client:
        yield client


@pytest.fixture
async def customer(cloud: Cloud) -> AsyncIterator[httpx.AsyncClient]:
    async with cloud.client(cloud.project_key) as client:
        yield client


@pytest.fixture
async def nobody(cloud: Cloud) -> AsyncIterator[httpx.AsyncClient]:
    async with cloud.client() as client:
        yield client


def settings_in(home: Path) -> Settings:
    (home / "run").mkdir()
    return Settings(home=home, state=home, metrics_token="the-token-of-the-metrics", max_body_bytes=64 * 1024)


async def started(services: Services, settings: Settings) -> Cloud:
    """The first start, and the app."""
    made = await services.identity.bootstrap()
    await services.billing.bootstrap(settings.currency)
    assert made.operator_key is not None
    assert made.project_key is not None
    return Cloud(create_app(services, settings), services, made.operator_key, made.project_key)
