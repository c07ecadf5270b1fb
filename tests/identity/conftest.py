"""Identity on a real database, bootstrapped, with a clock that stands still."""

from dataclasses import dataclass

import pytest

from skerry.db.database import Database
from skerry.identity.model import KeyTerms, MintedKey, Principal, Scope
from skerry.identity.service import Identity
from skerry.kernel.clock import FakeClock
from skerry.runtime.events import EventLog
from skerry.runtime.secrets import Keyring


class RecordedBudgets:
    """Stands for billing: remembers what it was told."""

    def __init__(self) -> None:
        self.set = []

    async def set_key_budget(self, tx, project, key_id, limit):
        self.set.append((project, key_id, limit))


@dataclass
class People:
    """Who there is after the first start."""

    operator: Principal
    customer: Principal
    operator_secret: str
    customer_secret: str


@pytest.fixture
def keyring() -> Keyring:
    return Keyring([("k1", b"a secret of the tests")])


@pytest.fixture
def budgets() -> RecordedBudgets:
    return RecordedBudgets()


@pytest.fixture
def identity(database: Database, clock: FakeClock, keyring: Keyring, budgets: RecordedBudgets) -> Identity:
    return Identity(database, clock, keyring, EventLog(clock), budgets=budgets)


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
def minted(identity: Identity, people: People):
    """Makes a key in the demo project with the customer's rights."""

    async def make(*scopes: Scope, by: Principal | None = None, **terms) -> MintedKey:
        wanted = KeyTerms(frozenset(scopes or {Scope.READ}), **terms)
        return await identity.create_key(by or people.customer, "a key", wanted)

    return make
