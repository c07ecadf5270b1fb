"""I9, from end to end: gateways that come and go never spend more than the limit, and in the end all is booked."""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.billing.model import Account, AccountKind, Balance, BudgetWindow, Target, TargetKind
from skerry.billing.rules import balances as rules
from skerry.billing.service import Billing, KeyBudgets
from skerry.billing.store.accounts import AccountStore
from skerry.billing.store.ledger import LedgerStore
from skerry.db.database import Database
from skerry.identity.service import Identity
from skerry.inference.gateway.balances import Balances, Reservation
from skerry.inference.gateway.control import LeaseBank
from skerry.inference.gateway.errors import Denied
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import ProjectId, new_id
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog
from skerry.runtime.secrets import Keyring

LIMIT = 2000
PROJECT = ProjectId("proj_1")
FOR_EVER = datetime(9999, 1, 1, tzinfo=UTC)


@pytest.fixture
async def billing(database: Database, clock: FakeClock) -> Billing:
    keyring, events = Keyring([("k1", b"a secret of the tests")]), EventLog(clock)
    identity = Identity(database, clock, keyring, events, budgets=KeyBudgets(clock))
    billing = Billing(database, clock, events, identity, Metering(database, clock, names=identity), homes=identity)
    await billing.bootstrap("USD")
    return billing


class Gateway:
    """Balances on the real ledger, and a journal as a list."""

    def __init__(self, billing: Billing, clock: FakeClock, account: Account) -> None:
        self.billing, self.clock = billing, clock
        self.journal = new_id("gw")
        self.tasks: set[asyncio.Task[None]] = set()
        self.balances = Balances(
            LeaseBank(billing.db, billing, self.journal), lambda: clock.now().timestamp(), self._spawn
        )
        self.accounts = (self.balances.account(account.id, "budget"),)
        self.in_flight: list[tuple[Reservation, int, datetime]] = []
        self.unshipped: list[tuple[str, int]] = []

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def request(self, ceiling: int) -> bool:
        admitted = self.clock.now()
        for _ in range(20):
            called = asyncio.Event()
            try:
                taken = self.balances.reserve(self.accounts, ceiling, called.set)
                if taken is not None:
                    self.in_flight.append((taken, ceiling, admitted))
                    return True
                await called.wait()
                self.balances.raise_refusal(self.accounts, ceiling)
            except Denied:
                return False
        raise AssertionError("neither served nor refused")

    def finish(self, which: int, share: int) -> int:
        """One answer ends: recorded, then settled; its cost."""
        if not self.in_flight:
            return 0
        taken, ceiling, _ = self.in_flight.pop(which % len(self.in_flight))
        cost = ceiling * share // 100
        self.unshipped += [(lease.id, cost) for _, lease in taken]
        self.balances.settle(taken, ceiling, cost)
        return cost

    async def ship(self, *, last: bool = False) -> None:
        """As the shipper does: what was written, then the mark; the last mark closes all."""
        spent: dict[str, int] = {}
        for lease, cost in self.unshipped:
            spent[lease] = spent.get(lease, 0) + cost
        self.unshipped = []
        mark = FOR_EVER if last else min([self.clock.now(), *(admitted for *_, admitted in self.in_flight)])
        async with self.billing.db.transaction() as tx:
            await self.billing.balances.settle(tx, spent)
            await self.billing.balances.close_leases(tx, self.journal, mark)


gateways = st.integers(0, 1)
steps = st.one_of(
    st.tuples(st.just("request"), gateways, st.integers(1, 400), st.integers(1, 4)),
    st.tuples(st.just("finish"), gateways, st.integers(0, 9), st.integers(0, 100)),
    st.tuples(st.just("ship"), gateways, st.just(0), st.just(0)),
    st.tuples(st.just("crash"), gateways, st.just(0), st.just(0)),
    st.tuples(st.just("ship the dead"), gateways, st.just(0), st.just(0)),
    st.tuples(st.just("wait"), gateways, st.integers(1, 40), st.just(0)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, min_size=8, max_size=40))
async def test_what_is_spent_stays_within_the_limit_whoever_dies(
    billing: Billing, clock: FakeClock, steps: list[tuple[str, int, int, int]]
) -> None:
    account = Account(
        new_id("bud"), AccountKind.BUDGET, Target(TargetKind.PROJECT, PROJECT), PROJECT, None, BudgetWindow.TOTAL,
        LIMIT, "USD", (), clock.now(),
    )  # fmt: skip
    async with billing.db.transaction() as tx:
        await AccountStore().insert(tx, account, "test")
    living = [Gateway(billing, clock, account) for _ in range(2)]
    dead: list[Gateway] = []
    spent = 0
    for step, which, number, more in steps:
        gateway = living[which]
        if step == "request":
            await asyncio.gather(*(gateway.request(number) for _ in range(more)))
        elif step == "finish":
            spent += gateway.finish(number, more)
        elif step == "ship":
            await gateway.ship()
        elif step == "crash":
            dead.append(gateway)
            living[which] = Gateway(billing, clock, account)
        elif step == "ship the dead" and dead:
            await dead.pop(0).ship(last=True)
        elif step == "wait":
            clock.advance(seconds=number)
        held = sum(ceiling for one in living for _, ceiling, _ in one.in_flight)
        assert spent + held <= LIMIT
        balance = await _balance(billing, account)
        assert spent - sum(cost for one in [*living, *dead] for _, cost in one.unshipped) == balance.spent_nano
        assert balance.committed_nano <= LIMIT
    for gateway in [*living, *dead]:
        await asyncio.gather(*gateway.tasks)
        await gateway.ship(last=True)
    balance = await _balance(billing, account)
    assert (balance.spent_nano, balance.pending_nano) == (spent, 0), "all that was not spent has come back"


async def test_leases_of_a_dead_gateway_pend_until_its_journal_has_ended(billing: Billing, clock: FakeClock) -> None:
    account = Account(
        new_id("bud"), AccountKind.BUDGET, Target(TargetKind.PROJECT, PROJECT), PROJECT, None, BudgetWindow.TOTAL,
        LIMIT, "USD", (), clock.now(),
    )  # fmt: skip
    async with billing.db.transaction() as tx:
        await AccountStore().insert(tx, account, "test")
    first, second = Gateway(billing, clock, account), Gateway(billing, clock, account)
    assert await first.request(1500)
    cost = first.finish(0, 10)
    clock.advance(seconds=3600)
    assert not await second.request(600), "nobody knows what it has spent"
    await first.ship(last=True)
    clock.advance(seconds=2)
    assert await second.request(LIMIT - cost)
    assert (await _balance(billing, account)).committed_nano == LIMIT
    await asyncio.gather(*first.tasks, *second.tasks)


async def _balance(billing: Billing, account: Account) -> Balance:
    period = rules.period_of(account.window, billing.clock.now())
    async with billing.db.reading() as tx:
        found = await LedgerStore().balances(tx, [(account.id, period.start)])
    return found.get((account.id, period.start), Balance(period))
