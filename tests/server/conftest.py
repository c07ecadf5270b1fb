"""The whole control API over HTTP, in this process, on a real database."""

from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from skerry.db.database import Database
from skerry.kernel.clock import FakeClock
from skerry.runtime.settings import Settings
from skerry.server.app import create_app
from skerry.server.compose import Services, build
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
    (tmp_path / "run").mkdir()
    return Settings(home=tmp_path, state=tmp_path, metrics_token="the-token-of-the-metrics", max_body_bytes=64 * 1024)


@pytest.fixture
def services(settings: Settings, database: Database, clock: FakeClock) -> Services:
    return build(settings, database, keyring(), clock)


@pytest.fixture
async def cloud(services: Services, settings: Settings) -> Cloud:
    made = await services.identity.bootstrap()
    await services.billing.bootstrap(settings.currency)
    return Cloud(create_app(services, settings), services, made.operator_key, made.project_key)


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
