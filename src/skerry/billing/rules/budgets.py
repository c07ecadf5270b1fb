"""What is accepted as a limit and as shares to alert at."""

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal, localcontext

from skerry.kernel.errors import FieldError, Invalid
from skerry.kernel.money import Money

ALERTS_MAX = 20


def limit_to_nano(limit: Money, currency: str, path: str) -> int:
    """Raises Invalid for another currency, a negative amount, and one too fine or too large for a balance."""
    if limit.currency != currency:
        raise _invalid(f"{path}.currency", "other_currency", f"balances are kept in {currency}, not {limit.currency}")
    if limit.amount < 0:
        raise _invalid(f"{path}.amount", "negative", "a limit cannot be negative")
    try:
        return limit.to_nano()
    except ValueError as error:
        raise _invalid(f"{path}.amount", "out_of_range", str(error)) from error


def checked_shares(shares: Sequence[Decimal]) -> tuple[Decimal, ...]:
    """Shares of the limit in ascending order, each once. Raises Invalid for what is none."""
    if len(shares) > ALERTS_MAX:
        raise _invalid("alert_at", "too_many", f"there can be {ALERTS_MAX} alerts at most")
    for n, share in enumerate(shares):
        if not (share.is_finite() and 0 < share <= 1):
            message = "alert_at holds shares of the limit: 0.8 is an event at 80 %; each lies above 0 and up to 1"
            raise _invalid(f"alert_at.{n}", "out_of_range", message)
    return tuple(sorted({share.normalize() for share in shares}))


def nano_ceil(amount: Decimal) -> int:
    """Nano-units that cover an amount."""
    with localcontext(prec=200):
        return int(amount.scaleb(9).to_integral_value(ROUND_CEILING))


def _invalid(path: str, code: str, message: str) -> Invalid:
    return Invalid(message, code=code, errors=[FieldError(path, code, message)])
