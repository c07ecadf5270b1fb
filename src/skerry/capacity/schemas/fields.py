"""Fields and shapes that the wire forms of capacity share (API §1, §4)."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer
from pydantic import StringConstraints as Text
from pydantic_core import PydanticCustomError

from skerry.billing.model import ReservedPrice
from skerry.capacity import model
from skerry.kernel.clock import require_utc, rfc3339
from skerry.kernel.money import plain

NODES_MAX = 1_000_000
SECONDS_MAX = 100 * 366 * 86_400


def _whole_second(value: datetime) -> datetime:
    try:
        moment = require_utc(value)
    except OverflowError as error:
        raise PydanticCustomError("out_of_range", "it lies outside the years 1 to 9999") from error
    if moment.microsecond:
        raise PydanticCustomError("sub_second_time", "capacity is sold in whole seconds: leave the fraction out")
    return moment


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise PydanticCustomError("not_printable", "it must be printable, without spaces around it")
    return text


Second = Annotated[AwareDatetime, AfterValidator(_whole_second)]
Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]
Ref = Annotated[str, Text(min_length=1, max_length=200)]
"""A name or an id."""
Label = Annotated[str, Text(min_length=1, max_length=100), AfterValidator(_printable)]
Nodes = Annotated[int, Field(strict=True, ge=1, le=NODES_MAX)]
Seconds = Annotated[int, Field(strict=True, ge=1, le=SECONDS_MAX)]
Number = Annotated[Decimal, PlainSerializer(float, return_type=float)]
"""A quantity or a share, never money: a JSON number."""


class Wire(BaseModel):
    """Unknown fields are refused: a misspelt wish must not be silence."""

    model_config = ConfigDict(extra="forbid")


class Money(BaseModel):
    amount: str
    currency: str

    @classmethod
    def of(cls, amount: Decimal, currency: str) -> "Money":
        return cls(amount=plain(amount), currency=currency)


class Line(BaseModel):
    """A part of the price: compute, operations, networking, storage or hosting. `node_hour`: for one node and hour."""

    line: str
    node_hour: str
    amount: str


class Price(BaseModel):
    """Decimal strings, exact. `hourly`: what all nodes together cost in an hour at full size."""

    total: str
    hourly: str
    currency: str
    lines: list[Line]

    @classmethod
    def of(cls, price: ReservedPrice) -> "Price":
        lines = [
            Line(line=own.line.value, node_hour=plain(own.node_hour), amount=plain(own.amount)) for own in price.lines
        ]
        return cls(total=plain(price.total), hourly=plain(price.hourly), currency=price.currency, lines=lines)


class Energy(BaseModel):
    """An estimate: full power, the site's PUE, the grid's carbon by the hour."""

    kwh: float
    gco2e: int

    @classmethod
    def of(cls, energy: model.OfferEnergy) -> "Energy":
        return cls(kwh=energy.wh / 1000, gco2e=energy.gco2e)


class Leg(BaseModel):
    """`nodes` nodes of one leaf for one window. Counts: which nodes is decided shortly before the start."""

    leaf: str
    hall: str
    site: str
    nodes: int
    start: Time
    end: Time

    @classmethod
    def of(cls, leg: model.Leg) -> "Leg":
        return cls(
            leaf=leg.leaf_name,
            hall=leg.hall,
            site=leg.site,
            nodes=leg.nodes,
            start=leg.window.start,
            end=leg.window.end,
        )
