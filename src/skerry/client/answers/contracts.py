"""What customers have agreed on, and charges that no meter brings."""

from datetime import datetime
from decimal import Decimal

from skerry.client.answers.base import Answer, Money
from skerry.client.answers.money import Price


class CancellationStep(Answer, frozen=True, kw_only=True):
    """Who cancels at least `days_before` days before the start owes `share` (0 to 1) of what is not used."""

    days_before: int
    share: Decimal | int | float


class Cancellation(Answer, frozen=True, kw_only=True):
    """Free until `free_days_before` days before the start."""

    free_days_before: int
    steps: tuple[CancellationStep, ...] = ()


class Contract(Answer, frozen=True, kw_only=True):
    """`ends_at` None: no end. `credit_limit` is a month's; None: the organization's own."""

    id: str
    organization: str = ""
    name: str = ""
    currency: str = ""
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    prices: tuple[Price, ...] = ()
    cancellation: Cancellation | None = None
    credit_limit: Money | None = None
    created_at: datetime | None = None


class Charge(Answer, frozen=True, kw_only=True):
    """A one-off charge, such as a fee for cancelling the reservation `resource`."""

    id: str
    kind: str
    resource: str = ""
    amount: Money
    at: datetime | None = None
    reason: str = ""
