"""Versions of the prices in the database."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from skerry.billing.model import ModelPrice, Price, PriceTarget
from skerry.billing.service import Billing
from skerry.kernel.clock import FakeClock
from skerry.kernel.errors import Invalid
from skerry.kernel.windows import Window
from skerry.metering.model import Meter
from tests.billing.conftest import People

SMOL = PriceTarget("smol", "local", "on_demand")
BIG = PriceTarget("big", "local", "on_demand")


def _row(amount: str, model: str | None = None) -> Price:
    return Price(Meter.TOKENS_PROMPT, 10**6, Decimal(amount), model=model)


async def _schedule(billing: Billing, target: PriceTarget) -> list[tuple[datetime, int]]:
    async with billing.db.reading() as tx:
        found = await billing.prices.model_prices(tx, [target])
    return [(price.since, price.prompt) for price in found[target].prices]


async def _set(billing: Billing, model: str, price: ModelPrice | None) -> None:
    async with billing.db.transaction() as tx:
        await billing.prices.set_model_price(tx, model, price, by="test")


async def test_the_first_start_writes_version_1_once(billing: Billing) -> None:
    first = await billing.prices.price_book()
    await asyncio.gather(billing.bootstrap("EUR"), billing.bootstrap("EUR"))
    assert await billing.prices.price_book() == first
    assert (first.version, first.currency) == (1, "USD")
    assert first.effective_from.minute == 0


async def test_a_version_is_in_force_from_its_moment_on(billing: Billing, people: People, clock: FakeClock) -> None:
    moment = clock.now() + timedelta(days=3, minutes=20)
    book = await billing.prices.publish_price_book(people.operator, [_row("9")], "USD", moment)
    assert book.version == 2
    assert (await billing.prices.price_book()).version == 1
    assert (await billing.prices.price_book(moment)).prices == book.prices
    clock.advance(days=4)
    assert (await billing.prices.price_book()).version == 2


async def test_of_versions_for_one_moment_the_last_counts(billing: Billing, people: People, clock: FakeClock) -> None:
    for amount in ("1", "2", "3"):
        await billing.prices.publish_price_book(people.operator, [_row(amount)], "USD")
    assert (await billing.prices.price_book()).prices == (_row("3"),)
    window = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
    async with billing.db.reading() as tx:
        prices = await billing.prices.timeline(tx, window)
    assert (prices.cuts, [book.version for book in prices.books]) == ((), [4])


async def test_publishers_beside_each_other_get_versions_of_their_own(billing: Billing, people: People) -> None:
    rows = [[_row(str(n))] for n in range(6)]
    made = await asyncio.gather(*(billing.prices.publish_price_book(people.operator, row, "USD") for row in rows))
    assert sorted(book.version for book in made) == [2, 3, 4, 5, 6, 7]


async def test_another_currency_is_refused(billing: Billing, people: People) -> None:
    with pytest.raises(Invalid) as refused:
        await billing.prices.publish_price_book(people.operator, [_row("1")], "EUR")
    assert refused.value.code == "currency_change"


async def test_a_gateway_sees_the_price_now_and_those_to_come(
    billing: Billing, people: People, clock: FakeClock
) -> None:
    start, later = clock.now(), clock.now() + timedelta(hours=5)
    await billing.prices.publish_price_book(people.operator, [_row("9", model="smol")], "USD", later)
    assert await _schedule(billing, SMOL) == [(start, 50_000_000_000), (later, 9_000_000_000_000)]
    assert await _schedule(billing, BIG) == [(start, 50_000_000_000), (later, 0)]


async def test_a_model_s_price_holds_now_and_in_versions_to_come(
    billing: Billing, people: People, clock: FakeClock
) -> None:
    later = clock.now() + timedelta(hours=5)
    await billing.prices.publish_price_book(people.operator, [_row("9")], "USD", later)
    now = clock.advance(minutes=10)
    await _set(billing, "smol", ModelPrice(Decimal("0.2"), Decimal("0.4")))
    assert await _schedule(billing, SMOL) == [(now, 200_000_000_000)]
    assert [amount for _, amount in await _schedule(billing, BIG)] == [50_000_000_000, 9_000_000_000_000]
    now = clock.advance(minutes=10)
    await _set(billing, "smol", None)
    assert await _schedule(billing, SMOL) == [(now, 50_000_000_000), (later, 9_000_000_000_000)]


async def test_the_same_price_again_makes_no_version(billing: Billing) -> None:
    for _ in range(2):
        await _set(billing, "smol", ModelPrice(Decimal("0.2"), Decimal("0.4")))
    assert (await billing.prices.price_book()).version == 2
    await _set(billing, "unknown", None)
    assert (await billing.prices.price_book()).version == 2


async def test_a_price_that_is_too_fine_is_refused(billing: Billing) -> None:
    with pytest.raises(Invalid):
        await _set(billing, "smol", ModelPrice(Decimal("0.0000000000001"), Decimal("0.4")))


async def test_publishing_is_audited(billing: Billing, people: People) -> None:
    await billing.prices.publish_price_book(people.operator, [_row("1")], "USD")
    verdict = await billing.budgets.identity.verify_audit(people.operator.organization_id)
    assert verdict.first_break is None and verdict.events > 0
