# ruff: noqa: F811
"""Half the price, the same number everywhere, and once for each row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.billing.model import SELECTORS, Grant, Price, PriceBook, PriceTarget, Timeline, batch_atto, exact_sum
from skerry.billing.rules.prices import TokenTariffs, rate
from skerry.inference.batches.rules import record_id
from skerry.kernel.ids import BatchId
from skerry.kernel.money import atto_to_nano_ceil, decimal_from_atto
from skerry.kernel.paging import PageRequest
from skerry.kernel.windows import Window
from skerry.metering.journal_intake import JournalIntake, facts_of
from skerry.metering.model import BATCHED, Meter, UsageSum
from skerry.reports.service import Reports
from skerry.runtime.journal.reader import Position
from skerry.runtime.journal.records import AnswerRecord, Mark
from tests.billing.conftest import billing, identity, metering, people  # noqa: F401

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=UTC))
METERS = (Meter.TOKENS_PROMPT, Meter.TOKENS_CACHED, Meter.TOKENS_COMPLETION)


def _us(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


atto = st.integers(0, 10**15)


@given(st.tuples(atto, atto, atto), st.lists(st.tuples(*[st.integers(0, 10**6)] * 3), min_size=1, max_size=20))
def test_what_answers_of_a_batch_say_is_what_rating_makes_of_their_sum(prices, answers) -> None:
    """A gateway halves its schedule, rating the book's rows: row by row or as one sum, it is the same number."""
    rows = [
        Price(meter, 1, decimal_from_atto(price), charge_by="tokens")
        for meter, price in zip(METERS, prices, strict=True)
    ]
    book = PriceBook(1, "USD", HOUR.start, tuple(rows))
    (price,) = TokenTariffs([book], HOUR.start).of(PriceTarget("m", "s", "c"))
    half = [batch_atto(part) for part in (price.prompt, price.cached, price.completion)]
    said = sum(sum(n * part for n, part in zip(answer, half, strict=True)) for answer in answers)
    groups = {**dict.fromkeys(SELECTORS), "charge_by": "tokens", BATCHED: "yes"}
    sums = [
        UsageSum(HOUR, meter, sum(column), groups)
        for meter, column in zip(METERS, zip(*answers, strict=True), strict=True)
    ]
    charged = exact_sum(charge.billed_cost for charge in rate(sums, Timeline((), (book,))))
    assert charged == decimal_from_atto(said)
    full = exact_sum(
        charge.billed_cost
        for charge in rate([replace(one, groups={**groups, BATCHED: None}) for one in sums], Timeline((), (book,)))
    )
    assert 0 <= full - 2 * charged <= sum(sum(answer) for answer in answers) * Decimal("1e-18")


@pytest.fixture
async def lease(billing, people, clock):
    clock.advance(minutes=1)  # what ends with the month belongs to it
    who = people.customer
    async with billing.db.transaction() as tx:
        (credit,) = await billing.balances.accounts_for(tx, who.organization_id, who.project_id, who.key_id)
        lease = await billing.balances.acquire_lease(tx, credit.id, "j1", 1, 10**9, timedelta(seconds=60))
    assert isinstance(lease, Grant)
    return credit, lease


@pytest.fixture
async def price(billing):
    target = PriceTarget("smol", "local", "on_demand")
    async with billing.db.reading() as tx:
        return (await billing.prices.model_prices(tx, [target]))[target].prices[0]


def _record(people, lease, price, clock, line: int | None, **changes) -> tuple[AnswerRecord, int]:
    """A record as a gateway writes it, and the cost that it told the client, in atto-units."""
    batch, now = BatchId("batch_1"), clock.now()
    id = record_id(batch, now, line or 0)
    values = {
        "id": id.bytes, "project": people.customer.project_id,
        "key": people.customer.key_id, "model": "smol", "endpoint": "ep_1", "replica": "rep_1", "site": "local",
        "capacity_class": "on_demand", "charge_by": "tokens", "prompt": 11, "cached": 3, "completion": 7,
        "egress_bytes": 100, "t0": _us(now), "t1": _us(now), "counted": "engine", "status": 200,
        "leases": (lease.lease,), "batch": batch if line is not None else "",
    }  # fmt: skip
    values |= changes
    part = batch_atto if values["batch"] else lambda atto: atto
    cost = (
        values["prompt"] * part(price.prompt)
        + values["cached"] * part(price.cached)
        + values["completion"] * part(price.completion)
    )
    return AnswerRecord(**values, cost_nano=atto_to_nano_ceil(cost)), cost


