"""Numbers, amounts and times as people read them. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import chain

from skerry.client.answers.base import Money

FEWEST_DECIMALS = 2
MOST_DECIMALS = 9


def plain(value: Decimal) -> str:
    """All of it, without an exponent or superfluous zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def money(value: Money | None) -> str:
    return "" if value is None else f"{plain(value.amount)} {value.currency}".rstrip()


def decimals_for(amounts: Iterable[Decimal]) -> int:
    """Decimals that show all amounts of a column, so that they align: at least 2, at most 9."""
    needed = (-_exponent(amount) for amount in amounts)
    return min(MOST_DECIMALS, max(chain((FEWEST_DECIMALS,), needed)))


def aligned(amount: Decimal, decimals: int) -> str:
    return f"{amount.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_EVEN):,f}"


def grouped(amount: Decimal, decimals: int | None = None) -> str:
    """With commas, and all its decimals but at least two; or rounded to so many."""
    return aligned(amount, decimals_for([amount]) if decimals is None else decimals)


def when(time: datetime | None) -> str:
    """UTC to the second."""
    return "" if time is None else time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def hour(time: datetime) -> str:
    """UTC to the minute; a whole day without its midnight."""
    utc = time.astimezone(UTC)
    return utc.strftime("%Y-%m-%d" if (utc.hour, utc.minute) == (0, 0) else "%Y-%m-%d %H:%M")


def size(value: int) -> str:
    """Bytes as people read them."""
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:,.0f} {unit}" if unit == "B" else f"{amount:,.1f} {unit}"
        amount /= 1024
    return f"{amount:,.1f} TiB"


def milliseconds(value: float | None) -> str:
    """Nothing where there is none."""
    if not value:
        return ""
    return f"{value / 1000:,.2f} s" if value >= 1000 else f"{value:,.0f} ms"


def energy(milliwatt_hours: int) -> str:
    if milliwatt_hours >= 1_000_000:
        return f"{milliwatt_hours / 1_000_000:,.3f} kWh"
    return f"{milliwatt_hours / 1000:,.3f} Wh"


def carbon(milligrams: int) -> str:
    if milligrams >= 1_000_000:
        return f"{milligrams / 1_000_000:,.3f} kg"
    return f"{milligrams / 1000:,.3f} g"


def _exponent(amount: Decimal) -> int:
    exponent = amount.normalize().as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0
