"""Billing on a real database, with identity bootstrapped and version 1 of the prices."""

from dataclasses import dataclass

import pytest

from skerry.billing.service import Billing, KeyBudgets
from skerry.db.database import Database
from skerry.identity.model import Principal
from skerry.identity.service import Identity
from skerry.kernel.clock import FakeClock
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog
from skerry.runtime.secrets import Keyring


@dataclass
class People:
    operator: Principal
    customer: Principal
    operator_secret: str
    customer_secret: str


@pytest.fixture
def identity(database: Database, clock: FakeClock) -> Identity:
    keyring = Keyring([("k1", b"a secret of the tests")])
    return Identity(database, clock, keyring, EventLog(clock), budgets=KeyBudgets(clock))


@pytest.fixture
async def people(identity: Identity) -> People:
    made = await identity.bootstrap()
    operator = await identity.authenticate(made.operator_key)
    customer = await identity.authenticate(made.project_key)
    return People(operator, customer, made.operator_key or "", made.project_key or "")


@pytest.fixture
def metering(database: Database, clock: FakeClock, identity: Identity) -> Metering:
    return Metering(database, clock, names=identity)


@pytest.fixture
async def billing(database: Database, clock: FakeClock, identity: Identity, metering: Metering) -> Billing:
    billing = Billing(database, clock, EventLog(clock), identity, metering, homes=identity)
    await billing.bootstrap("USD")
    return billing
