import pytest

from skerry.runtime.events import EventLog


@pytest.fixture
def events(clock):
    return EventLog(clock)
