"""Requests about usage, costs, prices and budgets."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from skerry.client.answers.base import reader
from skerry.client.answers.money import Budget, CostRow, PriceBook, UsageRow
from skerry.client.call import CONTROL, Call, Page, at, create, delete, get, listing

BUDGETS = f"{CONTROL}/budgets"


def usage(
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    group_by: Sequence[str] = (),
    bucket: str | None = None,
    limit: int | None = None,
) -> Call[Page[UsageRow]]:
    """Quantities of the window [start, end) by meter and `group_by`; `bucket`: hour, day or month."""
    window = {"from": start, "to": end}
    return listing(
        f"{CONTROL}/usage", reader(UsageRow), **window, group_by=group_by or None, bucket=bucket, limit=limit
    )


def costs(
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    group_by: Sequence[str] = (),
    bucket: str | None = None,
    limit: int | None = None,
) -> Call[Page[CostRow]]:
    """The rows of `usage`, priced."""
    window = {"from": start, "to": end}
    return listing(f"{CONTROL}/costs", reader(CostRow), **window, group_by=group_by or None, bucket=bucket, limit=limit)


def prices() -> Call[PriceBook]:
    """The price book in effect."""
    return get(f"{CONTROL}/prices", reader(PriceBook))


def list_budgets(*, limit: int | None = None) -> Call[Page[Budget]]:
    return listing(BUDGETS, reader(Budget), limit=limit)


def create_budget(
    target: Mapping[str, str],
    *,
    amount: Decimal,
    currency: str,
    window: str,
    alert_at: Sequence[Decimal] | None = None,
) -> Call[Budget]:
    """`target` is one of {project}, {key}, {tag}, {organization}; `window`: day, month or total."""
    body = {
        "target": dict(target),
        "limit": {"amount": format(amount, "f"), "currency": currency},
        "window": window,
        "alert_at": [float(share) for share in alert_at] if alert_at else None,
    }
    return create(BUDGETS, reader(Budget), body)


def delete_budget(budget_id: str) -> Call[None]:
    return delete(at(BUDGETS, budget_id))
