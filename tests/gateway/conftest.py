import httpx
import pytest

from tests.gateway.harness import KEY, route, running
from tests.gateway.upstream import upstream


@pytest.fixture
async def fake():
    async with upstream() as server:
        yield server


@pytest.fixture
async def bench(fake):
    async with running() as bench:
        bench.routes(route(fake.url))
        yield bench


@pytest.fixture
async def client(bench):
    async with httpx.AsyncClient(
        verify=False, base_url=bench.url, headers={"authorization": f"Bearer {KEY}"}, timeout=30
    ) as client:
        yield client
