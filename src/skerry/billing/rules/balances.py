"""Decisions of the ledger. Amounts are nano-units."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from skerry.billing.model import Account, Balance, BudgetWindow, Lease, LeaseState, Period

_SHARE = 4
"""A lease takes at most this part of what is left, so that several gateways can go on side by side to the end."""

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_END = datetime(9999, 1, 1, tzinfo=UTC)


def period_of(window: BudgetWindow, at: datetime) -> Period:
    """The period that a moment belongs to, in UTC."""
    if window is BudgetWindow.TOTAL:
        return Period(_BEGINNING, _END)
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if window is BudgetWindow.DAY:
        return Period(day, day + timedelta(days=1))
    month = day.replace(day=1)
    return Period(month, (month + timedelta(days=32)).replace(day=1))


def grant(account: Account, balance: Balance, minimum: int, wanted: int) -> int | None:
    """How much to set aside, at least `minimum` and at most what is left; None where less than that is left.

    As the balance ends grants shrink to `minimum`, the ceiling of the one request that asks.
    """
    available = account.limit_nano - balance.committed_nano
    if available < max(minimum, 1):
        return None
    return min(max(wanted, minimum, 1), max(minimum, available // _SHARE, 1), available)


def counted(lease: Lease) -> int:
    """What a lease keeps from others: all of it while it is open, more where more was spent; then what was spent."""
    return max(lease.amount_nano, lease.spent_nano) if lease.state is LeaseState.OPEN else lease.spent_nano


def alerts_due(account: Account, balance: Balance) -> tuple[Decimal, ...]:
    """Shares of the limit that spending has reached and nobody was told of."""
    sent = set(balance.alerts_sent)
    return tuple(
        share
        for share in account.alert_at
        if share not in sent and balance.spent_nano >= share * account.limit_nano and balance.spent_nano > 0
    )
