"""Contracts: who writes and reads them, what they change, and that one is in force at a time."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from skerry.billing.model import DEFAULT_CANCELLATION, AccountKind
from skerry.billing.service import Billing
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import new_uuid7
from skerry.kernel.money import decimal_from_nano
from skerry.kernel.windows import Window
from skerry.metering.model import Dims, Meter, UsageFact
from skerry.metering.service import Metering
from tests.billing import selling
from tests.billing.conftest import People
from tests.billing.selling import DAY, HOUR, START, leg

ROW = {"meter": "node_seconds_reserved", "charge_by": "reservation", "unit_quantity": 3600, "unit_price": "9"}
TERMS = {"free_days_before": 30, "steps": [{"days_before": 7, "share": 0.2}, {"days_before": 0, "share": 1}]}
BODY: dict[str, Any] = {
    "organization": "demo",
    "name": "frame 2026",
    "prices": [ROW, {**ROW, "line": "operations", "unit_price": "0.9"}],
    "cancellation": TERMS,
    "credit_limit": {"amount": "50000", "currency": "USD"},
}


async def _create(operator: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await operator.post("/contracts", json={**BODY, **changes})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def _credit_limit(billing: Billing, people: People) -> Decimal:
    known = await selling.accounts(billing, people.customer)
    return next(decimal_from_nano(own.limit_nano) for own in known.values() if own.kind is AccountKind.CREDIT_LIMIT)


async def test_operators_write_contracts_and_the_organization_reads_its_own(
    operator: httpx.AsyncClient, customer: httpx.AsyncClient
) -> None:
    made = await _create(operator)
    assert {name: made[name] for name in ("name", "starts_at", "ends_at", "cancellation", "credit_limit")} == {
        "name": "frame 2026", "starts_at": "2026-01-01T00:00:00Z", "ends_at": None, "cancellation": TERMS,
        "credit_limit": {"amount": "50000", "currency": "USD"},
    }  # fmt: skip
    assert [row["line"] for row in made["prices"]] == [None, "operations"]
    assert (await customer.get(f"/contracts/{made['id']}")).json() == made
    assert (await customer.get("/contracts")).json()["data"] == [made]
    assert (await operator.get("/contracts")).json()["data"] == [made]
    assert (await operator.get("/contracts", params={"organization": "operator"})).json()["data"] == []
    assert (await customer.post("/contracts", json=BODY)).status_code == 403
    assert (await customer.delete(f"/contracts/{made['id']}")).status_code == 403


async def test_another_s_contract_is_not_there(operator: httpx.AsyncClient, customer: httpx.AsyncClient) -> None:
    other = await _create(operator, organization="operator")
    assert (await customer.get(f"/contracts/{other['id']}")).status_code == 404
    assert (await customer.get("/contracts")).json()["data"] == []
    assert (await customer.get("/contracts", params={"organization": "operator"})).status_code == 404
    assert (await operator.get(f"/contracts/{other['id']}")).status_code == 200


async def test_one_is_in_force_at_a_time(operator: httpx.AsyncClient, clock: FakeClock) -> None:
    first = await _create(operator, ends_at="2026-03-01T00:00:00Z")
    late = {**BODY, "starts_at": "2026-02-01T00:00:00Z"}
    refused = await operator.post("/contracts", json=late)
    assert (refused.status_code, refused.json()["code"], refused.json()["contract"]) == (
        409, "contract_overlaps", first["id"]
    )  # fmt: skip
    after = await _create(operator, starts_at="2026-03-01T00:00:00Z")
    assert (await operator.post("/contracts", json=late)).status_code == 409
    clock.advance(days=3)
    ended = (await operator.delete(f"/contracts/{first['id']}")).json()
    assert ended["ends_at"] == "2026-01-04T00:00:00Z"
    again = await operator.delete(f"/contracts/{first['id']}")
    assert (again.status_code, again.json()["code"]) == (409, "contract_ended")
    dropped = (await operator.delete(f"/contracts/{after['id']}")).json()
    assert dropped["ends_at"] == dropped["starts_at"], "it never will be in force"
    await _create(operator, starts_at="2026-02-01T00:00:00Z")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"prices": [{**ROW, "meter": "tokens_prompt", "charge_by": "tokens"}]}, "prices.0.meter"),
    ({"prices": [{**ROW, "unit_price": "1"}]}, "prices.0.unit_price"),
    ({"prices": [ROW, ROW]}, "prices.1"),
    ({"prices": [ROW, {**ROW, "line": "compute"}]}, "prices.1"),
    ({"prices": [{**ROW, "meter": "accelerator_seconds", "charge_by": "time", "line": "hosting"}]}, "prices.0.line"),
    ({"prices": [{**ROW, "line": "champagne"}]}, "prices.0.line"),
    ({"starts_at": "2025-01-01T00:00:00Z"}, "starts_at"),
    ({"ends_at": "2025-01-01T00:00:00Z"}, "ends_at"),
    ({"cancellation": {**TERMS, "steps": []}}, "cancellation.steps"),
    ({"cancellation": {**TERMS, "free_days_before": 7}}, "cancellation.steps.0.days_before"),
    ({"cancellation": {**TERMS, "steps": [{"days_before": 7, "share": 0.2}]}}, "cancellation.steps"),
    ({"cancellation": {**TERMS, "steps": [{"days_before": 0, "share": 1.2}]}}, "cancellation.steps.0.share"),
    ({"cancellation": {**TERMS, "steps": TERMS["steps"][::-1]}}, "cancellation.steps"),
    ({"credit_limit": {"amount": "1", "currency": "EUR"}}, "credit_limit.currency"),
]


@pytest.mark.parametrize(("changes", "path"), BAD)
async def test_what_cannot_be_kept_to_is_refused_by_name(
    operator: httpx.AsyncClient, changes: dict[str, Any], path: str
) -> None:
    answer = await operator.post("/contracts", json={**BODY, **changes})
    assert answer.status_code == 422, answer.text
    assert path in [error["path"] for error in answer.json()["errors"]], answer.text


async def test_an_unknown_organization_has_no_contract(operator: httpx.AsyncClient) -> None:
    answer = await operator.post("/contracts", json={**BODY, "organization": "nobody"})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_organization")


async def test_reservations_cost_what_the_contract_says(
    operator: httpx.AsyncClient, billing: Billing, metering: Metering, people: People, clock: FakeClock
) -> None:
    made = await _create(operator)
    legs = [leg(2, START + 40 * DAY, START + 41 * DAY)]
    price = await selling.sell(billing, people.customer, "res_1", legs)
    # Compute and operations by the contract, the three lines that it does not name by the book.
    node_hour = Decimal(9) + Decimal("0.9") + Decimal("0.72") + Decimal("0.36") + Decimal("1.08")
    assert (price.total, price.contract) == (48 * node_hour, made["id"])
    async with billing.db.reading() as tx:
        terms = await billing.reserved.terms(tx, "res_1")
    assert terms.cancellation.free_days_before == 30
    await operator.delete(f"/contracts/{made['id']}")
    async with billing.db.transaction() as tx:
        assert await billing.reserved.cancellation(tx, people.customer.organization_id) == DEFAULT_CANCELLATION
    clock.at = START + 41 * DAY
    await selling.deliver(metering, people.customer.project_id, "res_1", legs, clock.at)
    year = Window(START, START + 365 * DAY)
    found = await selling.costs(billing, metering, people.customer.project_id, year)
    assert found == {"node_seconds_reserved": price.total}, "it was sold under the contract"


async def test_a_contract_that_begins_later_prices_what_lies_later(
    operator: httpx.AsyncClient, billing: Billing, people: People
) -> None:
    await _create(operator, starts_at="2026-01-10T00:00:00Z", prices=[{**ROW, "unit_price": "18.18"}])
    await selling.give_credit(billing, people.customer, 10_000)
    legs = [leg(1, START + 8 * DAY, START + 10 * DAY)]
    price = await selling.sell(billing, people.customer, "res_1", legs)
    assert price.total == 24 * selling.NODE_HOUR + 24 * (selling.NODE_HOUR + Decimal("0.18"))


async def test_the_credit_limit_comes_and_goes_with_the_contract(
    operator: httpx.AsyncClient, billing: Billing, people: People, clock: FakeClock
) -> None:
    assert await _credit_limit(billing, people) == 1000
    made = await _create(operator, starts_at="2026-01-05T00:00:00Z", ends_at="2026-02-05T00:00:00Z")
    assert await _credit_limit(billing, people) == 1000
    for days, expected in ((4, 50_000), (30, 50_000), (1, 1000)):
        clock.advance(days=days)
        async with billing.db.transaction() as tx:
            await billing.contracts.keep_house(tx)
            assert await billing.contracts.keep_house(tx) == 0
        assert await _credit_limit(billing, people) == expected, clock.now()
    assert made["credit_limit"]["amount"] == "50000"


async def test_ending_a_contract_takes_its_credit_back_at_once(
    operator: httpx.AsyncClient, billing: Billing, people: People
) -> None:
    made = await _create(operator)
    assert await _credit_limit(billing, people) == 50_000
    await operator.delete(f"/contracts/{made['id']}")
    assert await _credit_limit(billing, people) == 1000


async def test_credit_of_a_contract_to_come_already_bears_what_lies_in_it(
    operator: httpx.AsyncClient, billing: Billing, people: People
) -> None:
    await _create(operator, starts_at="2026-02-01T00:00:00Z")
    start = START + 40 * DAY
    await selling.sell(billing, people.customer, "res_1", [leg(10, start, start + DAY)])


async def test_a_pricer_is_made_anew_when_something_changes(
    operator: httpx.AsyncClient, billing: Billing, people: People, clock: FakeClock
) -> None:
    async def pricer() -> object:
        async with billing.db.reading() as tx:
            return await billing.reserved.pricer(tx, people.customer.organization_id)

    first = await pricer()
    clock.advance(hours=1)
    assert await pricer() is first
    made = await _create(operator)
    second = await pricer()
    assert second is not first
    await operator.delete(f"/contracts/{made['id']}")
    third = await pricer()
    assert third is not second
    book = {"currency": "USD", "prices": [ROW]}
    assert (await operator.post("/price-books", json=book)).status_code == 201
    assert await pricer() is not third


async def test_a_contract_s_accelerator_seconds_show_in_costs(
    operator: httpx.AsyncClient, billing: Billing, metering: Metering, people: People, clock: FakeClock
) -> None:
    row = {"meter": "accelerator_seconds", "charge_by": "time", "unit_quantity": 3600, "unit_price": "1.80"}
    await _create(operator, starts_at="2026-01-01T00:30:00Z", prices=[row])
    clock.at = START + 2 * HOUR
    project = people.customer.project_id
    dims = Dims.of({"sku": "h100", "site": "no", "charge_by": "time"})
    ends = [START + timedelta(minutes=30), START + HOUR]
    facts = [
        UsageFact(new_uuid7(), Meter.ACCELERATOR_SECONDS, 1800, project, "wl_1", end - HOUR / 2, end, dims)
        for end in ends
    ]
    async with metering.db.transaction() as tx:
        await metering.intake(tx, facts)
    await metering.roll_up_once()
    found = await selling.costs(billing, metering, project, Window(START, START + DAY))
    assert found == {"accelerator_seconds": Decimal("1.80") + Decimal("0.90")}
