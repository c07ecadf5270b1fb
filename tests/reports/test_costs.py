"""Costs are the rows of usage, priced to the last digit, whatever they are grouped by."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.billing.model import ChargeBy, Price, exact_sum
from skerry.billing.rules.prices import Tariff, book_at, exact_cost
from skerry.billing.service import Billing
from skerry.billing.store.prices import PriceStore
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import ProjectId, new_uuid7
from skerry.kernel.paging import PageRequest, decode_cursor, encode_cursor
from skerry.kernel.windows import Window
from skerry.metering.model import Bucket, Dims, Meter, UsageFact, UsageQuery
from skerry.metering.service import Metering
from skerry.reports.model import CostRow
from skerry.reports.service import Reports
from tests.billing.conftest import People

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = Window(START, START + timedelta(days=1))
INSTANT = timedelta(microseconds=1)
MODELS = ("smol", "big")


def _dims(model: str = "smol", key: str = "key_1", charge_by: str = "tokens", **more: str) -> Dims:
    return Dims.of({"model": model, "key": key, "charge_by": charge_by, "site": "local", **more})


def _fact(
    project: ProjectId, quantity: int, t1: datetime, meter: Meter = Meter.TOKENS_PROMPT, **dims: str
) -> UsageFact:
    return UsageFact(new_uuid7(), meter, quantity, project, "ep_1", t1, t1, _dims(**dims))


def _row(amount: int | str, model: str | None = None, meter: Meter = Meter.TOKENS_PROMPT) -> Price:
    return Price(meter, 10**6, Decimal(amount), model=model)


async def _use(metering: Metering, *facts: UsageFact) -> None:
    async with metering.db.transaction() as tx:
        await metering.intake(tx, facts)
    await metering.roll_up_once()


@pytest.fixture
def reports(billing: Billing, metering: Metering) -> Reports:
    return Reports(billing.db, metering, billing.prices)


async def _costs(reports: Reports, project: ProjectId, query: UsageQuery, limit: int = 500) -> list[CostRow]:
    rows: list[CostRow] = []
    after = None
    while True:
        page = await reports.costs(project, query, PageRequest(limit, after))
        rows += page.data
        if page.next_cursor is None:
            return rows
        after = decode_cursor(page.next_cursor)


async def test_an_answer_is_found_in_usage_and_in_costs(
    customer: httpx.AsyncClient, metering: Metering, people: People, clock: FakeClock
) -> None:
    at = clock.advance(hours=3)
    project = people.customer.project_id
    await _use(
        metering,
        _fact(project, 20, at),
        _fact(project, 7, at, Meter.TOKENS_COMPLETION),
        _fact(project, 1, at, Meter.REQUESTS),
    )
    used = (await customer.get("/usage", params={"group_by": "model,project"})).json()
    assert used["data"] == [
        {
            "start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z", "meter": meter, "unit": unit,
            "quantity": quantity, "model": "smol", "project": "default",
        }
        for meter, unit, quantity in [
            ("requests", "request", 1), ("tokens_completion", "token", 7), ("tokens_prompt", "token", 20)
        ]
    ]  # fmt: skip
    costs = (await customer.get("/costs", params={"group_by": ["model", "project"]})).json()["data"]
    assert [{name: row[name] for name in used["data"][0]} for row in costs] == used["data"]
    assert [row["billed_cost"] for row in costs] == [
        {"amount": amount, "currency": "USD"} for amount in ("0", "0.0000007", "0.000001")
    ]
    assert all(row["list_cost"] == row["contracted_cost"] == row["billed_cost"] for row in costs)
    assert all(row["energy_mwh"] is None and row["carbon_mg"] is None for row in costs)


async def test_a_price_change_inside_an_hour_splits_it(
    reports: Reports, billing: Billing, metering: Metering, people: People, clock: FakeClock
) -> None:
    project = people.customer.project_id
    moment = clock.now() + timedelta(minutes=30)
    await billing.prices.publish_price_book(people.operator, [_row("5")], "USD", moment)
    clock.advance(hours=2)
    ends = [moment - INSTANT, moment, moment + INSTANT, moment + timedelta(hours=1)]
    await _use(metering, *(_fact(project, 10**6, end) for end in ends))
    (hourly, later) = await _costs(reports, project, UsageQuery(DAY, bucket=Bucket.HOUR))
    # What ended at the very moment was used before it.
    assert (hourly.quantity, hourly.billed_cost) == (3 * 10**6, Decimal("5.1"))
    assert (later.quantity, later.billed_cost) == (10**6, 5)
    (whole,) = await _costs(reports, project, UsageQuery(DAY))
    assert (whole.quantity, whole.billed_cost) == (4 * 10**6, Decimal("10.1"))


async def test_a_price_change_on_the_hour_needs_no_facts(
    reports: Reports, billing: Billing, metering: Metering, people: People, clock: FakeClock
) -> None:
    project = people.customer.project_id
    moment = clock.now() + timedelta(hours=1)
    await billing.prices.publish_price_book(people.operator, [_row("5")], "USD", moment)
    clock.advance(hours=2)
    await _use(metering, *(_fact(project, 10**6, end) for end in (moment - INSTANT, moment, moment + INSTANT)))
    rows = await _costs(reports, project, UsageQuery(DAY, bucket=Bucket.HOUR))
    assert [row.billed_cost for row in rows] == [Decimal("0.1"), 5]


async def test_only_the_family_of_charge_by_costs_money(
    reports: Reports, metering: Metering, people: People, clock: FakeClock
) -> None:
    project = people.customer.project_id
    meters = list(Meter)
    for charge_by in ChargeBy:
        facts = [_fact(project, 3600, clock.now(), meter, charge_by=charge_by.value) for meter in meters]
        await _use(metering, *facts)
    window = Window(START - timedelta(hours=1), START)
    rows = await _costs(reports, project, UsageQuery(window, ("charge_by",)))
    assert len(rows) == len(meters) * len(ChargeBy)
    for row in rows:
        carries = row.meter.family.value == row.groups["charge_by"]
        assert (row.billed_cost > 0) == carries, row


async def test_a_project_s_costs_are_its_own(
    customer: httpx.AsyncClient, operator: httpx.AsyncClient, metering: Metering, people: People, clock: FakeClock
) -> None:
    await _use(metering, _fact(people.operator.project_id, 5, clock.advance(hours=1)))
    for path in ("/usage", "/costs"):
        assert (await customer.get(path)).json()["data"] == []
        assert (await customer.get(path, params={"project": "operator/platform"})).status_code == 404
        assert len((await operator.get(path, params={"project": "operator/platform"})).json()["data"]) == 1


NONSENSE = [
    ("from", "yesterday", 422),
    ("from", "2026-01-01T00:00:00", 422),
    ("to", "2020-01-01", 422),
    ("group_by", "colour", 422),
    ("bucket", "week", 422),
    ("limit", "0", 422),
    ("after", "nonsense", 400),
    ("after", "WyJ4Il0", 400),
    ("after", encode_cursor(("2026-01-01", "\ud800")), 400),
]


async def test_a_query_that_makes_no_sense_is_refused(customer: httpx.AsyncClient) -> None:
    for path in ("/usage", "/costs"):
        for field, value, status in NONSENSE:
            answer = await customer.get(path, params={"from": "2026-01-01", field: value})
            assert answer.status_code == status, (path, field, value, answer.text)


async def test_a_key_without_read_sees_nothing(app, identity, people: People) -> None:
    from skerry.identity.model import KeyTerms, Scope

    minted = await identity.create_key(people.customer, "narrow", KeyTerms(frozenset({Scope.INFERENCE})))
    headers = {"authorization": f"Bearer {minted.secret}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://cloud", headers=headers
    ) as client:
        for path in ("/usage", "/costs", "/prices", "/budgets"):
            assert (await client.get(path)).status_code == 403


moments = st.integers(0, 4 * 3600).map(lambda seconds: START + timedelta(seconds=seconds))
uses = st.lists(
    st.tuples(
        st.sampled_from([Meter.TOKENS_PROMPT, Meter.TOKENS_COMPLETION, Meter.REQUESTS]),
        st.integers(-100, 10**7), moments, st.sampled_from(MODELS), st.sampled_from(["key_1", "key_2"]),
    ),
    min_size=1, max_size=25,
)  # fmt: skip
changes = st.lists(st.tuples(moments, st.integers(0, 9), st.sampled_from([None, *MODELS])), max_size=4)
groupings = st.lists(st.sampled_from(["model", "key", "resource", "sku", "project"]), unique=True, max_size=3)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(uses, changes, groupings, st.sampled_from([None, *Bucket]))
async def test_costs_equal_each_fact_at_its_price(
    reports: Reports, metering: Metering, billing: Billing, people: People, clock: FakeClock,
    uses: list[tuple], changes: list[tuple], groups: list[str], bucket: Bucket | None,
) -> None:  # fmt: skip
    project = ProjectId(f"proj_{new_uuid7()}")
    clock.at = START
    for moment, amount, model in changes:
        row = _row(amount, model)
        await billing.prices.publish_price_book(
            people.operator, [row, _row(2, meter=Meter.TOKENS_COMPLETION)], "USD", moment
        )
    clock.at = START + timedelta(hours=5)
    facts = [_fact(project, quantity, t1, meter, model=model, key=key) for meter, quantity, t1, model, key in uses]
    await _use(metering, *facts)

    async with billing.db.reading() as tx:
        store = PriceStore()
        books = await store.with_prices(tx, await store.headers(tx))
    expected: Counter[Meter] = Counter()
    costs: dict[Meter, list[Decimal]] = {}
    for fact in facts:
        atto = Tariff(book_at(books, fact.t1 - INSTANT).prices).atto(fact.meter, fact.dims)
        expected[fact.meter] += fact.quantity
        costs.setdefault(fact.meter, []).append(exact_cost(fact.quantity, atto))

    window = Window(START - timedelta(hours=1), START + timedelta(hours=5))
    query = UsageQuery(window, tuple(groups), bucket)
    rows = await _costs(reports, project, query, limit=3)
    for meter, quantity in expected.items():
        own = [row for row in rows if row.meter is meter]
        assert sum(row.quantity for row in own) == quantity
        assert exact_sum(row.billed_cost for row in own) == exact_sum(costs[meter])
    usage = await metering.usage(project, query, PageRequest(500))
    assert [(row.window, row.meter, row.quantity, row.groups) for row in rows] == [
        (row.window, row.meter, row.quantity, row.groups) for row in usage.data
    ]
