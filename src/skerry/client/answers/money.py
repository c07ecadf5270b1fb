"""What was used, what it costs, and what may be spent."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from skerry.client.answers.base import Answer, Money


class UsageRow(Answer, frozen=True, kw_only=True):
    """A quantity of one meter in the window [start, end), in base units. `by` has the groups asked for."""

    start: datetime
    end: datetime
    meter: str
    quantity: int
    unit: str = ""

    def by(self, name: str) -> str:
        """The value of a group, such as `model` or `tag:team`; empty where the facts have none."""
        value = self.raw.get(name)
        return "" if value is None else str(value)


class CostRow(UsageRow, frozen=True, kw_only=True):
    """A usage row with its price: at list, under the contract, and as billed. Unrounded."""

    list_cost: Money
    contracted_cost: Money
    billed_cost: Money
    energy_mwh: int | None = None
    carbon_mg: int | None = None
    """None where it was not measured."""


class Price(Answer, frozen=True, kw_only=True):
    """`unit_price` for each `unit_quantity` of the meter, where the other fields match (None matches all)."""

    meter: str
    unit_quantity: int
    unit_price: Decimal
    model: str | None = None
    sku: str | None = None
    site: str | None = None
    capacity_class: str | None = None
    charge_by: str | None = None
    line: str | None = None
    """Of reserved node-seconds: compute (None), operations, networking, storage or hosting. Their prices add."""


class PriceBook(Answer, frozen=True, kw_only=True):
    version: int
    currency: str
    effective_from: datetime | None = None
    prices: tuple[Price, ...] = ()


class Budget(Answer, frozen=True, kw_only=True):
    """`spent` of `limit` in the current window. `target` is one of project, key, tag, organization."""

    id: str
    target: dict[str, Any] = msgspec.field(default_factory=dict)
    limit: Money
    window: str = ""
    spent: Money | None = None
    pending: Money | None = None
    alert_at: tuple[Decimal | int | float, ...] = ()
    created_at: datetime | None = None
