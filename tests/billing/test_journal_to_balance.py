"""From a gateway's lease through its journal to the balance and the bill."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from skerry.billing.model import Grant, PriceTarget
from skerry.billing.service import Billing
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import new_uuid7
from skerry.kernel.money import atto_to_nano_ceil, decimal_from_nano
from skerry.kernel.paging import PageRequest
from skerry.metering.journal_intake import JournalIntake, WrongPosition
from skerry.metering.service import Metering
from skerry.reports.service import Reports
from skerry.runtime.journal.reader import Position
from skerry.runtime.journal.records import AnswerRecord, Mark
from tests.billing.conftest import People

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _us(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


async def test_what_a_gateway_spent_is_booked_once_and_billed(
    billing: Billing, metering: Metering, people: People, clock: FakeClock
) -> None:
    who, intake = people.customer, JournalIntake(billing.db, clock, metering, billing.balances)
    async with billing.db.transaction() as tx:
        (credit,) = await billing.balances.accounts_for(tx, who.organization_id, who.project_id, who.key_id)
        lease = await billing.balances.acquire_lease(tx, credit.id, "j1", 1, 10**9, timedelta(seconds=60))
        target = PriceTarget("smol", "local", "on_demand")
        (price,) = (await billing.prices.model_prices(tx, [target]))[target].prices
    assert isinstance(lease, Grant)

    at = clock.advance(seconds=30)
    nano = atto_to_nano_ceil(11 * price.prompt + 7 * price.completion)
    records = [
        AnswerRecord(
            id=new_uuid7(_us(at) // 1000).bytes, project=who.project_id, key=who.key_id, model="smol", endpoint="ep_1",
            replica="rep_1", site="local", capacity_class="on_demand", charge_by="tokens", prompt=11, cached=0,
            completion=7, egress_bytes=100, t0=_us(at), t1=_us(at), counted="engine", status=200,
            leases=(lease.lease,), cost_nano=nano,
        )
        for _ in range(3)
    ]  # fmt: skip
    await intake.ship("j1", Position(), Position(1, 900), records)
    with pytest.raises(WrongPosition):
        await intake.ship("j1", Position(), Position(1, 900), records)
    await metering.roll_up_once()

    budget = await billing.budgets.get_budget(who, credit.id)
    assert (budget.balance.spent_nano, budget.balance.committed_nano) == (3 * nano, 10**9)
    clock.advance(seconds=60)
    await intake.ship("j1", Position(1, 900), Position(1, 950), [Mark(_us(clock.now()))])
    budget = await billing.budgets.get_budget(who, credit.id)
    assert (budget.balance.pending_nano, budget.balance.committed_nano) == (0, 3 * nano)

    page = await Reports(billing.db, metering, billing.prices).costs(who.project_id, metering.query(), PageRequest())
    billed = sum((row.billed_cost for row in page.data), Decimal(0))
    assert billed == 3 * (11 * Decimal("0.00000005") + 7 * Decimal("0.0000001"))
    assert 0 <= decimal_from_nano(3 * nano) - billed < Decimal("0.000000003")
