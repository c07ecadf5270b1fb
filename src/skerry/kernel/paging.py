"""Pages of a list: `{"data": […], "has_more": bool, "next_cursor": str | null}`."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from skerry.kernel.errors import FieldError, Malformed

T = TypeVar("T")
U = TypeVar("U")

DEFAULT_LIMIT = 100
MAX_LIMIT = 500


@dataclass(frozen=True, slots=True)
class PageRequest:
    """`after` is the sort key of the last row the caller has seen, as the store encoded it."""

    limit: int = DEFAULT_LIMIT
    after: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> "PageRequest":
        """Raises Malformed for a limit outside 1..500 and for a cursor that was not ours."""
        if not 1 <= limit <= MAX_LIMIT:
            message = f"limit must be between 1 and {MAX_LIMIT}"
            raise Malformed(message, errors=[FieldError("limit", "out_of_range", message)])
        return cls(limit, decode_cursor(cursor) if cursor else None)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    data: tuple[T, ...]
    next_cursor: str | None = None

    @property
    def has_more(self) -> bool:
        return self.next_cursor is not None

    @classmethod
    def cut(cls, rows: Sequence[T], request: PageRequest, key: Callable[[T], tuple[str, ...]]) -> "Page[T]":
        """A page from up to `limit + 1` rows: the one too many says that there is more."""
        kept = tuple(rows[: request.limit])
        more = len(rows) > request.limit
        return cls(kept, encode_cursor(key(kept[-1])) if more else None)

    def map(self, change: Callable[[T], U]) -> "Page[U]":
        return Page(tuple(change(row) for row in self.data), self.next_cursor)


def encode_cursor(key: tuple[str, ...]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[str, ...]:
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if isinstance(key, list) and all(isinstance(part, str) and "\x00" not in part for part in key):
            return tuple(key)
    except (ValueError, binascii.Error, UnicodeError, RecursionError):
        pass
    message = "after is not a cursor of this list: pass the next_cursor of the page before"
    raise Malformed(message, errors=[FieldError("after", "bad_cursor", message)])
