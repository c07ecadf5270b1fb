import pytest

from tests.capacity.admission.gate import Gate
from tests.capacity.binding.scene import Scene


@pytest.fixture
async def scene(database, clock):
    """Two leaves of two nodes with eight accelerators each."""
    return await Scene(database, clock).build(leaves=2, nodes=2)


@pytest.fixture
def gate(scene):
    return Gate(scene)
