"""What is paid by the second while it runs: booked on the accounts that bear it, with the one that ends first."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import httpx

from skerry.billing.model import AccountKind, Price
from skerry.billing.service import Billing
from skerry.billing.service.running import Run, Standing
from skerry.kernel.clock import FakeClock
from skerry.metering.model import Meter
from tests.billing.conftest import People

CENT = Price(Meter.ACCELERATOR_SECONDS, 1, Decimal("0.01"))
DIMS = {"sku": "h100.8x", "charge_by": "time", "capacity_class": "on_demand"}


async def price(billing: Billing, people: People, clock: FakeClock, price: Price = CENT) -> None:
    await billing.prices.publish_price_book(people.operator, [price], "USD", clock.now())


async def budget(client: httpx.AsyncClient, amount: str, window: str = "month") -> str:
    body = {"target": {"project": "default"}, "limit": {"amount": amount, "currency": "USD"}, "window": window}
    answer = await client.post("/budgets", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def shown(client: httpx.AsyncClient, id: str) -> tuple[str, str]:
    found = (await client.get(f"/budgets/{id}")).json()
    return found["spent"]["amount"], found["pending"]["amount"]


def _two(t0: datetime, t1: datetime) -> int:
    return 2 * int((t1 - t0).total_seconds())


async def book(
    billing: Billing, people: People, clock: FakeClock, since: datetime, *, over: bool = False, **dims: str
) -> Standing:
    """Two accelerators that have run since then, and go on."""
    now = clock.now()
    used = Run(Meter.ACCELERATOR_SECONDS, {**DIMS, **dims}, since, now, _two)
    rate = [] if over else [replace(used, start=now, end=now + timedelta(seconds=1))]
    async with billing.db.transaction() as tx:
        return await billing.running.book(tx, people.customer.project_id, "wl_1", [used], rate, timedelta(seconds=60))


async def test_what_ran_is_spent_and_what_is_coming_is_set_aside(
    billing: Billing, people: People, clock: FakeClock, customer: httpx.AsyncClient
) -> None:
    await price(billing, people, clock)
    id = await budget(customer, "10")
    since = clock.now()
    clock.advance(seconds=100.5)
    standing = await book(billing, people, clock, since)
    assert (standing.cost, standing.per_second, standing.currency) == (Decimal("2.00"), Decimal("0.02"), "USD")
    assert await shown(customer, id) == ("2", "1.2")
    assert standing.short is not None
    assert (standing.short.account, standing.short.kind, standing.short.left) == (id, AccountKind.BUDGET, Decimal(8))
    assert standing.short.seconds == 400, "at two cents a second"
    assert await book(billing, people, clock, since) == standing, "again: no change"
    clock.advance(seconds=50)
    await book(billing, people, clock, since)
    assert await shown(customer, id) == ("3", "1.2")
    await book(billing, people, clock, since, over=True)
    assert await shown(customer, id) == ("3", "0")


async def test_each_period_bears_its_own_part(
    billing: Billing, people: People, clock: FakeClock, customer: httpx.AsyncClient
) -> None:
    clock.advance(hours=23)
    await price(billing, people, clock)
    daily, total = await budget(customer, "1000", "day"), await budget(customer, "1000", "total")
    since = clock.now()
    clock.advance(hours=3)
    await book(billing, people, clock, since, over=True)
    assert await shown(customer, daily) == ("144", "0"), "two hours of this day"
    assert await shown(customer, total) == ("216", "0")


async def test_prices_are_those_of_the_time(
    billing: Billing, people: People, clock: FakeClock, customer: httpx.AsyncClient
) -> None:
    await price(billing, people, clock)
    id = await budget(customer, "1000")
    since = clock.now()
    clock.advance(hours=1)
    await price(billing, people, clock, replace(CENT, unit_price=Decimal("0.02")))
    clock.advance(hours=1)
    standing = await book(billing, people, clock, since)
    assert standing.cost == Decimal(3600 * 2) * (Decimal("0.01") + Decimal("0.02"))
    assert await shown(customer, id) == ("216", "2.4")


async def test_what_carries_no_money_leaves_no_trace(
    billing: Billing, people: People, clock: FakeClock, customer: httpx.AsyncClient
) -> None:
    await price(billing, people, clock)
    id = await budget(customer, "10")
    since = clock.now()
    clock.advance(hours=1)
    standing = await book(billing, people, clock, since, charge_by="reservation")
    assert (standing.cost, standing.short) == (Decimal(0), None)
    assert await shown(customer, id) == ("0", "0")


async def test_less_than_before_is_less_spent(
    billing: Billing, people: People, clock: FakeClock, customer: httpx.AsyncClient
) -> None:
    await price(billing, people, clock)
    id = await budget(customer, "10")
    since = clock.now()
    clock.advance(seconds=100)
    await book(billing, people, clock, since, over=True)
    await book(billing, people, clock, since + timedelta(seconds=40), over=True)
    assert await shown(customer, id) == ("1.2", "0")
