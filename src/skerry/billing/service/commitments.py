"""What reservations will cost, set aside on each account that bears them.

A commitment is a lease of the ledger whose journal is the reservation: one for each account and period. So it counts
like what gateways hold: as pending until its usage is booked, and never twice.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from skerry.billing.errors import BudgetExhausted, CreditExhausted
from skerry.billing.model import Account, AccountKind, Balance, Lease, LeaseState, Period
from skerry.billing.rules import balances as rules
from skerry.billing.rules.budgets import nano_ceil
from skerry.billing.service.balances import Balances
from skerry.billing.store.ledger import LedgerStore, PeriodKey
from skerry.db.database import Tx
from skerry.kernel.clock import Clock, rfc3339
from skerry.kernel.errors import PaymentRequired
from skerry.kernel.ids import IdFactory, new_id
from skerry.kernel.money import decimal_from_nano, plain

Wanted = Mapping[tuple[str, Period], tuple[Decimal, datetime]]
"""By account and period: what a reservation costs in it, and when the last of that ends."""
Limits = Callable[[Account, Period], int]
"""The limit of an account in a period, in nano-units."""

GRACE = timedelta(days=3)
"""How long after its end a commitment waits for usage that comes late."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What is wanted of a period."""

    period: Period
    nano: int
    ends: datetime


class Commitments:
    def __init__(self, clock: Clock, balances: Balances, ids: IdFactory = new_id) -> None:
        self.clock = clock
        self.balances = balances
        self.ids = ids
        self._ledger = LedgerStore()

    async def put(
        self,
        tx: Tx,
        reservation: str,
        accounts: Sequence[Account],
        wanted: Wanted,
        *,
        limits: Limits | None = None,
        since: datetime | None = None,
    ) -> None:
        """Set aside what is wanted instead of what was before, on these accounts.

        What has passed by `since` (default now) and had nothing set aside stays so. Raises CreditExhausted,
        BudgetExhausted where an account would have to bear more than it has left; without `limits` nothing is refused.
        """
        now = self.clock.now()
        first = since or now
        known = {account.id: account for account in accounts}
        held = [lease for lease in await self._ledger.of_journal(tx, reservation) if lease.account in known]
        taken = {_key(lease) for lease in held}
        parts = {
            (id, period.start): _Part(period, nano_ceil(cost), ends)
            for (id, period), (cost, ends) in wanted.items()
            if ends > first or (id, period.start) in taken
        }
        keys = sorted(taken | parts.keys())
        if not keys:
            return
        await self._ledger.open_periods(tx, {key: Balance(part.period) for key, part in parts.items()})
        balances = await self._ledger.lock_periods(tx, keys)
        before = {_key(lease): lease for lease in await self._locked(tx, held)}
        after = {key: self._after(key, reservation, before.get(key), parts.get(key), first) for key in keys}
        moved: dict[PeriodKey, Balance] = {}
        for key in keys:
            more = _counted(after[key]) - _counted(before.get(key))
            moved[key] = replace(balances[key], committed_nano=balances[key].committed_nano + more)
            if limits is not None and more > 0:
                _require_covered(known[key[0]], balances[key], more, limits(known[key[0]], balances[key].period))
        await self._save(tx, before, after, now)
        await self._ledger.save_balances(tx, {key: own for key, own in moved.items() if own != balances[key]})

    async def spend(self, tx: Tx, spent: Mapping[str, int]) -> None:
        """Book what commitments have paid for, by lease."""
        if changed := {id: nano for id, nano in spent.items() if nano}:
            await self.balances.settle(tx, changed)

    async def of(self, tx: Tx, reservation: str) -> list[Lease]:
        """What is set aside for a reservation, and what was."""
        return await self._ledger.of_journal(tx, reservation)

    async def close(self, tx: Tx, leases: Collection[Lease]) -> None:
        """Give the rests of open commitments back: no more usage is expected."""
        balances = await self._ledger.lock_periods(tx, {_key(lease) for lease in leases})
        locked = await self._ledger.lock_leases(tx, [lease.id for lease in leases])
        ended = [lease for lease in locked if lease.state is LeaseState.OPEN]
        for lease in ended:
            own = balances[_key(lease)]
            rest = rules.counted(lease) - lease.spent_nano
            balances[_key(lease)] = replace(own, committed_nano=own.committed_nano - rest)
        closed = [replace(lease, state=LeaseState.CLOSED) for lease in ended]
        await self._ledger.save_leases(tx, closed, closed_at=self.clock.now())
        await self._ledger.save_balances(tx, balances)

    async def charge(self, tx: Tx, charge: str, accounts: Sequence[Account], amount: Decimal) -> None:
        """Book a one-off charge as spent in the present periods. It is owed: no limit holds it up."""
        now, nano = self.clock.now(), nano_ceil(amount)
        if not nano:
            return
        periods = {account.id: rules.period_of(account.window, now) for account in accounts}
        await self._ledger.open_periods(tx, {(id, own.start): Balance(own) for id, own in periods.items()})
        leases = [
            Lease(self.ids("lease"), id, own.start, charge, 0, 0, LeaseState.CLOSED, now) for id, own in periods.items()
        ]
        await self._ledger.insert_leases(tx, leases, now)
        await self._ledger.save_leases(tx, leases, closed_at=now)
        await self.balances.settle(tx, {lease.id: nano for lease in leases})

    async def _locked(self, tx: Tx, leases: Sequence[Lease]) -> list[Lease]:
        return await self._ledger.lock_leases(tx, [lease.id for lease in leases]) if leases else []

    def _after(
        self, key: PeriodKey, reservation: str, before: Lease | None, part: _Part | None, first: datetime
    ) -> Lease | None:
        """What is to be held in a period. What was closed is opened again only where something is still to come."""
        if before is None:
            if part is None:
                return None
            return Lease(self.ids("lease"), *key, reservation, part.nano, 0, LeaseState.OPEN, part.ends)
        live = before.state is LeaseState.OPEN
        if part is None:
            return replace(before, state=LeaseState.CLOSED) if live else before
        if live or part.ends > first:
            return replace(before, amount_nano=part.nano, expires_at=part.ends, state=LeaseState.OPEN)
        return before

    async def _save(
        self,
        tx: Tx,
        before: Mapping[PeriodKey, Lease],
        after: Mapping[PeriodKey, Lease | None],
        now: datetime,
    ) -> None:
        new = [lease for key, lease in after.items() if lease is not None and key not in before]
        changed = [lease for key, lease in after.items() if lease is not None and before.get(key) not in (None, lease)]
        await self._ledger.insert_leases(tx, new, now)
        await self._ledger.save_leases(tx, [lease for lease in changed if lease.state is LeaseState.OPEN])
        ended = [lease for lease in changed if lease.state is not LeaseState.OPEN]
        await self._ledger.save_leases(tx, ended, closed_at=now)


