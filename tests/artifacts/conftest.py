"""A catalogue on a real database, with an operator and a customer."""

from dataclasses import dataclass

import pytest

from skerry.artifacts.service import Catalogue
from skerry.db.database import Database
from skerry.identity.model import Principal
from skerry.identity.service import Identity
from skerry.kernel.clock import FakeClock
from skerry.runtime.events import EventLog
from skerry.runtime.secrets import Keyring


@dataclass
class People:
    operator: Principal
    customer: Principal
    operator_secret: str
    customer_secret: str


class RecordedPrices:
    """Stands for billing: remembers what it was told."""

    def __init__(self) -> None:
        self.set = []

    async def set_model_price(self, tx, model, prices):
        self.set.append((model, dict(prices)))


class RecordedModels:
    """Stands for inference: remembers what came and went, and refuses when told to."""

    def __init__(self) -> None:
        self.added, self.removed = [], []
        self.refuse: Exception | None = None

    async def model_added(self, tx, model):
        if self.refuse:
            raise self.refuse
        self.added.append(model.name)

    async def model_removed(self, tx, model):
        self.removed.append(model.name)


@pytest.fixture
def keyring() -> Keyring:
    return Keyring([("k1", b"a secret of the tests")])


@pytest.fixture
def events(clock: FakeClock) -> EventLog:
    return EventLog(clock)


@pytest.fixture
def identity(database: Database, clock: FakeClock, keyring: Keyring, events: EventLog) -> Identity:
    return Identity(database, clock, keyring, events)


@pytest.fixture
async def people(identity: Identity) -> People:
    made = await identity.bootstrap()
    return People(
        operator=await identity.authenticate(made.operator_key),
        customer=await identity.authenticate(made.project_key),
        operator_secret=made.operator_key,
        customer_secret=made.project_key,
    )


@pytest.fixture
def prices() -> RecordedPrices:
    return RecordedPrices()


@pytest.fixture
def watcher() -> RecordedModels:
    return RecordedModels()


@pytest.fixture
def catalogue(
    database: Database,
    clock: FakeClock,
    keyring: Keyring,
    events: EventLog,
    identity: Identity,
    people: People,
    prices: RecordedPrices,
) -> Catalogue:
    return Catalogue(database, clock, events, keyring, identity, platform=identity.platform, pricing=prices)
