"""Billing on a real database, with identity bootstrapped and version 1 of the prices."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

from skerry.billing import routes as billing_routes
from skerry.billing.service import Billing, KeyBudgets
from skerry.db.database import Database
from skerry.identity.access import Access
from skerry.identity.model import Principal
from skerry.identity.service import Identity
from skerry.kernel.clock import FakeClock
from skerry.kernel.errors import SkerryError
from skerry.metering import routes as metering_routes
from skerry.metering.service import Metering
from skerry.reports import routes as reports_routes
from skerry.reports.service import Reports
from skerry.runtime.events import EventLog
from skerry.runtime.secrets import Keyring
from skerry.server.errors import from_validation, render


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


@pytest.fixture
async def app(billing: Billing, metering: Metering, identity: Identity, database: Database) -> FastAPI:
    """The routes of usage, prices, budgets and costs, with errors answered as the server does."""
    app, access = FastAPI(), Access(identity)
    app.include_router(metering_routes.router(metering, access))
    app.include_router(billing_routes.router(billing, access))
    app.include_router(reports_routes.router(Reports(database, metering, billing.prices), access))

    @app.exception_handler(SkerryError)
    async def refused(request: Request, error: SkerryError) -> Response:
        return render(error, request.url.path).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return render(from_validation(error, request), request.url.path).response()

    return app


@pytest.fixture
async def customer(app: FastAPI, people: People) -> AsyncIterator[httpx.AsyncClient]:
    async with _client(app, people.customer_secret) as client:
        yield client


@pytest.fixture
async def operator(app: FastAPI, people: People) -> AsyncIterator[httpx.AsyncClient]:
    async with _client(app, people.operator_secret) as client:
        yield client


def _client(app: FastAPI, secret: str) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cloud", headers=headers)
