"""What tests of reservations need: a customer with credit, legs, and the usage that delivery would record."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from skerry.billing.model import Account, AccountKind, Balance, PricedLeg, ReservedPrice, exact_sum
from skerry.billing.rules import balances as rules
from skerry.billing.service import Billing
from skerry.billing.store.accounts import AccountStore
from skerry.billing.store.ledger import LedgerStore
from skerry.identity.model import Principal
from skerry.kernel.clock import hours
from skerry.kernel.ids import ProjectId, derived_uuid
from skerry.kernel.paging import PageRequest
from skerry.kernel.windows import Window
from skerry.metering.model import Dims, Meter, UsageFact, UsageQuery
from skerry.metering.service import Metering
from skerry.reports.service import Reports

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NODE_HOUR = Decimal("21.06")
"""Of a SKU that the first price book does not name: 18.00 and four lines beside it."""
SKU, SITE = "h100-sxm.8x", "no-glomfjord"


def leg(nodes: int, start: datetime, end: datetime, sku: str = SKU, site: str = SITE) -> PricedLeg:
    return PricedLeg(sku, site, nodes, Window(start, end))


async def sell(
    billing: Billing, principal: Principal, reservation: str, legs: Sequence[PricedLeg], parent: str | None = None
) -> ReservedPrice:
    async with billing.db.transaction() as tx:
        price = (await billing.reserved.pricer(tx, principal.organization_id)).price(legs)
        await billing.reserved.open(tx, principal, reservation, principal.project_id, legs, price, parent=parent)
    return price


async def change(
    billing: Billing, reservation: str, legs: Sequence[PricedLeg], project: ProjectId | None = None
) -> ReservedPrice:
    async with billing.db.transaction() as tx:
        terms = await billing.reserved.terms(tx, reservation)
        price = (await billing.reserved.pricer(tx, terms.organization)).price(legs, keep=terms.rates)
        await billing.reserved.change(tx, reservation, project or terms.project, legs, price, billing.clock.now())
    return price


async def cancel(billing: Billing, reservation: str, fee: Decimal | None = None) -> Decimal:
    """With the fee of its terms, unless another is given."""
    now = billing.clock.now()
    async with billing.db.transaction() as tx:
        terms = await billing.reserved.terms(tx, reservation)
        if fee is None:
            fee = billing.reserved.cancellation_fee(terms.cancellation, terms.legs, terms.rates, now).amount
        await billing.reserved.close(tx, reservation, now, fee)
    return fee


async def give_credit(billing: Billing, principal: Principal, amount: Decimal | str) -> None:
    async with billing.db.transaction() as tx:
        await billing.balances.ensure_credit_limit(tx, principal.organization_id)
        account = await AccountStore().find_single(tx, AccountKind.CREDIT_LIMIT, principal.organization_id)
        assert account is not None
        nano = int(Decimal(amount) * 10**9)
        await AccountStore().update(tx, account.id, billing.clock.now(), limit_nano=nano)


async def deliver(
    metering: Metering, project: ProjectId, reservation: str, legs: Sequence[PricedLeg], until: datetime
) -> None:
    """Facts by clock hour, SKU and site, up to a moment, as the delivery record writes them; exactly once."""
    facts: dict[tuple[str, str, datetime], list[tuple[int, datetime, datetime]]] = {}
    for own in legs:
        for begin, end in hours(own.window.start, min(own.window.end, until)):
            seconds = own.nodes * int((end - begin).total_seconds())
            facts.setdefault((own.sku, own.site, begin.replace(minute=0, second=0)), []).append((seconds, begin, end))
    made = [
        UsageFact(
            derived_uuid(reservation, sku, site, hour.isoformat()),
            Meter.NODE_SECONDS_RESERVED,
            sum(seconds for seconds, _, _ in parts),
            project,
            reservation,
            min(begin for _, begin, _ in parts),
            max(end for _, _, end in parts),
            Dims.of({"sku": sku, "site": site, "capacity_class": "reserved", "charge_by": "reservation"}),
        )
        for (sku, site, hour), parts in facts.items()
    ]
    async with metering.db.transaction() as tx:
        result = await metering.intake(tx, made)
    assert not result.rejected
    while (await metering.roll_up_once()).more:
        pass


async def costs(billing: Billing, metering: Metering, project: ProjectId, window: Window) -> dict[str, Decimal]:
    """What /costs shows, by meter."""
    reports = Reports(billing.db, metering, billing.prices)
    page = await reports.costs(project, UsageQuery(window), PageRequest(500))
    assert page.next_cursor is None
    meters = {row.meter.value for row in page.data}
    return {meter: exact_sum(row.billed_cost for row in page.data if row.meter.value == meter) for meter in meters}


async def accounts(billing: Billing, principal: Principal) -> dict[str, Account]:
    async with billing.db.transaction() as tx:
        found = await billing.balances.accounts_for(
            tx, principal.organization_id, principal.project_id, principal.key_id
        )
    return {account.id: account for account in found}


async def balance(billing: Billing, account: Account, at: datetime) -> Balance:
    period = rules.period_of(account.window, at)
    async with billing.db.reading() as tx:
        found = await LedgerStore().balances(tx, [(account.id, period.start)])
    return found.get((account.id, period.start), Balance(period))


async def credit(billing: Billing, principal: Principal, at: datetime) -> Balance:
    known = await accounts(billing, principal)
    (limit,) = [account for account in known.values() if account.kind is AccountKind.CREDIT_LIMIT]
    return await balance(billing, limit, at)
