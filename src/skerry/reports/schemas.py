"""Reports on the wire (API §9)."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from skerry.billing.model import ChargeKind
from skerry.kernel.clock import rfc3339
from skerry.kernel.money import Money, plain
from skerry.kernel.paging import Page
from skerry.metering.model import Meter, Unit
from skerry.reports.model import CostRow


class MoneyOut(BaseModel):
    """Unrounded."""

    amount: str
    currency: str

    @classmethod
    def of(cls, money: Money) -> "MoneyOut":
        return cls(amount=plain(money.amount), currency=money.currency)


class CostRowOut(BaseModel):
    """A row of usage with its cost; beside it a field for each name grouped by (null: none).

    One-off charges have rows as well: their kind as the meter, and how many they are as the quantity. Energy is null
    where it is not measured.
    """

    model_config = ConfigDict(extra="allow")

    start: str
    end: str
    meter: Meter | ChargeKind
    unit: Unit | Literal["charge"]
    quantity: int
    list_cost: MoneyOut
    contracted_cost: MoneyOut
    billed_cost: MoneyOut
    energy_mwh: int | None
    carbon_mg: int | None

    @classmethod
    def of(cls, row: CostRow) -> "CostRowOut":
        groups: dict[str, Any] = dict(row.groups)
        return cls(
            start=rfc3339(row.window.start),
            end=rfc3339(row.window.end),
            meter=row.meter,
            unit=row.meter.unit if isinstance(row.meter, Meter) else "charge",
            quantity=row.quantity,
            list_cost=MoneyOut.of(Money(row.list_cost, row.currency)),
            contracted_cost=MoneyOut.of(Money(row.contracted_cost, row.currency)),
            billed_cost=MoneyOut.of(Money(row.billed_cost, row.currency)),
            energy_mwh=row.energy_mwh,
            carbon_mg=row.carbon_mg,
            **groups,
        )


class CostPage(BaseModel):
    data: list[CostRowOut]
    has_more: bool
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[CostRow]) -> "CostPage":
        rows = [CostRowOut.of(row) for row in page.data]
        return cls(data=rows, has_more=page.has_more, next_cursor=page.next_cursor)
