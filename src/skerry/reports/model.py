"""Rows that join what lower domains may not know of each other."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from skerry.billing.model import ChargeKind
from skerry.kernel.windows import Window
from skerry.metering.model import Meter


@dataclass(frozen=True, slots=True)
class CostRow:
    """A row of usage, or of one-off charges, with what it costs, exactly. Energy is None where it is not measured."""

    window: Window
    meter: Meter | ChargeKind
    quantity: int
    groups: Mapping[str, str | None]
    currency: str
    list_cost: Decimal
    contracted_cost: Decimal
    billed_cost: Decimal
    energy_mwh: int | None = None
    carbon_mg: int | None = None
