"""Fields and shapes that the wire forms of capacity share (API §1, §4)."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
)
from pydantic import StringConstraints as Text
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from skerry.billing.model import ReservedPrice
from skerry.capacity import model
from skerry.kernel.clock import require_utc, rfc3339
from skerry.kernel.money import plain

NODES_MAX = 1_000_000
SECONDS_MAX = 100 * 366 * 86_400


def _no_number(value: object) -> object:
    """Seconds, or milliseconds? RFC 3339 leaves no doubt."""
    if isinstance(value, int | float) or (isinstance(value, str) and not value.strip("+-.0123456789")):
        raise PydanticCustomError("not_a_time", "it must be a time such as 2027-01-01T00:00:00Z")
    return value


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


Second = Annotated[AwareDatetime, BeforeValidator(_no_number), AfterValidator(_whole_second)]
Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]
Ref = Annotated[str, Text(min_length=1, max_length=200)]
"""A name or an id."""
Label = Annotated[str, Text(min_length=1, max_length=100), AfterValidator(_printable)]
Nodes = Annotated[int, Field(strict=True, ge=1, le=NODES_MAX)]
Seconds = Annotated[int, Field(strict=True, ge=1, le=SECONDS_MAX)]
Number = Annotated[Decimal, PlainSerializer(float, return_type=float)]
"""A quantity or a share, never money: a JSON number."""


def fields_as_sent(tag: str) -> Callable[[Any, ValidatorFunctionWrapHandler], Any]:
    """For a union told apart by a field: errors name fields as they were sent. pydantic puts the tag's value before
    them, and names nothing at all where the tag itself is wrong."""

    def checked(value: Any, inner: ValidatorFunctionWrapHandler) -> Any:
        try:
            return inner(value)
        except ValidationError as error:
            found = error.errors(include_url=False)
            raise ValidationError.from_exception_data(error.title, [_as_sent(one, tag) for one in found]) from None

    return checked


def _as_sent(found: ErrorDetails, tag: str) -> InitErrorDetails:
    kind, words, path = found["type"], found["msg"], found["loc"][1:]
    if kind == "union_tag_not_found":
        kind, words, path = "missing", "Field required", (tag,)
    elif kind == "union_tag_invalid":
        words, path = f"it must be one of {found['ctx']['expected_tags']}", (tag,)
    return InitErrorDetails(type=PydanticCustomError(kind, words), loc=path, input=found["input"])


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
