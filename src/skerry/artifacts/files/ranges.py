"""`Range: bytes=…` of RFC 9110 §14: one range; anything else is answered with the whole."""

import re
from typing import Final

_ONE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class Unsatisfiable(ValueError):
    """The range lies outside the content."""


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """`[start, stop)`; None: send all of it. Raises Unsatisfiable."""
    match = _ONE.fullmatch((header or "").strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        suffix = int(last)
        if suffix == 0 or size == 0:
            raise Unsatisfiable
        return max(0, size - suffix), size
    start = int(first)
    if last and int(last) < start:
        return None  # not a range at all: to be ignored
    if start >= size:
        raise Unsatisfiable
    return start, min(int(last) + 1, size) if last else size
