"""The ledger: never over the limit, and every nano-unit accounted for."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.billing.errors import LeaseStillLive, UnknownLease
from skerry.billing.model import (
    Account,
    AccountKind,
    Balance,
    BudgetWindow,
    Grant,
    LeaseState,
    RefusalReason,
    Refused,
    Target,
    TargetKind,
)
from skerry.billing.rules import balances as rules
from skerry.billing.service import Billing
from skerry.billing.store.accounts import AccountStore
from skerry.billing.store.ledger import LedgerStore
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import KeyId, OrganizationId, ProjectId, new_id
from skerry.kernel.paging import PageRequest
from tests.billing.conftest import People

TTL = timedelta(seconds=60)
ORG, PROJECT, KEY = OrganizationId("org_1"), ProjectId("proj_1"), KeyId("key_1")


async def _account(billing: Billing, limit: int, window: BudgetWindow = BudgetWindow.MONTH, *alerts: str) -> Account:
    account = Account(
        new_id("bud"), AccountKind.BUDGET, Target(TargetKind.PROJECT, PROJECT), PROJECT, None, window, limit, "USD",
        tuple(map(Decimal, alerts)), billing.clock.now(),
    )  # fmt: skip
    async with billing.db.transaction() as tx:
        await AccountStore().insert(tx, account, "test")
    return account


async def _lease(
    billing: Billing, account: Account, minimum: int, wanted: int, journal: str = "j1", grow: str | None = None
) -> Grant | Refused:
    async with billing.db.transaction() as tx:
        return await billing.balances.acquire_lease(tx, account.id, journal, minimum, wanted, TTL, grow)


async def _grant(billing: Billing, account: Account, minimum: int, wanted: int, journal: str = "j1") -> Grant:
    granted = await _lease(billing, account, minimum, wanted, journal)
    assert isinstance(granted, Grant)
    return granted


async def _settle(billing: Billing, **spent: int) -> None:
    async with billing.db.transaction() as tx:
        await billing.balances.settle(tx, spent)


async def _close(billing: Billing, watermark: datetime, journal: str = "j1") -> None:
    async with billing.db.transaction() as tx:
        await billing.balances.close_leases(tx, journal, watermark)


async def _balance(billing: Billing, account: Account, at: datetime | None = None) -> Balance:
    period = rules.period_of(account.window, at or billing.clock.now())
    async with billing.db.reading() as tx:
        found = await LedgerStore().balances(tx, [(account.id, period.start)])
    return found.get((account.id, period.start), Balance(period))


async def test_money_goes_out_is_booked_and_comes_back(billing: Billing, clock: FakeClock) -> None:
    account = await _account(billing, 1000)
    lease = await _grant(billing, account, 10, 200)
    assert lease.amount_nano == 200 and lease.seconds == 60
    await _settle(billing, **{lease.lease: 30})
    balance = await _balance(billing, account)
    assert (balance.committed_nano, balance.spent_nano, balance.pending_nano) == (200, 30, 170)
    clock.advance(seconds=59)
    await _close(billing, clock.now())
    assert (await _balance(billing, account)).pending_nano == 170, "its end has not come"
    clock.advance(seconds=1)
    await _close(billing, clock.now(), journal="j2")
    assert (await _balance(billing, account)).pending_nano == 170, "that was another gateway's journal"
    for _ in range(2):
        await _close(billing, clock.now())
        balance = await _balance(billing, account)
        assert (balance.committed_nano, balance.pending_nano) == (30, 0), "given back exactly once"


async def test_an_exhausted_balance_says_what_is_left(billing: Billing) -> None:
    account = await _account(billing, 1000)
    await _grant(billing, account, 900, 900)
    refused = await _lease(billing, account, 101, 500)
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.remaining_nano, refused.limit_nano) == (RefusalReason.EXHAUSTED, 100, 1000)
    assert (refused.kind, refused.window) == (AccountKind.BUDGET, BudgetWindow.MONTH)
    assert refused.ends == datetime.fromisoformat("2026-02-01T00:00:00Z")
    assert (await _grant(billing, account, 100, 500)).amount_nano == 100


async def test_a_deleted_account_is_refused_by_name(billing: Billing) -> None:
    account = await _account(billing, 1000)
    refused = await _lease(billing, replace(account, id="bud_gone"), 1, 1)
    assert isinstance(refused, Refused) and refused.reason is RefusalReason.NO_SUCH_ACCOUNT


async def test_a_lease_ends_with_its_period_and_the_next_begins_anew(billing: Billing, clock: FakeClock) -> None:
    account = await _account(billing, 1000, BudgetWindow.DAY)
    clock.advance(hours=23, minutes=59, seconds=50)
    lease = await _grant(billing, account, 1000, 1000)
    assert lease.seconds == 10
    clock.advance(seconds=10)
    other = await _grant(billing, account, 1000, 1000)
    # What the old lease paid for is booked where it was set aside.
    await _settle(billing, **{lease.lease: 400, other.lease: 5})
    assert (await _balance(billing, account, clock.now() - timedelta(seconds=1))).spent_nano == 400
    assert (await _balance(billing, account)).spent_nano == 5


async def test_what_a_lease_spends_beyond_its_amount_counts(billing: Billing, clock: FakeClock) -> None:
    account = await _account(billing, 1000)
    lease = await _grant(billing, account, 100, 100)
    await _settle(billing, **{lease.lease: 130})
    balance = await _balance(billing, account)
    assert (balance.committed_nano, balance.spent_nano) == (130, 130)
    clock.advance(seconds=60)
    await _close(billing, clock.now())
    assert (await _balance(billing, account)).committed_nano == 130


async def test_what_comes_after_the_close_counts_in_full(billing: Billing, clock: FakeClock) -> None:
    account = await _account(billing, 1000)
    lease = await _grant(billing, account, 100, 100)
    clock.advance(seconds=60)
    await _close(billing, clock.now())
    await _settle(billing, **{lease.lease: 40})
    balance = await _balance(billing, account)
    assert (balance.committed_nano, balance.spent_nano) == (40, 40)


async def test_a_lease_grows_and_keeps_its_end(billing: Billing, clock: FakeClock) -> None:
    account = await _account(billing, 1000)
    lease = await _grant(billing, account, 100, 100)
    clock.advance(seconds=20)
    grown = await _lease(billing, account, 50, 60, grow=lease.lease)
    assert grown == Grant(lease.lease, 60, lease.expires_at, 40)
    await _settle(billing, **{lease.lease: 160})
    assert (await _balance(billing, account)).committed_nano == 160
    for change in ({"journal": "j2"}, {}):
        clock.advance(seconds=40 if not change else 0)  # another gateway's, or one that has ended, does not grow
        fresh = await _lease(billing, account, 5, 5, grow=lease.lease, **change)
        assert isinstance(fresh, Grant) and fresh.lease != lease.lease


async def test_gateways_beside_each_other_never_get_more_than_there_is(billing: Billing) -> None:
    account = await _account(billing, 1000)
    answers = await asyncio.gather(*(_lease(billing, account, 40, 400, f"j{n}") for n in range(40)))
    granted = sum(answer.amount_nano for answer in answers if isinstance(answer, Grant))
    assert 960 < granted <= 1000
    assert (await _balance(billing, account)).committed_nano == granted


async def test_settlements_beside_each_other_do_not_dead_lock(billing: Billing) -> None:
    accounts = [await _account(billing, 10**9) for _ in range(3)]
    leases = [(await _grant(billing, account, 10, 10**6)).lease for account in accounts]
    orders = [leases, leases[::-1], leases[1:] + leases[:1], leases]
    await asyncio.gather(*(_settle(billing, **dict.fromkeys(order, 7)) for order in orders))
    assert [(await _balance(billing, account)).spent_nano for account in accounts] == [28, 28, 28]


async def test_an_operator_releases_a_pending_lease_after_its_end(billing: Billing, clock: FakeClock) -> None:
    account = await _account(billing, 1000)
    lease = await _grant(billing, account, 100, 100)
    await _settle(billing, **{lease.lease: 10})

    async def release(lease_id: str) -> None:
        async with billing.db.transaction() as tx:
            await billing.balances.release_lease(tx, account, lease_id)

    with pytest.raises(LeaseStillLive):
        await release(lease.lease)
    with pytest.raises(UnknownLease):
        await release("lease_unknown")
    clock.advance(seconds=60)
    for _ in range(2):
        await release(lease.lease)
        assert (await _balance(billing, account)).committed_nano == 10
    await _settle(billing, **{lease.lease: 25})  # the journal came after all
    await _close(billing, clock.now())
    balance = await _balance(billing, account)
    assert (balance.committed_nano, balance.spent_nano) == (35, 35)


async def test_closed_leases_are_forgotten_in_the_end(billing: Billing, clock: FakeClock) -> None:
    account = await _account(billing, 1000, BudgetWindow.TOTAL)
    await _grant(billing, account, 100, 100)
    clock.advance(seconds=60)
    await _close(billing, clock.now())
    open_one = await _grant(billing, account, 100, 100)
    clock.advance(days=41)
    async with billing.db.transaction() as tx:
        assert await billing.balances.keep_house(tx) == 1
        assert [lease.id for lease in await billing.balances.open_leases(tx, account)] == [open_one.lease]


async def test_an_organization_has_credit_from_its_first_request_on(billing: Billing) -> None:
    async def asked() -> tuple[Account, ...]:
        async with billing.db.transaction() as tx:
            return await billing.balances.accounts_for(tx, ORG, PROJECT, KEY)

    found = await asyncio.gather(*(asked() for _ in range(4)))
    assert len({accounts for accounts in found}) == 1
    ((credit,),) = set(found)
    assert (credit.kind, credit.window, credit.limit_nano) == (AccountKind.CREDIT_LIMIT, BudgetWindow.MONTH, 10**12)
    budget = await _account(billing, 5)
    assert set(await asked()) == {credit, budget}
    async with billing.db.reading() as tx:
        snapshot = await billing.balances.accounts(tx)
    assert set(snapshot.of(ORG, PROJECT, KEY)) == {credit, budget}
    assert snapshot.of(OrganizationId("org_2"), ProjectId("proj_2"), KEY) == ()


async def test_reaching_a_share_of_the_limit_is_told_once(billing: Billing, people: People, clock: FakeClock) -> None:
    account = await _account(billing, 1000, BudgetWindow.DAY, "0.5", "0.8")
    lease = await _grant(billing, account, 1000, 1000)
    for spent in (400, 150, 10, 300):
        await _settle(billing, **{lease.lease: spent})
    async with billing.db.reading() as tx:
        events = await billing.balances.events.list(tx, PROJECT, account.id, PageRequest())
    assert [(event.type, event.data["share"], event.data["spent"]) for event in events.data] == [
        ("budget.alert", 0.5, "0.00000055"),
        ("budget.alert", 0.8, "0.00000086"),
    ]


async def test_an_organization_s_alert_is_in_its_home_project_s_timeline(billing: Billing, people: People) -> None:
    who = people.customer
    async with billing.db.transaction() as tx:
        (credit,) = await billing.balances.accounts_for(tx, who.organization_id, who.project_id, who.key_id)
        await AccountStore().update(tx, credit.id, billing.clock.now(), alert_at=["0.5"])
    lease = await _grant(billing, credit, credit.limit_nano, credit.limit_nano)
    await _settle(billing, **{lease.lease: credit.limit_nano})
    async with billing.db.reading() as tx:
        events = await billing.balances.events.list(tx, who.project_id, credit.id, PageRequest())
    assert [event.type for event in events.data] == ["budget.alert"]


@dataclass
class Book:
    """What the ledger should say: leases by hand."""

    leases: dict[str, list] = field(default_factory=dict)
    """amount, spent, open, expires_at, journal"""

    @property
    def spent(self) -> int:
        return sum(spent for _, spent, *_ in self.leases.values())

    @property
    def committed(self) -> int:
        return sum(max(amount, spent) if is_open else spent for amount, spent, is_open, *_ in self.leases.values())


steps = st.one_of(
    st.tuples(st.just("lease"), st.integers(0, 300), st.integers(0, 600), st.sampled_from(["j1", "j2"]), st.booleans()),
    st.tuples(st.just("settle"), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 150)), max_size=3)),
    st.tuples(st.just("close"), st.sampled_from(["j1", "j2"]), st.integers(-60, 60)),
    st.tuples(st.just("wait"), st.integers(1, 50)),
    st.tuples(st.just("limit"), st.integers(0, 1500)),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, min_size=4, max_size=25))
async def test_the_ledger_agrees_with_one_kept_by_hand(billing: Billing, clock: FakeClock, steps: list[tuple]) -> None:
    limit = 1000
    account = await _account(billing, limit, BudgetWindow.TOTAL)
    book = Book()
    for step, *given_ in steps:
        before = book.committed
        if step == "lease":
            minimum, wanted, journal, grows = given_
            grow = next(reversed(book.leases), None) if grows else None
            answer = await _lease(billing, account, minimum, wanted, journal, grow)
            if isinstance(answer, Grant):
                lease = book.leases.setdefault(answer.lease, [0, 0, True, answer.expires_at, journal])
                lease[0] += answer.amount_nano
                assert answer.amount_nano >= minimum
                assert book.committed <= max(limit, before), "never over the limit by what is handed out"
            else:
                assert limit - before < max(minimum, 1), "refused only where it does not fit"
        elif step == "settle":
            spent: dict[str, int] = {}
            for which, amount in given_[0]:
                if which < len(book.leases):
                    id = list(book.leases)[which]
                    spent[id] = spent.get(id, 0) + amount
                    book.leases[id][1] += amount
            await _settle(billing, **spent)
        elif step == "close":
            journal, seconds = given_
            watermark = clock.now() + timedelta(seconds=seconds)
            for lease in book.leases.values():
                if lease[4] == journal and lease[3] <= watermark:
                    lease[2] = False
            await _close(billing, watermark, journal)
        elif step == "wait":
            clock.advance(seconds=given_[0])
        else:
            limit = given_[0]
            async with billing.db.transaction() as tx:
                await AccountStore().update(tx, account.id, clock.now(), limit_nano=limit)
        balance = await _balance(billing, account)
        assert (balance.committed_nano, balance.spent_nano) == (book.committed, book.spent)
    async with billing.db.transaction() as tx:
        leases = await LedgerStore().lock_leases(tx, list(book.leases))
    assert sum(map(rules.counted, leases)) == book.committed
    assert all((lease.state is LeaseState.OPEN) == book.leases[lease.id][2] for lease in leases)
