"""What reservations set aside, use and give back; and that no balance bears more than it has."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.billing.errors import BudgetExhausted, CreditExhausted, NotSold
from skerry.billing.model import BudgetWindow, ChargeKind, Price
from skerry.billing.service import Billing
from skerry.identity.model import KeyLimits, KeyTerms, Scope
from skerry.identity.service import Identity
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import new_id, new_uuid7
from skerry.kernel.money import Money, decimal_from_nano
from skerry.kernel.windows import Window
from skerry.metering.model import Dims, Meter, UsageFact
from skerry.metering.service import Metering
from tests.billing import selling
from tests.billing.conftest import People
from tests.billing.selling import DAY, HOUR, NODE_HOUR, START, leg

YEAR = Window(START - HOUR, START + 365 * DAY)
FEBRUARY = datetime.fromisoformat("2026-02-01T00:00:00Z")


def _nano(amount: Decimal | str) -> int:
    return int(Decimal(amount) * 10**9)


async def test_a_month_bears_what_is_used_in_it(billing: Billing, people: People) -> None:
    await selling.give_credit(billing, people.customer, 10_000)
    price = await selling.sell(billing, people.customer, "res_1", [leg(1, FEBRUARY - 3 * DAY, FEBRUARY + 4 * DAY)])
    assert price.total == 7 * 24 * NODE_HOUR
    january = await selling.credit(billing, people.customer, START)
    february = await selling.credit(billing, people.customer, FEBRUARY)
    assert (january.pending_nano, january.spent_nano) == (_nano(3 * 24 * NODE_HOUR), 0)
    assert (february.pending_nano, february.spent_nano) == (_nano(4 * 24 * NODE_HOUR), 0)


async def test_credit_that_does_not_suffice_says_what_is_left(billing: Billing, people: People) -> None:
    with pytest.raises(CreditExhausted) as refused:
        await selling.sell(billing, people.customer, "res_1", [leg(2, START + DAY, START + 2 * DAY)])
    error = refused.value
    assert (error.status, error.code) == (402, "credit_exhausted")
    assert error.extra["remaining"] == {"amount": "1000", "currency": "USD"}
    assert error.extra["needed"] == {"amount": "1010.88", "currency": "USD"}
    assert (await selling.credit(billing, people.customer, START)).committed_nano == 0, "nothing is set aside"
    await selling.sell(billing, people.customer, "res_2", [leg(1, START + DAY, START + 2 * DAY)])
    with pytest.raises(CreditExhausted, match=r"has 494\.56 USD left"):
        await selling.sell(billing, people.customer, "res_3", [leg(1, START + DAY, START + 2 * DAY)])
    await selling.sell(billing, people.customer, "res_4", [leg(1, FEBRUARY, FEBRUARY + DAY)])


@pytest.mark.parametrize("window", list(BudgetWindow))
async def test_a_project_s_budget_bears_it_too(billing: Billing, people: People, window: BudgetWindow) -> None:
    await selling.give_credit(billing, people.customer, 100_000)
    await billing.budgets.create_budget(people.customer, {"project": "default"}, Money(Decimal(600), "USD"), window)
    await selling.sell(billing, people.customer, "res_1", [leg(1, START + DAY, START + 2 * DAY)])
    with pytest.raises(BudgetExhausted) as refused:
        await selling.sell(billing, people.customer, "res_2", [leg(1, START + DAY, START + 2 * DAY)])
    assert (refused.value.status, refused.value.code) == (402, "budget_exhausted")
    assert refused.value.extra["remaining"]["amount"] == "94.56"
    later = leg(1, START + 3 * DAY, START + 4 * DAY)
    if window is BudgetWindow.DAY:
        await selling.sell(billing, people.customer, "res_3", [later])
    else:
        with pytest.raises(BudgetExhausted):
            await selling.sell(billing, people.customer, "res_3", [later])


async def test_a_key_s_own_limit_bears_it_too(billing: Billing, people: People, identity: Identity) -> None:
    await selling.give_credit(billing, people.customer, 100_000)
    terms = KeyTerms(frozenset({Scope.READ, Scope.WRITE}), limits=KeyLimits(budget=Money(Decimal(100), "USD")))
    minted = await identity.create_key(people.customer, "small", terms)
    small = replace(people.customer, key_id=minted.key.id)
    with pytest.raises(BudgetExhausted, match="the key's own limit has 100 USD left"):
        await selling.sell(billing, small, "res_1", [leg(1, START + DAY, START + 2 * DAY)])
    await selling.sell(billing, small, "res_2", [leg(1, START + DAY, START + DAY + 4 * HOUR)])


async def test_many_at_once_never_exceed_the_credit(billing: Billing, people: People) -> None:
    await selling.give_credit(billing, people.customer, 3 * 24 * NODE_HOUR)
    legs = [leg(1, START + DAY, START + 2 * DAY)]
    tried = [selling.sell(billing, people.customer, f"res_{n}", legs) for n in range(8)]
    results = await asyncio.gather(*tried, return_exceptions=True)
    assert sum(isinstance(result, CreditExhausted) for result in results) == 5
    assert (await selling.credit(billing, people.customer, START)).committed_nano == _nano(3 * 24 * NODE_HOUR)


async def test_usage_turns_what_is_set_aside_into_spending(
    billing: Billing, metering: Metering, people: People, clock: FakeClock
) -> None:
    await selling.give_credit(billing, people.customer, 10_000)
    legs = [leg(2, START + DAY, START + 3 * DAY)]
    price = await selling.sell(billing, people.customer, "res_1", legs)
    clock.at = START + 2 * DAY
    await selling.deliver(metering, people.customer.project_id, "res_1", legs, clock.at)
    for _ in range(2):
        assert await billing.settling.settle_once() == 1
        now = await selling.credit(billing, people.customer, START)
        assert (now.spent_nano, now.committed_nano) == (_nano(price.total / 2), _nano(price.total))
    clock.at = START + 3 * DAY
    await selling.deliver(metering, people.customer.project_id, "res_1", legs, clock.at)
    await billing.settling.settle_once()
    now = await selling.credit(billing, people.customer, START)
    assert (now.spent_nano, now.pending_nano) == (_nano(price.total), 0)
    assert await selling.costs(billing, metering, people.customer.project_id, YEAR) == {
        "node_seconds_reserved": price.total
    }


async def test_what_was_not_delivered_comes_back(
    billing: Billing, metering: Metering, people: People, clock: FakeClock
) -> None:
    await selling.give_credit(billing, people.customer, 10_000)
    legs = [leg(2, START + DAY, START + 2 * DAY)]
    price = await selling.sell(billing, people.customer, "res_1", legs)
    project = people.customer.project_id
    clock.at = START + 2 * DAY
    await selling.deliver(metering, project, "res_1", legs, clock.at)
    hour = START + DAY + 5 * HOUR
    dims = {"sku": selling.SKU, "site": selling.SITE, "capacity_class": "reserved", "charge_by": "reservation"}
    missing = UsageFact(
        new_uuid7(), Meter.NODE_SECONDS_RESERVED, -3600, project, "res_1", hour, hour + HOUR, Dims.of(dims)
    )
    async with billing.db.transaction() as tx:
        await metering.intake(tx, [missing])
    await metering.roll_up_once()
    await billing.settling.settle_once()
    now = await selling.credit(billing, people.customer, START)
    assert (now.spent_nano, now.committed_nano) == (_nano(price.total - NODE_HOUR), _nano(price.total))
    clock.advance(days=4)
    await billing.settling.settle_once()
    now = await selling.credit(billing, people.customer, START)
    assert (now.committed_nano, now.pending_nano) == (_nano(price.total - NODE_HOUR), 0)
    assert await billing.settling.settle_once() == 0, "it is settled to its end"
    assert (await selling.costs(billing, metering, project, YEAR))["node_seconds_reserved"] == price.total - NODE_HOUR


async def test_the_price_stands_whatever_becomes_of_the_book(
    billing: Billing, metering: Metering, people: People, clock: FakeClock
) -> None:
    await selling.give_credit(billing, people.customer, 10_000)
    legs = [leg(1, START + DAY, START + 2 * DAY)]
    price = await selling.sell(billing, people.customer, "res_1", legs)
    dear = Price(Meter.NODE_SECONDS_RESERVED, 3600, Decimal(900), charge_by="reservation")
    await billing.prices.publish_price_book(people.operator, [dear], "USD", START + 30 * HOUR + timedelta(minutes=20))
    clock.at = START + 2 * DAY
    await selling.deliver(metering, people.customer.project_id, "res_1", legs, clock.at)
    assert await selling.costs(billing, metering, people.customer.project_id, YEAR) == {
        "node_seconds_reserved": price.total
    }
    async with billing.db.reading() as tx:
        (fresh,) = (await billing.reserved.price(tx, people.customer.organization_id, legs)).lines
    assert fresh.node_hour == 900, "a new one is dearer"


async def test_cancelling_gives_back_the_rest_and_charges_the_fee(
    billing: Billing, metering: Metering, people: People, clock: FakeClock
) -> None:
    await selling.give_credit(billing, people.customer, 50_000)
    legs = [leg(2, START + 10 * DAY, START + 20 * DAY)]
    price = await selling.sell(billing, people.customer, "res_1", legs)
    fee = await selling.cancel(billing, "res_1")
    assert fee == price.total / 4
    now = await selling.credit(billing, people.customer, START)
    assert (now.spent_nano, now.committed_nano) == (_nano(fee), _nano(fee))
    assert await selling.costs(billing, metering, people.customer.project_id, YEAR) == {"cancellation_fee": fee}
    with pytest.raises(NotSold):
        await selling.cancel(billing, "res_1", Decimal(0))
    async with billing.db.reading() as tx:
        assert (await billing.reserved.terms(tx, "res_1")).closed_at == clock.now()


async def test_a_cancel_in_the_middle_leaves_what_was_used(
    billing: Billing, metering: Metering, people: People, clock: FakeClock
) -> None:
    await selling.give_credit(billing, people.customer, 50_000)
    legs = [leg(1, START + DAY, START + 11 * DAY)]
    await selling.sell(billing, people.customer, "res_1", legs)
    clock.at = START + 2 * DAY + timedelta(minutes=30)
    await selling.deliver(metering, people.customer.project_id, "res_1", legs, clock.at)
    fee = await selling.cancel(billing, "res_1")
    used = Decimal("24.5") * NODE_HOUR
    assert fee == (240 * NODE_HOUR - used) / 2
    await billing.settling.settle_once()
    now = await selling.credit(billing, people.customer, START)
    assert (now.spent_nano, now.pending_nano) == (_nano(fee + used), 0)
    assert await selling.costs(billing, metering, people.customer.project_id, YEAR) == {
        "cancellation_fee": fee, "node_seconds_reserved": used
    }  # fmt: skip


async def test_a_fee_is_owed_whatever_is_left(billing: Billing, people: People) -> None:
    await selling.give_credit(billing, people.customer, 24 * NODE_HOUR)
    await selling.sell(billing, people.customer, "res_1", [leg(1, START + DAY, START + 2 * DAY)])
    await selling.cancel(billing, "res_1", Decimal(5000))
    now = await selling.credit(billing, people.customer, START)
    assert now.spent_nano == now.committed_nano == _nano(5000)


async def test_an_extension_costs_the_new_price_and_the_old_part_the_old(
    billing: Billing, metering: Metering, people: People, clock: FakeClock
) -> None:
    await selling.give_credit(billing, people.customer, 50_000)
    await selling.sell(billing, people.customer, "res_1", [leg(1, START + DAY, START + 2 * DAY)])
    rows = [Price(Meter.NODE_SECONDS_RESERVED, 3600, Decimal(36), charge_by="reservation")]
    await billing.prices.publish_price_book(people.operator, rows, "USD")
    longer = [leg(1, START + DAY, START + 3 * DAY)]
    price = await selling.change(billing, "res_1", longer)
    assert price.total == 24 * (NODE_HOUR + 36)
    assert (await selling.credit(billing, people.customer, START)).committed_nano == _nano(price.total)
    clock.at = START + 3 * DAY
    await selling.deliver(metering, people.customer.project_id, "res_1", longer, clock.at)
    assert (await selling.costs(billing, metering, people.customer.project_id, YEAR)).popitem()[1] == price.total


async def test_a_change_beyond_the_credit_changes_nothing(billing: Billing, people: People) -> None:
    legs = [leg(1, START + DAY, START + 2 * DAY)]
    await selling.sell(billing, people.customer, "res_1", legs)
    with pytest.raises(CreditExhausted):
        await selling.change(billing, "res_1", [leg(1, START + DAY, START + 4 * DAY)])
    async with billing.db.reading() as tx:
        assert (await billing.reserved.terms(tx, "res_1")).legs == tuple(legs)
    await selling.give_credit(billing, people.customer, 1)
    await selling.change(billing, "res_1", [leg(1, START + DAY, START + DAY + HOUR)])
    now = await selling.credit(billing, people.customer, START)
    assert now.committed_nano == _nano(NODE_HOUR), "to buy less is always possible"


async def test_moving_to_another_month_moves_what_is_set_aside(billing: Billing, people: People) -> None:
    await selling.sell(billing, people.customer, "res_1", [leg(1, START + DAY, START + 2 * DAY)])
    await selling.change(billing, "res_1", [leg(1, FEBRUARY, FEBRUARY + DAY)])
    assert (await selling.credit(billing, people.customer, START)).committed_nano == 0
    assert (await selling.credit(billing, people.customer, FEBRUARY)).committed_nano == _nano(24 * NODE_HOUR)


async def test_a_part_that_is_split_off_keeps_price_and_terms(
    billing: Billing, people: People, identity: Identity, clock: FakeClock
) -> None:
    await selling.give_credit(billing, people.customer, 50_000)
    await selling.sell(billing, people.customer, "res_1", [leg(4, START + DAY, START + 2 * DAY)])
    rows = [Price(Meter.NODE_SECONDS_RESERVED, 3600, Decimal(36), charge_by="reservation")]
    await billing.prices.publish_price_book(people.operator, rows, "USD")
    other = await identity.tenants.create_project(people.customer, "other")
    await selling.change(billing, "res_1", [leg(3, START + DAY, START + 2 * DAY)])
    legs = [leg(1, START + DAY, START + 2 * DAY)]
    async with billing.db.transaction() as tx:
        parent = await billing.reserved.terms(tx, "res_1")
        price = (await billing.reserved.pricer(tx, parent.organization)).price(legs, keep=parent.rates)
        child = await billing.reserved.open(tx, people.customer, "res_2", other.id, legs, price, parent="res_1")
    assert price.total == 24 * NODE_HOUR
    assert (child.cancellation, child.project) == (parent.cancellation, other.id)
    assert (await selling.credit(billing, people.customer, START)).committed_nano == _nano(4 * 24 * NODE_HOUR)


async def test_a_new_budget_counts_what_is_reserved(
    billing: Billing, metering: Metering, people: People, clock: FakeClock
) -> None:
    await selling.give_credit(billing, people.customer, 50_000)
    legs = [leg(1, START + DAY, START + 5 * DAY)]
    price = await selling.sell(billing, people.customer, "res_1", legs)
    clock.at = START + 3 * DAY
    await selling.deliver(metering, people.customer.project_id, "res_1", legs, clock.at)
    made = await billing.budgets.create_budget(
        people.customer, {"project": "default"}, Money(Decimal(5000), "USD"), BudgetWindow.MONTH
    )
    await billing.settling.settle_once()
    now = (await billing.budgets.get_budget(people.customer, made.account.id)).balance
    assert (now.committed_nano, now.spent_nano) == (_nano(price.total), _nano(price.total / 2))


async def test_what_is_over_early_is_free_again(billing: Billing, people: People, clock: FakeClock) -> None:
    await selling.sell(billing, people.customer, "res_1", [leg(1, START + DAY, START + 2 * DAY)])
    clock.at = START + 36 * HOUR
    for _ in range(2):
        async with billing.db.transaction() as tx:
            await billing.reserved.over(tx, "res_1", clock.now())
            await billing.reserved.over(tx, "res_never_confirmed", clock.now())
    assert (await selling.credit(billing, people.customer, START)).committed_nano == _nano(12 * NODE_HOUR)


async def test_charges_name_what_they_are_for(billing: Billing, people: People, customer) -> None:
    await selling.sell(billing, people.customer, "res_1", [leg(1, START + DAY, START + 2 * DAY)])
    await selling.cancel(billing, "res_1", Decimal("1.000000000000000001"))
    (row,) = (await customer.get("/charges", params={"resource": "res_1"})).json()["data"]
    assert (row["kind"], row["amount"]) == (
        ChargeKind.CANCELLATION_FEE, {"amount": "1.000000000000000001", "currency": "USD"}
    )  # fmt: skip
    assert (await customer.get(f"/charges/{row['id']}")).json() == row
    assert (await customer.get("/charges", params={"resource": "res_2"})).json()["data"] == []
    assert (await customer.get("/charges/chg_none")).status_code == 404
    shown = (await customer.get("/costs", params={"group_by": "resource,sku,site,key,project"})).json()["data"]
    assert [(own["meter"], own["unit"], own["quantity"]) for own in shown] == [("cancellation_fee", "charge", 1)]
    assert [shown[0][name] for name in ("resource", "sku", "site", "key", "project")] == [
        "res_1", selling.SKU, selling.SITE, None, "default"
    ]  # fmt: skip


sizes = st.tuples(st.integers(1, 5), st.integers(0, 60 * 86_400), st.integers(1, 20 * 86_400))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(sizes, st.sampled_from(["keep", "cancel", "shrink", "over"])), min_size=1, max_size=4))
async def test_the_ledger_holds_exactly_what_is_reserved(
    billing: Billing, people: People, clock: FakeClock, plan: list[tuple]
) -> None:
    """Over all periods: committed = Σ of what is sold and not cancelled + fees."""
    clock.at = START
    await selling.give_credit(billing, people.customer, 10**9)
    held = await _committed(billing, people)
    for (nodes, begin, seconds), fate in plan:
        start = START + timedelta(seconds=begin)
        legs = [leg(nodes, start, start + timedelta(seconds=seconds))]
        name = new_id("res")
        price = await selling.sell(billing, people.customer, name, legs)
        expected = price.total
        if fate == "cancel":
            expected = await selling.cancel(billing, name)
        elif fate == "shrink":
            expected = (await selling.change(billing, name, [replace(legs[0], nodes=1)])).total
        elif fate == "over":
            async with billing.db.transaction() as tx:
                await billing.reserved.over(tx, name, clock.now())
            expected = Decimal(0)
        now = await _committed(billing, people)
        # Each period rounds up to whole nano-units.
        assert 0 <= now - held - expected <= Decimal("1E-9") * 6
        held = now


async def _committed(billing: Billing, people: People) -> Decimal:
    months = [datetime.fromisoformat(f"2026-{month:02}-01T00:00:00Z") for month in range(1, 6)]
    found = [await selling.credit(billing, people.customer, month) for month in months]
    return decimal_from_nano(sum(own.committed_nano for own in found))
