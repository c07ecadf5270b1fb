"""Words of the file become values. Each reader returns the value, or raises ValueError that says what would do."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final

from skerry.fleet.file.tree import List, Map, Tree, Word
from skerry.fleet.model import Milestone, MilestoneDates
from skerry.fleet.rules.carbon import HOURS
from skerry.kernel.money import Money, parse_amount, plain

Read = Callable[[Tree], Any]

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1
_BYTES: Final = re.compile(r"(\d{1,18})\s*(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?")
_SIZES: Final = {
    None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip
_IDS: Final = ("site_", "hall_", "leaf_", "sku_", "node_", "dlv_", "mnt_")


def name(tree: Tree) -> str:
    text = _word(tree)
    if not NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a name: letters, digits and . _ - within, at most 63")
    if text.startswith(_IDS):
        raise ValueError(f"{text!r} looks like an id; choose another name")
    return text


def words(most: int) -> Read:
    def read(tree: Tree) -> str:
        text = _word(tree).strip()
        if not text or len(text) > most or not text.isprintable():
            raise ValueError(f"it takes 1 to {most} printable characters")
        return text

    return read


def country(tree: Tree) -> str:
    text = _word(tree)
    if not re.fullmatch(r"[A-Z]{2}", text):
        raise ValueError(f"{text!r} is not a country: two capital letters, such as NO (ISO 3166-1)")
    return text


def whole(least: int, most: int = INT_MAX) -> Read:
    def read(tree: Tree) -> int:
        text = _word(tree)
        if not re.fullmatch(r"[+-]?\d{1,19}", text):
            raise ValueError(f"{text!r} is not a whole number")
        if not least <= int(text) <= most:
            raise ValueError(f"{text} is {'less than ' + str(least) if int(text) < least else 'too large'}")
        return int(text)

    return read


def number(least: str, most: str = "1000000000", *, above: bool = False) -> Read:
    """A decimal from `least` on (`above`: only above it)."""

    def read(tree: Tree) -> Decimal:
        text = _word(tree)
        try:
            value = parse_amount(text)
        except ValueError as error:
            raise ValueError(f"{text!r} is not a number") from error
        if value < Decimal(least) or (above and value == Decimal(least)):
            raise ValueError(f"{text} must be {'more than' if above else 'at least'} {least}")
        if value > Decimal(most) or len(text) > 30:
            raise ValueError(f"{text} must be at most {most}")
        return value

    return read


def size(tree: Tree) -> int:
    """Bytes: `2048GiB`, `80GB`, or a bare number."""
    text = _word(tree)
    match = _BYTES.fullmatch(text)
    value = int(match[1]) * _SIZES[match[2]] if match else 0
    if not 0 < value <= LONG_MAX:
        raise ValueError(f"{text!r} is not an amount of memory: it takes forms like 2048GiB")
    return value


def truth(tree: Tree) -> bool:
    text = _word(tree)
    if text.lower() not in ("true", "false", "yes", "no"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "yes")


def one_of(*choices: str) -> Read:
    def read(tree: Tree) -> str:
        text = _word(tree)
        if text not in choices:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}")
        return text

    return read


def moment(tree: Tree) -> datetime:
    """A date, which is its midnight, or a time to the second; UTC unless it says otherwise."""
    text = _word(tree)
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        parsed = datetime.fromisoformat(text)
        parsed = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a time: it takes forms like 2027-01-31 or 2027-01-31T12:00Z") from error
    if parsed.microsecond:
        raise ValueError(f"{text} has parts of a second")
    return parsed


def price(tree: Tree) -> Money:
    """`{amount: "0.08", currency: EUR}`, for a kilowatt-hour."""
    if not isinstance(tree, Map) or set(tree.items) != {"amount", "currency"}:
        raise ValueError('it takes the form {amount: "0.08", currency: EUR}')
    value: Decimal = number("0")(tree.items["amount"])
    return Money(value, _word(tree.items["currency"]))


def carbon(tree: Tree) -> dict[str, Any]:
    """`{g_per_kwh: 30}` or `{hourly: [24 numbers]}`; kept as decimal strings."""
    grams = number("0", "5000")
    if isinstance(tree, Map) and set(tree.items) == {"g_per_kwh"}:
        return {"g_per_kwh": plain(grams(tree.items["g_per_kwh"]))}
    if isinstance(tree, Map) and set(tree.items) == {"hourly"}:
        hourly = tree.items["hourly"]
        if isinstance(hourly, List) and len(hourly.items) == HOURS:
            return {"hourly": [plain(grams(hour)) for hour in hourly.items]}
        raise ValueError(f"hourly takes {HOURS} numbers, from midnight UTC on")
    raise ValueError("it takes {g_per_kwh: 30} or {hourly: [24 numbers]}")


def counts(tree: Tree) -> dict[str, int]:
    """Nodes by leaf: `{no-a-5: 32, no-a-6: 32}`."""
    if not isinstance(tree, Map) or not tree.items:
        raise ValueError("it takes leaves with their nodes, such as {no-a-5: 32}")
    at_least_one = whole(1)
    found: dict[str, int] = {}
    for leaf, nodes in tree.items.items():
        try:
            found[name(Word(leaf, tree.line))] = at_least_one(nodes)
        except ValueError as error:
            raise ValueError(f"{leaf}: {error}") from error
    return found


def milestones(tree: Tree) -> dict[Milestone, MilestoneDates]:
    """`{ordered: {reached: 2026-10-01}, delivered: 2027-01-10}`: a bare date is a plan."""
    if not isinstance(tree, Map):
        raise ValueError(f"it takes dates by milestone: {', '.join(Milestone)}")
    found: dict[Milestone, MilestoneDates] = {}
    for key, value in tree.items.items():
        if key not in set(Milestone):
            raise ValueError(f"{key!r} is none of {', '.join(Milestone)}")
        if isinstance(value, Map):
            if not set(value.items) <= {"planned", "reached"}:
                raise ValueError(f"{key} takes planned and reached")
            dates = {name: moment(when) for name, when in value.items.items()}
            found[Milestone(key)] = MilestoneDates(dates.get("planned"), dates.get("reached"))
        else:
            found[Milestone(key)] = MilestoneDates(planned=moment(value))
    return found


def _word(tree: Tree) -> str:
    if not isinstance(tree, Word):
        raise ValueError("a single value belongs here")
    if tree.empty:
        raise ValueError("it has no value")
    return tree.text
