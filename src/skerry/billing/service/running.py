"""What is paid by the second, while it runs: what it has cost, booked on the accounts that bear it, and who is short.

Level-triggered, as `Settling`: what a thing has spent is made equal to what its usage costs, at the prices of the time.
Its journal in the ledger is its own id.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Final

from skerry.billing.model import RATED_BY, Account, AccountKind, BudgetWindow, LeaseState, Period, Timeline, exact_sum
from skerry.billing.rules.balances import period_of
from skerry.billing.rules.budgets import nano_ceil
from skerry.billing.service.balances import Balances
from skerry.billing.service.commitments import Commitments, Wanted
from skerry.billing.service.price_books import PriceBooks
from skerry.billing.store.accounts import AccountStore
from skerry.billing.store.ledger import LedgerStore
from skerry.db.database import Tx
from skerry.identity.service import Identity
from skerry.kernel.clock import Clock, floor_hour
from skerry.kernel.ids import KeyId, ProjectId
from skerry.kernel.windows import Window
from skerry.metering.model import Meter, UsageSum

_SECOND: Final = timedelta(seconds=1)
_NO_KEY: Final = KeyId("")


@dataclass(frozen=True, slots=True)
class Run:
    """Something that was used from `start` to `end`; `quantity` says how much of it in any part of that."""

    meter: Meter
    dims: Mapping[str, str | None]
    start: datetime
    end: datetime
    quantity: Callable[[datetime, datetime], int]


@dataclass(frozen=True, slots=True)
class Short:
    """The account that is used up first: `left` of `limit`, and in how many seconds at the present rate."""

    account: str
    kind: AccountKind
    left: Decimal
    limit: Decimal
    seconds: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What a thing has cost, what it costs a second now, and the account that ends first; None: none does."""

    cost: Decimal
    currency: str
    per_second: Decimal
    short: Short | None


class Running:
    def __init__(
        self, clock: Clock, identity: Identity, prices: PriceBooks, balances: Balances, commitments: Commitments
    ) -> None:
        self.clock = clock
        self.identity = identity
        self.prices = prices
        self.balances = balances
        self.commitments = commitments
        self._accounts = AccountStore()
        self._ledger = LedgerStore()

    async def book(
        self, tx: Tx, project: ProjectId, thing: str, runs: Sequence[Run], rate: Sequence[Run], ahead: timedelta
    ) -> Standing:
        """Book what `runs` have cost, and set aside what `rate` (each over one second) costs in the time `ahead`; with
        no `rate` it has ended, and nothing is set aside any more."""
        now = self.clock.now()
        start = min((run.start for run in runs), default=now)
        prices = await self.prices.timeline(tx, _seconds_around(start, max(now, start)), project)
        cost = self._cost(runs, prices, start, now + _SECOND)
        per_second = self._cost(rate, prices, start, now + _SECOND)
        organization = (await self.identity.project(tx, project)).organization_id
        accounts = await self.balances.accounts_for(tx, organization, project, _NO_KEY)
        wanted: dict[tuple[str, Period], tuple[Decimal, datetime]] = {}
        spent: dict[tuple[str, datetime], int] = {}
        coming = per_second * Decimal(ahead.total_seconds())
        for account in accounts:
            since = _counts_from(account, runs)
            for period in _periods(account, max(start, since), now):
                begin = max(period.start, since)
                own = self._cost(runs, prices, begin, min(period.end, now + _SECOND))
                present = period.start <= now < period.end
                wanted[account.id, period] = (own + (coming if present else 0), period.end if not present else now)
                spent[account.id, period.start] = nano_ceil(own)
        await self._put(tx, thing, accounts, wanted, spent, start, over=not rate)
        return Standing(cost, prices.currency, per_second, await self._short(tx, accounts, coming, per_second, now))

    async def _put(
        self,
        tx: Tx,
        thing: str,
        accounts: Sequence[Account],
        wanted: Wanted,
        spent: Mapping[tuple[str, datetime], int],
        since: datetime,
        *,
        over: bool,
    ) -> None:
        if not any(cost for cost, _ in wanted.values()) and not await self.commitments.of(tx, thing):
            return
        await self.commitments.put(tx, thing, accounts, wanted, since=since - _SECOND)
        leases = await self.commitments.of(tx, thing)
        more = {
            lease.id: spent[lease.account, lease.period_start] - lease.spent_nano
            for lease in leases
            if (lease.account, lease.period_start) in spent
        }
        await self.commitments.spend(tx, more)
        if over and (rest := [lease for lease in leases if lease.state is LeaseState.OPEN]):
            await self.commitments.close(tx, rest)

    async def _short(
        self, tx: Tx, accounts: Sequence[Account], coming: Decimal, per_second: Decimal, now: datetime
    ) -> Short | None:
        """Of the present periods. What is set aside for the thing itself is its own."""
        if not per_second:
            return None
        keys = {account.id: (account.id, period_of(account.window, now).start) for account in accounts}
        balances = await self._ledger.balances(tx, list(keys.values()))
        found = []
        for account in accounts:
            balance = balances.get(keys[account.id])
            committed = balance.committed_nano if balance is not None else 0
            left = Decimal(account.limit_nano - committed).scaleb(-9) + coming
            limit = Decimal(account.limit_nano).scaleb(-9)
            found.append(Short(account.id, account.kind, left, limit, max(0, int(left / per_second))))
        return min(found, key=lambda short: short.seconds, default=None)

    def _cost(self, runs: Sequence[Run], prices: Timeline, begin: datetime, end: datetime) -> Decimal:
        pieces = [piece for run in runs for piece in _pieces(run, prices, begin, end)]
        return exact_sum(charge.billed_cost for charge in self.prices.rate(pieces, prices))


def _pieces(run: Run, prices: Timeline, begin: datetime, end: datetime) -> list[UsageSum]:
    """Of the part within `[begin, end)`, cut where prices changed."""
    t0, t1 = max(run.start, begin), min(run.end, end)
    if t1 <= t0:
        return []
    edges = [t0, *(cut for cut in prices.cuts if t0 < cut < t1), t1]
    return [
        UsageSum(
            _seconds_around(a, b),
            run.meter,
            quantity,
            {**dict.fromkeys(RATED_BY), **run.dims},
            bisect_right(prices.cuts, a),
        )
        for a, b in pairwise(edges)
        if (quantity := run.quantity(a, b))
    ]


def _seconds_around(start: datetime, end: datetime) -> Window:
    """The window of whole seconds that holds all of this."""
    return Window(start.replace(microsecond=0), end.replace(microsecond=0) + _SECOND)


def _counts_from(account: Account, runs: Sequence[Run]) -> datetime:
    """A project's budget by day or month was made with what full hours had cost by then; others count from then on."""
    if account.project is not None and account.window is not BudgetWindow.TOTAL:
        return floor_hour(account.created_at)
    return account.created_at


def _periods(account: Account, start: datetime, now: datetime) -> list[Period]:
    found = [period_of(account.window, min(start, now))]
    while found[-1].end <= now:
        found.append(period_of(account.window, found[-1].end))
    return found
