"""Budgets on the wire (API §2)."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field
from pydantic import StringConstraints as Text

from skerry.billing.model import Account, AccountKind, Budget, BudgetWindow, Lease
from skerry.billing.schemas.fields import MoneyField, Name, Share, Time, Wire
from skerry.kernel.paging import Page


class BudgetIn(Wire):
    """`target` has one of project, key and organization; `alert_at` holds shares of the limit, such as 0.8."""

    target: dict[Annotated[str, Text(max_length=20)], Name] = Field(min_length=1, max_length=1)
    limit: MoneyField
    window: BudgetWindow
    alert_at: list[Decimal] | None = None


class BudgetChange(Wire):
    """What is left out stays as it is."""

    limit: MoneyField | None = None
    alert_at: list[Decimal] | None = None


class BudgetOut(Wire):
    """`spent` and `pending` (set aside for gateways, not yet booked) of `limit` in the present period.

    `period_end` is null where the window is `total`.
    """

    id: str
    kind: AccountKind
    target: dict[str, str]
    limit: MoneyField
    window: BudgetWindow
    alert_at: list[Share]
    spent: MoneyField
    pending: MoneyField
    remaining: MoneyField
    period_start: Time
    period_end: Time | None
    created_at: Time

    @classmethod
    def of(cls, budget: Budget) -> "BudgetOut":
        account, balance = budget.account, budget.balance
        total = account.window is BudgetWindow.TOTAL
        return cls.model_construct(
            id=account.id,
            kind=account.kind,
            target={account.target.kind.value: budget.target_name},
            limit=MoneyField.of(account.limit_nano, account.currency),
            window=account.window,
            alert_at=list(account.alert_at),
            spent=MoneyField.of(balance.spent_nano, account.currency),
            pending=MoneyField.of(balance.pending_nano, account.currency),
            remaining=MoneyField.of(budget.remaining_nano, account.currency),
            period_start=account.created_at if total else balance.period.start,
            period_end=None if total else balance.period.end,
            created_at=account.created_at,
        )


class BudgetPage(Wire):
    data: list[BudgetOut]
    has_more: bool
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[Budget]) -> "BudgetPage":
        found = [BudgetOut.of(budget) for budget in page.data]
        return cls.model_construct(data=found, has_more=page.has_more, next_cursor=page.next_cursor)


class LeaseOut(Wire):
    """A part of a balance that a gateway holds. An operator may release it once it has expired."""

    id: str
    amount: MoneyField
    spent: MoneyField
    expires_at: Time

    @classmethod
    def of(cls, lease: Lease, account: Account) -> "LeaseOut":
        return cls.model_construct(
            id=lease.id,
            amount=MoneyField.of(lease.amount_nano, account.currency),
            spent=MoneyField.of(lease.spent_nano, account.currency),
            expires_at=lease.expires_at,
        )


class LeaseList(Wire):
    data: list[LeaseOut]
    has_more: bool = False
    next_cursor: str | None = None
