"""Fields that the wire of billing is made of."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from pydantic import StringConstraints as Text

from skerry.kernel.clock import require_utc, rfc3339
from skerry.kernel.money import Money, decimal_from_nano, parse_amount, plain


def _decimal(value: object) -> Decimal:
    if not isinstance(value, str):
        raise ValueError('amounts are decimal strings, such as "12.34"')
    amount = parse_amount(value)
    if amount < 0:
        raise ValueError("it cannot be negative")
    return amount


def _utc(value: datetime) -> datetime:
    try:
        return require_utc(value)
    except OverflowError as error:
        raise ValueError("it lies outside the years 1 to 9999") from error


def _clean(value: str) -> str:
    if "\x00" in value:
        raise ValueError("it must not have NUL in it")
    return value


Amount = Annotated[
    Decimal,
    BeforeValidator(
        _decimal, json_schema_input_type=Annotated[str, Text(max_length=40, pattern=r"^[0-9]+(\.[0-9]+)?$")]
    ),
    PlainSerializer(plain, return_type=str),
]
Name = Annotated[str, Text(min_length=1, max_length=200), AfterValidator(_clean)]
Currency = Annotated[str, Text(pattern=r"^[A-Z]{3}$")]
Time = Annotated[AwareDatetime, AfterValidator(_utc), PlainSerializer(rfc3339, return_type=str)]
Share = Annotated[Decimal, PlainSerializer(float, return_type=float)]
"""A share of a limit, never money: a JSON number."""


class Wire(BaseModel):
    """Unknown fields are refused: a misspelt limit must not be silence."""

    model_config = ConfigDict(extra="forbid")


class MoneyField(Wire):
    amount: Amount
    currency: Currency

    @classmethod
    def of(cls, nano: int, currency: str) -> "MoneyField":
        return cls.model_construct(amount=decimal_from_nano(nano), currency=currency)

    def to_money(self) -> Money:
        return Money(self.amount, self.currency)
