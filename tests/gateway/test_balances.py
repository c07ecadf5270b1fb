"""Leases on the hot path: never beyond what was granted, nothing lost, nobody forgotten."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skerry.inference.gateway.balances import (
    LEASE_SECONDS,
    LEAST_CEILINGS,
    MEMORY_SECONDS,
    RENEW_SECONDS,
    STOP_SECONDS,
    Account,
    Balances,
    Grant,
    Reservation,
)
from skerry.inference.gateway.errors import Denied
from skerry.kernel.errors import Unavailable


@dataclass
class Bank:
    """A ledger in memory with the rules of the real one."""

    limit: int
    committed: int = 0
    away: bool = False
    broken: bool = False
    grows: bool = True
    granted: dict[str, int] = field(default_factory=dict)
    calls: list[tuple[int, int, str | None]] = field(default_factory=list)

    async def lease(self, account: str, minimum: int, wanted: int, grow: str | None) -> Grant:
        self.calls.append((minimum, wanted, grow))
        if self.broken:
            raise RuntimeError("a fault of our own")
        if self.away:
            raise Unavailable("the database is away")
        left = self.limit - self.committed
        if left < max(minimum, 1):
            raise Denied(max(0, left), self.limit, "budget", "month")
        amount = min(max(wanted, minimum, 1), max(minimum, left // 4, 1), left)
        self.committed += amount
        name = grow if grow and self.grows else f"{account}-{len(self.granted)}"
        self.granted[name] = self.granted.get(name, 0) + amount
        return Grant(name, amount, LEASE_SECONDS)


def drive(work: Coroutine[Any, Any, None]) -> None:
    """Run what never really waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    except RuntimeError:
        return  # the gateway logs it
    raise AssertionError("it waits for something")


class Bench:
    """A gateway's balances, whose fetches happen when `fetch` is called."""

    def __init__(self, **limits: int) -> None:
        self.now = 1000.0
        self.banks = {name: Bank(limit) for name, limit in limits.items()}
        self.pending: list[Coroutine[Any, Any, None]] = []
        self.balances = Balances(self, lambda: self.now, self.pending.append)
        self.accounts = tuple(self.balances.account(name, "budget") for name in limits)

    async def lease(self, account: str, minimum: int, wanted: int, grow: str | None) -> Grant:
        return await self.banks[account].lease(account, minimum, wanted, grow)

    @property
    def bank(self) -> Bank:
        (bank,) = self.banks.values()
        return bank

    def fetch(self) -> None:
        """Answer the fetches that are under way now."""
        pending, self.pending[:] = self.pending[:], []
        for work in pending:
            drive(work)

    def ask(self, ceiling: int) -> "Ask":
        ask = Ask(self, ceiling)
        ask.begin()
        return ask

    def served(self, ceiling: int) -> Reservation:
        """Ask, and fetch until there is an answer."""
        ask = self.ask(ceiling)
        for _ in range(20):
            if ask.outcome is not None:
                break
            self.fetch()
        assert isinstance(ask.outcome, list), ask.outcome
        return ask.outcome

    def close(self) -> None:
        for work in self.pending:
            work.close()


class Ask:
    """A request, as `exchange` treats one."""

    def __init__(self, bench: Bench, ceiling: int) -> None:
        self.bench, self.ceiling = bench, ceiling
        self.outcome: Reservation | Denied | Unavailable | None = None
        self.expected = 0
        """How many retries are owed."""

    def begin(self) -> None:
        self._try(lambda: None)

    def retry(self) -> None:
        self.expected -= 1
        assert self.expected == 0, "called more than once"
        self._try(lambda: self.bench.balances.raise_refusal(self.bench.accounts, self.ceiling))

    def _try(self, before: Callable[[], None]) -> None:
        assert self.outcome is None
        try:
            before()
            taken = self.bench.balances.reserve(self.bench.accounts, self.ceiling, self.retry)
        except (Denied, Unavailable) as refusal:
            self.outcome = refusal
            return
        if taken is None:
            self.expected += 1
        else:
            self.outcome = taken


def leases(bench: Bench) -> list[tuple[int, int]]:
    return [(lease.amount, lease.free) for account in bench.accounts for lease in account.leases]


def test_the_first_request_fetches_a_lease_for_many_like_it() -> None:
    bench = Bench(a=10**6)
    ask = bench.ask(10)
    assert ask.outcome is None and ask.expected == 1
    bench.fetch()
    assert isinstance(ask.outcome, list) and bench.bank.calls == [(10, 10 * LEAST_CEILINGS, None)]
    bench.balances.settle(ask.outcome, 10, 3)
    assert leases(bench) == [(640, 637)]
    for _ in range(60):
        bench.balances.settle(bench.served(10), 10, 3)
    assert len(bench.bank.calls) == 1


