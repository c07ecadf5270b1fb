"""Usage on the wire (API §9)."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from skerry.kernel.clock import rfc3339
from skerry.kernel.paging import Page
from skerry.metering.model import Meter, Unit, UsageSum


class UsageRow(BaseModel):
    """One meter's quantity in [start, end), in base units; beside it a field for each name grouped by (null: none)."""

    model_config = ConfigDict(extra="allow")

    start: str
    end: str
    meter: Meter
    unit: Unit
    quantity: int

    @classmethod
    def of(cls, row: UsageSum) -> "UsageRow":
        groups: dict[str, Any] = dict(row.groups)
        return cls(
            start=rfc3339(row.window.start),
            end=rfc3339(row.window.end),
            meter=row.meter,
            unit=row.meter.unit,
            quantity=row.quantity,
            **groups,
        )


class UsagePage(BaseModel):
    data: list[UsageRow]
    has_more: bool
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[UsageSum]) -> "UsagePage":
        rows = [UsageRow.of(row) for row in page.data]
        return cls(data=rows, has_more=page.has_more, next_cursor=page.next_cursor)
