"""Money without floats.

Three forms, each for its own place (DESIGN §5 Money): invoiced money is integer minor units, charges and unit prices
are `Decimal`, balances and budgets are int64 *nano-units* (10⁻⁹ of the currency). The gateway computes with integer
*atto-units* (10⁻¹⁸), in which every unit price that is accepted is a whole number, so that the cost on an answer and
the charge made from its usage are the same number.
"""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation, localcontext

EXACT = 200
"""Digits of sums: more than any amount has, so that nothing is ever rounded."""
NANO = 10**9
ATTO = 10**18
NANO_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount in one currency (ISO 4217 code). Amounts of two currencies do not add."""

    amount: Decimal
    currency: str

    def __post_init__(self) -> None:
        if not self.amount.is_finite():
            raise ValueError(f"{self.amount} is not an amount of money")
        if len(self.currency) != 3 or not self.currency.isalpha() or not self.currency.isupper():
            raise ValueError(f"{self.currency!r} is not an ISO 4217 currency code")

    def __add__(self, other: "Money") -> "Money":
        with localcontext(prec=EXACT):
            return Money(self.amount + self._same_currency(other).amount, self.currency)

    def __sub__(self, other: "Money") -> "Money":
        with localcontext(prec=EXACT):
            return Money(self.amount - self._same_currency(other).amount, self.currency)

    def to_nano(self) -> int:
        return nano_from_decimal(self.amount)

    def _same_currency(self, other: "Money") -> "Money":
        if other.currency != self.currency:
            raise ValueError(f"cannot combine {self.currency} with {other.currency}")
        return other


def parse_amount(text: str) -> Decimal:
    """A plain decimal string such as `12.34`. Raises ValueError for anything else, exponents and NaN included."""
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is not a decimal number") from error
    if not value.is_finite() or not set(text) <= set("+-0123456789."):
        raise ValueError(f"{text!r} is not a plain decimal number")
    return value


def plain(value: Decimal) -> str:
    """A decimal without exponent and without superfluous zeros: `0.00001`, `12.5`, `0`."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def nano_from_decimal(amount: Decimal) -> int:
    """Nano-units of an amount. Raises ValueError where it is finer than 10⁻⁹ or does not fit an int64."""
    with localcontext(prec=EXACT):
        scaled = amount.scaleb(9)
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{plain(amount)} is finer than a nano-unit (10⁻⁹)")
    if abs(scaled) > NANO_MAX:
        raise ValueError(f"{plain(amount)} is too large for a balance")
    return int(scaled)


def decimal_from_nano(nano: int) -> Decimal:
    return Decimal(f"{nano}E-9")


def unit_price_to_atto(unit_price: Decimal, unit_quantity: int) -> int:
    """Atto-units of one base unit (one token, one second …).

    Raises ValueError where the price of one base unit is not a whole number of atto-units, since it could then not be
    charged exactly.
    """
    if unit_quantity <= 0:
        raise ValueError("unit_quantity must be positive")
    numerator, denominator = (unit_price * ATTO).as_integer_ratio()
    atto, rest = divmod(numerator, denominator * unit_quantity)
    if rest:
        raise ValueError(f"{plain(unit_price)} per {unit_quantity} is finer than 10⁻¹⁸ a unit")
    return atto


def decimal_from_atto(atto: int) -> Decimal:
    return Decimal(f"{atto}E-18")  # from a text, since arithmetic would round to the context's digits


def atto_to_nano_ceil(atto: int) -> int:
    """Nano-units that cover an amount: budgets round each request up, by less than 10⁻⁹."""
    return -(-atto // NANO)