def test_all_who_wait_are_called_once_when_the_lease_comes() -> None:
    bench = Bench(a=10**6)
    asks = [bench.ask(10) for _ in range(30)]
    assert len(bench.pending) == 1
    bench.fetch()
    assert all(isinstance(ask.outcome, list) for ask in asks)
    assert leases(bench) == [(640, 340)]


def test_a_lease_that_is_too_small_grows_instead_of_lying_idle() -> None:
    bench = Bench(a=1000)
    bench.served(60)
    bench.served(200)
    assert [grow for *_, grow in bench.bank.calls] == [None, "a-0"]
    assert len(leases(bench)) == 1


def test_to_the_last_unit_one_request_after_the_other() -> None:
    bench = Bench(a=1000)
    for _ in range(10):
        bench.balances.settle(bench.served(100), 100, 100)
    refused = bench.ask(100)
    bench.fetch()
    assert isinstance(refused.outcome, Denied) and refused.outcome.remaining == 0
    assert bench.bank.committed == 1000 and sum(free for _, free in leases(bench)) == 0


def test_a_refusal_is_remembered_for_a_moment_and_only_for_what_does_not_fit() -> None:
    bench = Bench(a=100)
    bench.served(20)  # takes 25
    big = bench.ask(90)
    bench.fetch()
    assert isinstance(big.outcome, Denied) and big.outcome.remaining == 75
    calls = len(bench.bank.calls)
    assert isinstance(bench.ask(90).outcome, Denied) and len(bench.bank.calls) == calls
    assert bench.served(78), "75 there and 5 here are enough"
    bench.now += MEMORY_SECONDS
    again = bench.ask(90)
    assert again.outcome is None
    bench.fetch()
    assert isinstance(again.outcome, Denied)
    bench.bank.limit = 1000
    bench.balances.forget_refusals()
    assert bench.served(90)


def test_what_is_free_is_served_from_an_empty_balance() -> None:
    bench = Bench(a=10)
    bench.served(10)
    for _ in range(3):
        assert bench.ask(0).outcome is not None
    assert len(bench.bank.calls) == 1 and not bench.pending


def test_a_refusal_of_one_account_gives_back_what_the_other_gave() -> None:
    bench = Bench(key=10**6, org=50)
    ask = bench.ask(60)
    bench.fetch()
    bench.fetch()
    assert isinstance(ask.outcome, Denied) and ask.outcome.limit == 50
    ((amount, free),) = leases(bench)
    assert amount == free


def test_the_next_lease_is_fetched_before_the_old_one_stops() -> None:
    bench = Bench(a=10**6)
    bench.served(10)
    bench.now += LEASE_SECONDS - STOP_SECONDS - RENEW_SECONDS + 1
    assert bench.ask(10).outcome is not None and len(bench.pending) == 1
    bench.ask(10)
    assert len(bench.pending) == 1
    bench.fetch()
    assert len(leases(bench)) == 2
    bench.now += RENEW_SECONDS
    assert bench.served(10)[0][1].id == "a-1"
    assert len(leases(bench)) == 1, "the old one is no longer used"


@pytest.mark.parametrize("why", ["away", "exhausted"])
def test_where_renewing_fails_the_bank_is_not_asked_by_every_request(why: str) -> None:
    bench = Bench(a=10**6)
    bench.served(10)
    bench.bank.away, bench.bank.limit = why == "away", 0
    bench.now += LEASE_SECONDS - STOP_SECONDS - RENEW_SECONDS + 1
    for _ in range(20):
        assert isinstance(bench.ask(10).outcome, list)
        bench.fetch()
    assert len(bench.bank.calls) == 2
    bench.now += MEMORY_SECONDS
    bench.ask(10)
    bench.fetch()
    assert len(bench.bank.calls) == 3


def test_a_lease_admits_until_it_stops_and_not_after() -> None:
    bench = Bench(a=10**6)
    bench.served(10)
    bench.bank.away = True
    bench.now += LEASE_SECONDS - STOP_SECONDS - 0.01
    assert isinstance(bench.ask(10).outcome, list), "with the database away, on the lease at hand"
    bench.fetch()
    bench.now += 0.02
    late = bench.ask(10)
    bench.fetch()
    assert isinstance(late.outcome, Unavailable)
    bench.bank.away = False
    assert bench.served(10)


def test_a_fault_of_our_own_is_not_asked_for_ever() -> None:
    bench = Bench(a=10**6)
    bench.bank.broken = True
    asks = [bench.ask(10) for _ in range(3)]
    bench.fetch()
    assert all(isinstance(ask.outcome, Unavailable) for ask in asks)
    assert len(bench.bank.calls) == 1 and not bench.pending
    bench.bank.broken = False
    assert bench.served(10)


def test_a_lease_that_the_bank_does_not_add_to_is_replaced() -> None:
    bench = Bench(a=1000)
    bench.served(100)
    bench.bank.grows = False
    for _ in range(3):
        bench.balances.settle(bench.served(150), 150, 0)
    assert len(bench.bank.calls) <= 4


