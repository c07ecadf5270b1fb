"""Numbers in what a program prints: a line that is a JSON object with a step and numbers."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

LONGEST_LINE: Final = 1 << 14
_STEP_KEYS: Final = ("step", "global_step", "iteration", "iter")
_LONGEST_NAME: Final = 128
_MOST: Final = 64
_LAST_STEP: Final = 1 << 53


@dataclass(frozen=True, slots=True)
class Printed:
    """`values`: a value is None where it is not a number or infinite."""

    step: int
    values: Mapping[str, float | None]


def parse(line: str) -> Printed | None:
    """None: it is text. `{"step": 3, "loss": 1.5, "eval": {"loss": 1.7}}` has `loss` and `eval/loss`."""
    text = line.strip()
    if not (text.startswith("{") and text.endswith("}")) or len(text) > LONGEST_LINE:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    key = next((key for key in _STEP_KEYS if key in found), None)
    step = found.pop(key) if key else None
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step <= _LAST_STEP:
        return None
    values: dict[str, float | None] = {}
    for name, value in _numbers(found):
        if len(values) == _MOST:
            break
        values[name[:_LONGEST_NAME]] = finite(value)
    return Printed(step, values)


def finite(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _numbers(found: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in found.items():
        if isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            yield prefix + name, value
        elif isinstance(value, dict) and not prefix:
            yield from _numbers(value, f"{name}/")
