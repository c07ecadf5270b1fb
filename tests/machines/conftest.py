"""A cloud in this process, whose engine is in memory: what a test says happens on the nodes, happens."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from skerry.db.database import Database
from skerry.fleet.model import Accelerator, Machine
from skerry.kernel.clock import FakeClock
from skerry.server.compose import build
from skerry.server.roles.server import admits
from tests.compute.fake_engine import FakeEngine
from tests.conftest import _admin, _with_database
from tests.machines.scene import Scene
from tests.server.conftest import settings_in, started
from tests.server.starting import keyring

MACHINE = Machine("here", 16, 1 << 36, tuple(Accelerator(index, "H100", 80 << 30) for index in range(16)))
NODES = 4


@pytest.fixture
async def scene(database: Database, clock: FakeClock, tmp_path: Path) -> Scene:
    """Four nodes of four accelerators each."""
    return await made(database, clock, tmp_path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(
    server_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """The same for all tests of a module: making the app takes longer than what they do with it."""
    name = f"skerry_test_{uuid4().hex[:12]}"
    _admin(server_url, "CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, template_database)
    database = Database(_with_database(server_url, name), pool_size=4, name="skerry-test")
    yield await made(database, FakeClock(), tmp_path_factory.mktemp("home"))
    await database.close()
    _admin(server_url, "DROP DATABASE {} WITH (FORCE)", name)


async def made(database: Database, clock: FakeClock, folder: Path) -> Scene:
    settings = settings_in(folder)
    services = build(settings, database, keyring(), clock)
    engine = FakeEngine(clock, nodes=NODES)
    engines = services.compute.engines
    assert isinstance(engines, dict)
    engines.clear()
    engines["embedded"] = engine
    services.machines.instances.admit_by(admits(services))
    cloud = await started(services, settings)
    async with database.transaction() as tx:
        await services.fleet.discover_local(tx, MACHINE, NODES)
    return Scene(cloud, services, engine, clock)


@pytest.fixture
async def customer(scene: Scene) -> AsyncIterator[httpx.AsyncClient]:
    async with scene.cloud.client(scene.cloud.project_key) as client:
        yield client
