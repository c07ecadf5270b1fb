"""Prices on the wire (API §9)."""

from typing import Any

from pydantic import Field

from skerry.billing.model import ChargeBy, Line, Price, PriceBook
from skerry.billing.schemas.fields import Amount, Currency, Name, Time, Wire
from skerry.metering.model import Meter

UNIT_QUANTITY_MAX = 10**15
PRICES_MAX = 20_000


class PriceRow(Wire):
    """`unit_price` for each `unit_quantity` base units, where all named dimensions match; left out: any."""

    meter: Meter
    model: Name | None = None
    sku: Name | None = None
    site: Name | None = None
    capacity_class: Name | None = None
    charge_by: ChargeBy | None = None
    line: Line | None = Field(default=None, description="Of node_seconds_reserved alone; left out: compute.")
    unit_quantity: int = Field(ge=1, le=UNIT_QUANTITY_MAX)
    unit_price: Amount
    tiers: list[Any] | None = Field(default=None, max_length=0, description="Not there yet: null or empty.")

    @classmethod
    def of(cls, price: Price) -> "PriceRow":
        return cls.model_construct(
            meter=price.meter,
            model=price.model,
            sku=price.sku,
            site=price.site,
            capacity_class=price.capacity_class,
            charge_by=ChargeBy(price.charge_by) if price.charge_by else None,
            line=price.line,
            unit_quantity=price.unit_quantity,
            unit_price=price.unit_price,
            tiers=None,
        )

    def to_price(self) -> Price:
        return Price(
            meter=self.meter,
            unit_quantity=self.unit_quantity,
            unit_price=self.unit_price,
            model=self.model,
            sku=self.sku,
            site=self.site,
            capacity_class=self.capacity_class,
            charge_by=self.charge_by.value if self.charge_by else None,
            line=self.line,
        )


class PriceBookIn(Wire):
    """The body of GET /prices; `version` is given by the server, and is ignored here."""

    version: int | None = None
    currency: Currency
    effective_from: Time | None = None
    prices: list[PriceRow] = Field(min_length=1, max_length=PRICES_MAX)


class PriceBookOut(Wire):
    version: int
    currency: Currency
    effective_from: Time
    prices: list[PriceRow]

    @classmethod
    def of(cls, book: PriceBook) -> "PriceBookOut":
        return cls.model_construct(
            version=book.version,
            currency=book.currency,
            effective_from=book.effective_from,
            prices=[PriceRow.of(price) for price in book.prices],
        )