def _key(lease: Lease) -> PeriodKey:
    return (lease.account, lease.period_start)


def _counted(lease: Lease | None) -> int:
    return rules.counted(lease) if lease else 0


def _require_covered(account: Account, balance: Balance, more: int, limit: int) -> None:
    left = max(0, limit - balance.committed_nano)
    if more <= left:
        return
    kind: type[PaymentRequired] = CreditExhausted if account.kind is AccountKind.CREDIT_LIMIT else BudgetExhausted
    words = {
        AccountKind.CREDIT_LIMIT: "the organization's credit limit",
        AccountKind.KEY_LIMIT: "the key's own limit",
        AccountKind.BUDGET: f"budget {account.id} of the {account.target.kind}",
    }[account.kind]
    need, have = plain(decimal_from_nano(more)), plain(decimal_from_nano(left))
    since = "" if account.window.value == "total" else f" for the {account.window} from {rfc3339(balance.period.start)}"
    raise kind(
        f"{words} has {have} {account.currency} left{since}, and {need} {account.currency} would be set aside",
        suggestion="Ask your operator for more credit, or reserve less."
        if kind is CreditExhausted
        else "Raise the budget, or reserve less.",
        extra={
            "budget": account.id,
            "remaining": {"amount": have, "currency": account.currency},
            "needed": {"amount": need, "currency": account.currency},
            "period_start": rfc3339(balance.period.start),
        },
    )