async def _costs(billing, metering, people, *group_by: str):
    await metering.roll_up_once()
    reports = Reports(billing.db, metering, billing.prices)
    page = await reports.costs(people.customer.project_id, metering.query(group_by=group_by), PageRequest())
    return page.data


async def test_costs_of_batches_and_of_the_rest_do_not_mix(billing, metering, people, clock, lease, price) -> None:
    intake = JournalIntake(billing.db, clock, metering, billing.balances)
    batch, told = _record(people, lease[1], price, clock, 1)
    plain, said = _record(people, lease[1], price, clock, None)
    assert said == 2 * told, "half the price"
    await intake.ship("j1", Position(), Position(1, 100), [batch, plain])
    costs = await _costs(billing, metering, people)
    assert exact_sum(row.billed_cost for row in costs) == decimal_from_atto(told + said)
    assert {row.meter: row.quantity for row in costs}[Meter.TOKENS_COMPLETION] == 14
    by_batch = await _costs(billing, metering, people, "batch")
    assert {
        name: exact_sum(row.billed_cost for row in by_batch if row.groups["batch"] == name)
        for name in ("batch_1", None)
    } == {"batch_1": decimal_from_atto(told), None: decimal_from_atto(said)}


async def test_a_price_that_changes_within_the_hour_splits_batches_too(
    billing,
    metering,
    people,
    clock,
    lease,
    price,
) -> None:
    intake = JournalIntake(billing.db, clock, metering, billing.balances)
    before, told = _record(people, lease[1], price, clock, 1)
    clock.advance(minutes=5)
    book = await billing.prices.price_book()
    dearer = [replace(row, unit_price=row.unit_price * 4) for row in book.prices]
    await billing.prices.publish_price_book(people.operator, dearer, book.currency)
    async with billing.db.reading() as tx:
        target = PriceTarget("smol", "local", "on_demand")
        price = (await billing.prices.model_prices(tx, [target]))[target].prices[-1]
    clock.advance(minutes=5)
    after, said = _record(people, lease[1], price, clock, 2)
    assert said == 4 * told
    await intake.ship("j1", Position(), Position(1, 100), [before, after])
    costs = await _costs(billing, metering, people)
    assert exact_sum(row.billed_cost for row in costs) == decimal_from_atto(told + said)


@pytest.mark.parametrize("together", [True, False], ids=["in one batch of the journal", "from two journals"])
async def test_a_row_that_was_answered_twice_is_counted_and_settled_once(
    billing,
    metering,
    people,
    clock,
    lease,
    price,
    together: bool,
) -> None:
    """The runner died between an answer and its note of it: two records, one id, another `t1` and other tokens."""
    intake = JournalIntake(billing.db, clock, metering, billing.balances)
    credit, grant = lease
    first, told = _record(people, grant, price, clock, 1)
    at = _us(clock.now())
    again, _ = _record(people, grant, price, clock, 1, t0=at + 10**6, t1=at + 2 * 10**6, completion=9)
    other, said = _record(people, grant, price, clock, 2)
    assert first.id == again.id != other.id
    clock.advance(seconds=30)
    if together:
        assert (await intake.ship("j1", Position(), Position(1, 300), [first, other, again])).answers == 2
    else:
        await intake.ship("j1", Position(), Position(1, 200), [first, other])
        late = await intake.ship("j2", Position(), Position(1, 100), [again])
        assert late.answers == 0
        assert {rejection.reason for rejection in late.facts.rejected} == {"t1_changed"}
    costs = await _costs(billing, metering, people)
    assert exact_sum(row.billed_cost for row in costs) == decimal_from_atto(told + said)
    assert {row.meter: row.quantity for row in costs}[Meter.REQUESTS] == 2
    clock.advance(seconds=60)
    await intake.ship("j1", Position(1, 300 if together else 200), Position(2, 0), [Mark(_us(clock.now()))])
    balance = (await billing.budgets.get_budget(people.customer, credit.id)).balance
    assert balance.spent_nano == first.cost_nano + other.cost_nano, "balances are settled once"
    assert balance.committed_nano == balance.spent_nano, "the rest of the lease is back"


def test_the_facts_of_rows_never_share_an_id() -> None:
    """Ids of facts are a record's, with the meter's number in the place of the version."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    seen = set()
    for line in range(1, 3000):
        record = AnswerRecord(
            record_id(BatchId("batch_1"), now, line).bytes, "p", "k", "m", "e", "r", "s", "c", "tokens", 1, 1, 1, 1,
            _us(now), _us(now), "engine", 200, batch="batch_1",
        )  # fmt: skip
        facts = {fact.id for fact in facts_of(record)}
        assert len(facts) == 5 and not facts & seen
        seen |= facts