def test_an_old_trouble_is_no_reason_to_refuse() -> None:
    bench = Bench(a=1000, b=1000)
    first, _ = bench.accounts
    bench.served(10)
    first.trouble = Unavailable("long ago")
    bench.now += MEMORY_SECONDS
    for lease in first.leases:
        lease.free = 0
    assert bench.served(20)


@settings(max_examples=120, stateful_step_count=40, deadline=None)
class Machine(RuleBasedStateMachine):
    """Two limits over one gateway, anything in any order; a model keeps the books."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.asks: list[Ask] = []
        self.open: list[Ask] = []
        self.spent: dict[str, int] = {}

    @initialize(key=st.integers(0, 2000), org=st.integers(0, 5000))
    def limits(self, key: int, org: int) -> None:
        self.bench = Bench(key=key, org=org)

    @rule(ceiling=st.integers(0, 400))
    def request(self, ceiling: int) -> None:
        self.asks.append(self.bench.ask(ceiling))
        self._sort()

    @rule()
    def fetch(self) -> None:
        self.bench.fetch()
        self._sort()

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99), share=st.integers(0, 100))
    def settle(self, which: int, share: int) -> None:
        ask = self.open.pop(which % len(self.open))
        cost = ask.ceiling * share // 100
        assert isinstance(ask.outcome, list)
        self.bench.balances.settle(ask.outcome, ask.ceiling, cost)
        for _, lease in ask.outcome:
            self.spent[lease.id] = self.spent.get(lease.id, 0) + cost

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99))
    def release(self, which: int) -> None:
        ask = self.open.pop(which % len(self.open))
        assert isinstance(ask.outcome, list)
        self.bench.balances.release(ask.outcome, ask.ceiling)

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.bench.now += seconds

    @rule(which=st.sampled_from(["key", "org"]), away=st.booleans(), grows=st.booleans(), more=st.integers(-500, 500))
    def change_bank(self, which: str, away: bool, grows: bool, more: int) -> None:
        bank = self.bench.banks[which]
        bank.away, bank.grows, bank.limit = away, grows, max(0, bank.limit + more)
        self.bench.balances.forget_refusals()

    def _sort(self) -> None:
        for ask in [ask for ask in self.asks if ask.outcome is not None]:
            self.asks.remove(ask)
            if isinstance(ask.outcome, list):
                now = self.bench.now
                assert all(now < lease.stop_at for _, lease in ask.outcome), "a lease that has stopped admits nobody"
                if ask.ceiling:
                    assert [account.id for account, _ in ask.outcome] == ["key", "org"]
                self.open.append(ask)

    @invariant()
    def every_unit_is_somewhere(self) -> None:
        """Of each lease: what is free, reserved and spent is what was granted."""
        reserved: dict[str, int] = {}
        for ask in self.open:
            assert isinstance(ask.outcome, list)
            for _, lease in ask.outcome:
                reserved[lease.id] = reserved.get(lease.id, 0) + ask.ceiling
        granted = {name: amount for bank in self.bench.banks.values() for name, amount in bank.granted.items()}
        for account in self.bench.accounts:
            for lease in account.leases:
                assert lease.free >= 0
                assert lease.amount == granted[lease.id]
                assert lease.free + reserved.get(lease.id, 0) + self.spent.get(lease.id, 0) == lease.amount
        for name, amount in granted.items():
            assert reserved.get(name, 0) + self.spent.get(name, 0) <= amount

    @invariant()
    def who_waits_is_waited_for(self) -> None:
        waiting = [retry for account in self.bench.accounts for retry in account.waiting]
        assert len(waiting) == len(self.asks) == sum(ask.expected for ask in self.asks)
        assert sum(account.fetching for account in self.bench.accounts) == len(self.bench.pending)

    def teardown(self) -> None:
        for bank in self.bench.banks.values():
            bank.away = False
        for _ in range(200):
            if not self.bench.pending:
                break
            self.bench.fetch()
        self._sort()
        assert not self.asks and not self.bench.pending, "nobody waits for ever"
        self.every_unit_is_somewhere()


TestMachine = Machine.TestCase


async def test_cancelled_fetches_do_not_leave_anybody_waiting() -> None:
    tasks: list[asyncio.Task[None]] = []
    never = asyncio.Event()

    class Slow:
        async def lease(self, account: str, minimum: int, wanted: int, grow: str | None) -> Grant:
            await never.wait()
            raise AssertionError

    balances = Balances(Slow(), lambda: 0.0, lambda work: tasks.append(asyncio.create_task(work)))
    account: Account = balances.account("a", "budget")
    called: list[int] = []
    assert balances.reserve((account,), 5, lambda: called.append(1)) is None
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert called == [1] and not account.fetching
    with pytest.raises(Unavailable):
        balances.raise_refusal((account,), 5)
