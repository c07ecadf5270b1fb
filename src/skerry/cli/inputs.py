"""What users type: times, lengths of time, amounts of money. Pure; a mistake is a Failure that says what would do."""

import re
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from skerry.cli.failures import wrong_use

UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
LENGTH = re.compile(r"(\d{1,6})([smhdw])")
AMOUNT = re.compile(r"(?P<before>[A-Z]{3})?\s*(?P<number>\d+(\.\d+)?)\s*(?P<after>[A-Z]{3})?")


def past(text: str, now: datetime, option: str) -> datetime:
    """As `moment`, but `7d` ago begins at the full hour, as usage is counted."""
    found = moment(text, now, option)
    return found if _length(text) is None else found.replace(minute=0, second=0, microsecond=0)


def moment(text: str, now: datetime, option: str) -> datetime:
    """A time that was: ISO, `now`, `today`, `yesterday`, or `15m` for a quarter of an hour ago."""
    days = {"today": 0, "yesterday": 1}
    if text in days:
        return datetime.combine(now.astimezone(UTC).date(), time(), UTC) - timedelta(days=days[text])
    if text == "now":
        return now
    ago = _length(text)
    if ago is None:
        return _iso(text, option, "2026-01-31, 2026-01-31T12:00Z, today, yesterday, 12h or 7d")
    return _moved(now, -ago, option)


def future(text: str, now: datetime, option: str) -> datetime:
    """A time to come: ISO, or `30d` for in thirty days. Whole seconds."""
    ahead = _length(text)
    if ahead is None:
        return _iso(text, option, "2026-12-31, 2026-12-31T12:00Z, 12h or 30d")
    return _moved(now, ahead, option).replace(microsecond=0)


def seconds(text: str, option: str) -> int:
    """A length of time such as `30m` or `1h`; a bare number is seconds."""
    length = timedelta(seconds=int(text)) if re.fullmatch(r"\d{1,9}", text) else _length(text)
    if length is None:
        raise wrong_use(f"{option}: {text!r} is not a length of time.", "It takes forms like 30m, 1h or 7d.")
    return int(length.total_seconds())


def amount(text: str, option: str) -> tuple[Decimal, str | None]:
    """An amount and its currency, if one is given: `12.34`, `12.34EUR`, `EUR 12.34`."""
    match = AMOUNT.fullmatch(text.strip())
    if match is None or (match["before"] and match["after"]):
        raise wrong_use(f"{option}: {text!r} is not an amount.", "It takes forms like 12.34 or 12.34EUR.")
    return Decimal(match["number"]), match["before"] or match["after"]


def price(text: str | None, option: str) -> str | None:
    """A price per million tokens, kept as it was written."""
    if text is not None and not re.fullmatch(r"\d+(\.\d+)?", text):
        raise wrong_use(f"{option}: {text!r} is not a price.", "It takes a decimal number, per million tokens.")
    return text


def share(text: str, option: str) -> Decimal:
    """A share of a budget: `0.8` or `80%`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text)
    value = Decimal(match[1]) / (100 if match[2] else 1) if match else Decimal(0)
    if not 0 < value <= 1:
        raise wrong_use(f"{option}: {text!r} is not a share of the limit.", "It takes forms like 80% or 0.8.")
    return value


def limit(text: str, option: str) -> int | None:
    """A number of at least one; None for `none`, which lifts the limit."""
    if text == "none":
        return None
    if not re.fullmatch(r"[1-9]\d{0,17}", text):
        raise wrong_use(f"{option}: {text!r} is not a limit.", "It takes a number, or none to lift it.")
    return int(text)


def pairs(values: list[str], option: str) -> dict[str, str]:
    """`name=value`, several times."""
    found = {}
    for value in values:
        name, equals, content = value.partition("=")
        if not name or not equals:
            raise wrong_use(f"{option}: {value!r} is not a pair.", "It takes the form name=value.")
        found[name] = content
    return found


def weighted(text: str, option: str) -> tuple[str, int | None]:
    """An address, and its weight where one follows: `https://a.example/v1=95`."""
    url, equals, weight = text.rpartition("=")
    if not equals or not weight.isdecimal() or "?" in url:
        return text, None
    if len(weight) > 6:
        raise wrong_use(f"{option}: {weight} is too large for a weight.")
    return url, int(weight)


def words(values: list[str]) -> list[str]:
    """Options given several times, or with commas between."""
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _length(text: str) -> timedelta | None:
    match = LENGTH.fullmatch(text)
    return int(match[1]) * UNITS[match[2]] if match else None


def _moved(now: datetime, by: timedelta, option: str) -> datetime:
    try:
        return now + by
    except OverflowError as error:
        raise wrong_use(f"{option}: that is too far away.") from error


def _iso(text: str, option: str, forms: str) -> datetime:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise wrong_use(
            f"{option}: {text!r} is not a time.", f"It takes forms like {forms}; UTC unless said."
        ) from error
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
