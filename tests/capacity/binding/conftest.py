import pytest

from tests.capacity.binding.scene import Scene


@pytest.fixture
async def scene(database, clock):
    return await Scene(database, clock).build()
