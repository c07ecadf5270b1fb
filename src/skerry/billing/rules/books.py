"""Which price books are accepted, the first one, and how a model's own prices change one."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from skerry.billing.model import ChargeBy, Line, ModelPrice, Price, PriceBook
from skerry.billing.rules.prices import carries_money
from skerry.kernel.errors import FieldError, Invalid
from skerry.kernel.money import ATTO, plain
from skerry.metering.model import Meter, MeterFamily

CLOCK_TOLERANCE = timedelta(seconds=60)
"""A moment that lies this far back means "now": clients' clocks differ, and requests take time."""
LAST_YEAR = 2200
MILLION = 10**6
HOUR_SECONDS = 3600

TOKEN_METERS = (Meter.TOKENS_PROMPT, Meter.TOKENS_CACHED, Meter.TOKENS_COMPLETION)


def default_prices() -> tuple[Price, ...]:
    """Version 1, near the market's middle. Prices by the hour divide by 3600, so that a second has an exact price."""
    time, tokens, reservation = (charge_by.value for charge_by in ChargeBy)
    return (
        Price(Meter.TOKENS_PROMPT, MILLION, Decimal("0.05"), charge_by=tokens),
        Price(Meter.TOKENS_CACHED, MILLION, Decimal("0.025"), charge_by=tokens),
        Price(Meter.TOKENS_COMPLETION, MILLION, Decimal("0.10"), charge_by=tokens),
        Price(Meter.TOKENS_TRAINED, MILLION, Decimal("0.50"), charge_by=tokens),
        Price(Meter.ACCELERATOR_SECONDS, HOUR_SECONDS, Decimal("3.60"), charge_by=time),
        Price(Meter.ACCELERATOR_SECONDS, HOUR_SECONDS, Decimal("0.036"), sku="local", charge_by=time),
        Price(Meter.NODE_SECONDS_RESERVED, HOUR_SECONDS, Decimal("18.00"), charge_by=reservation),
        Price(Meter.NODE_SECONDS_RESERVED, HOUR_SECONDS, Decimal("0.18"), sku="local", charge_by=reservation),
        *_reserved_lines("0.90", "0.72", "0.36", "1.08"),
        *_reserved_lines("0.009", "0.0036", "0.0018", "0.0072", sku="local"),
        Price(Meter.STORAGE_BYTE_SECONDS, 1, Decimal(0)),
        Price(Meter.EGRESS_BYTES, 1, Decimal(0)),
    )


def _reserved_lines(
    operations: str, networking: str, storage: str, hosting: str, sku: str | None = None
) -> list[Price]:
    """What stands beside compute in the price of a reserved node's hour."""
    lines = (
        (Line.OPERATIONS, operations),
        (Line.NETWORKING, networking),
        (Line.STORAGE, storage),
        (Line.HOSTING, hosting),
    )
    return [
        Price(
            Meter.NODE_SECONDS_RESERVED,
            HOUR_SECONDS,
            Decimal(amount),
            sku=sku,
            charge_by=ChargeBy.RESERVATION.value,
            line=line,
        )
        for line, amount in lines
    ]


def effective_moment(wanted: datetime | None, now: datetime) -> datetime:
    """When a new book comes into force: now, unless a later moment is asked for. Raises Invalid for one gone by."""
    if wanted is None or now - CLOCK_TOLERANCE <= wanted <= now:
        return now
    if wanted < now:
        message = "effective_from lies in the past: what was charged stays as it was"
        raise _invalid([FieldError("effective_from", "in_the_past", message)], "Leave it out for now.")
    if wanted.year >= LAST_YEAR:
        raise _invalid([FieldError("effective_from", "out_of_range", f"it must lie before the year {LAST_YEAR}")])
    return wanted


def require_valid(prices: Sequence[Price], currency: str, before: PriceBook | None) -> None:
    """Raises Invalid, naming each row that cannot be charged exactly, never would be, or is there twice."""
    errors = [*_currency_errors(currency, before), *row_errors(prices)]
    if errors:
        raise _invalid(errors)


def row_errors(prices: Sequence[Price]) -> Iterator[FieldError]:
    """What is wrong with rows, of a book or of a contract."""
    seen: dict[tuple[object, ...], int] = {}
    for n, price in enumerate(prices):
        yield from _row_errors(f"prices.{n}", price)
        first = seen.setdefault((price.meter, price.priced_line, *price.selectors), n)
        if first != n:
            message = f"rows {first} and {n} match the same usage, and neither is more specific"
            yield FieldError(f"prices.{n}", "duplicate_price", message)


def with_model_price(prices: Iterable[Price], model: str, price: ModelPrice | None) -> tuple[Price, ...]:
    """The rows with the model's own token prices replaced (None: taken out).

    Rows for the model that also name a SKU, a site or a class are the operator's, and stay.
    """
    kept = [row for row in prices if not _is_model_price(row, model)]
    if price is None:
        return tuple(kept)
    amounts = (price.prompt, price.prompt if price.cached is None else price.cached, price.completion)
    own = [
        Price(meter, MILLION, amount, model=model, charge_by=ChargeBy.TOKENS.value)
        for meter, amount in zip(TOKEN_METERS, amounts, strict=True)
    ]
    return (*kept, *own)


def _is_model_price(row: Price, model: str) -> bool:
    alone = replace(row, charge_by=None).selectors == (model, None, None, None, None)
    return alone and row.meter in TOKEN_METERS


def _currency_errors(currency: str, before: PriceBook | None) -> Iterator[FieldError]:
    if before is not None and currency != before.currency:
        message = (
            f"prices are in {before.currency}, and balances and budgets are kept in it; it cannot change to {currency}"
        )
        yield FieldError("currency", "currency_change", message)


def _row_errors(path: str, price: Price) -> Iterator[FieldError]:
    if price.line is not None and price.meter is not Meter.NODE_SECONDS_RESERVED:
        message = f"{price.meter} has no lines; {Meter.NODE_SECONDS_RESERVED} alone has"
        yield FieldError(f"{path}.line", "no_lines", message)
    try:
        free = price.atto == 0
    except ValueError as error:
        yield FieldError(f"{path}.unit_price", "not_exact", f"{error}; exact are {_nearest(price)}")
        return
    if free:
        return
    family = price.meter.family
    if family is MeterFamily.NEVER:
        yield FieldError(f"{path}.unit_price", "never_charged", f"{price.meter} never carries money")
    elif price.charge_by is not None and not carries_money(price.meter, price.charge_by):
        message = f"{price.meter} carries no money where charge_by is {price.charge_by}; it does with {family}"
        yield FieldError(f"{path}.charge_by", "never_charged", message)


def _nearest(price: Price) -> str:
    """The exact prices around one that is not, so that nobody has to look for them."""
    below = int(price.unit_price * ATTO) // price.unit_quantity
    exact = (Decimal(f"{atto * price.unit_quantity}E-18") for atto in (below, below + 1))
    return " and ".join(map(plain, exact))


def _invalid(errors: list[FieldError], suggestion: str = "") -> Invalid:
    code = errors[0].code if len(errors) == 1 else "invalid_prices"
    return Invalid("; ".join(error.message for error in errors[:3]), code=code, errors=errors, suggestion=suggestion)
