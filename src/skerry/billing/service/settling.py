"""Books what reservations have cost on the accounts that bear them, from their usage."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Final

import structlog

from skerry.billing.model import RATED_BY, Account, Lease, LeaseState, Period, ReservedTerms, exact_sum
from skerry.billing.rules import balances as rules
from skerry.billing.rules.budgets import nano_ceil
from skerry.billing.service.commitments import GRACE, Commitments
from skerry.billing.service.contracts import Contracts
from skerry.billing.service.price_books import PriceBooks
from skerry.billing.store.accounts import AccountStore
from skerry.billing.store.reserved import TermsStore
from skerry.db.database import Database, Tx
from skerry.kernel.clock import Clock
from skerry.kernel.errors import Unavailable
from skerry.kernel.windows import Window
from skerry.metering.model import UsageQuery
from skerry.metering.service import Metering

A_PASS: Final = 100
"""Reservations a transaction."""
PAUSE_SECONDS: Final = 60.0
_SLACK = timedelta(hours=1)


class Settling:
    """Level-triggered: what a commitment has spent is made equal to what the usage of its period costs.

    So it may run at any time, any number of times, and follows corrections. One process works at a time. A commitment
    is closed `GRACE` after its last hour; what comes later still counts on it.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        metering: Metering,
        prices: PriceBooks,
        contracts: Contracts,
        commitments: Commitments,
    ) -> None:
        self.db = db
        self.clock = clock
        self.metering = metering
        self.prices = prices
        self.contracts = contracts
        self.commitments = commitments
        self._accounts = AccountStore()
        self._terms = TermsStore()
        self._log = structlog.get_logger("skerry.billing")

    async def run(self) -> None:
        """Settle until cancelled, and let contracts' credit limits begin and end."""
        while True:
            try:
                async with self.db.transaction() as tx:
                    await self.contracts.keep_house(tx)
                await self.settle_once()
            except Unavailable as error:
                self._log.info("settling_waits", reason=error.detail)
            await asyncio.sleep(PAUSE_SECONDS)

    async def settle_once(self) -> int:
        """All reservations that have begun and are not settled to their end; returns how many it looked at."""
        after, seen = "", 0
        while True:
            async with self.db.transaction() as tx:
                if not await self._terms.try_settling(tx):
                    return seen
                due = await self._terms.to_settle(tx, self.clock.now(), after, A_PASS)
                for terms in due:
                    await self._settle(tx, terms)
            if not due:
                return seen
            after, seen = due[-1].reservation, seen + len(due)

    async def cost(self, tx: Tx, terms: ReservedTerms, period: Period) -> Decimal:
        """What the reservation's usage in a period has cost so far."""
        first = min(rate.start for rate in terms.rates.rates)
        last = max(rate.end for rate in terms.rates.rates) + _SLACK
        start, end = max(period.start, first), min(period.end, last)
        if start >= end:
            return Decimal(0)
        window = Window(start, end)
        prices = await self.prices.timeline(tx, window, terms.project)
        pieces = await self.metering.rollups(
            tx, terms.project, UsageQuery(window, RATED_BY), prices.cuts, resource=terms.reservation
        )
        own = [charge for charge in self.prices.rate(pieces, prices) if charge.usage.groups["reservation"]]
        return exact_sum(charge.billed_cost for charge in own)

    async def _settle(self, tx: Tx, terms: ReservedTerms) -> None:
        now = self.clock.now()
        leases = await self.commitments.of(tx, terms.reservation)
        accounts = await self._accounts.find_many(tx, sorted({lease.account for lease in leases}))
        begun = [lease for lease in leases if lease.period_start <= now]
        spent: dict[str, int] = {}
        costs: dict[Period, int] = {}
        for lease in begun:
            period = _period(accounts[lease.account], lease)
            if period not in costs:
                costs[period] = nano_ceil(await self.cost(tx, terms, period))
            spent[lease.id] = costs[period] - lease.spent_nano
        await self.commitments.spend(tx, spent)
        over = [lease for lease in begun if lease.state is LeaseState.OPEN and lease.expires_at + GRACE <= now]
        if over:
            await self.commitments.close(tx, over)
        if _done(terms, leases, over) and max(rate.end for rate in terms.rates.rates) + GRACE <= now:
            await self._terms.settled(tx, [terms.reservation], now)


def _period(account: Account, lease: Lease) -> Period:
    return rules.period_of(account.window, lease.period_start)


def _done(terms: ReservedTerms, leases: Sequence[Lease], over: Sequence[Lease]) -> bool:
    closed = {lease.id for lease in over}
    return all(lease.id in closed or lease.state is not LeaseState.OPEN for lease in leases)
