"""How a search is worded, and what a request's id looks like (pure)."""

import re
from datetime import UTC, datetime
from uuid import UUID

from skerry.inference.requests.model import IdRange, Search, StatusRange
from skerry.kernel.errors import FieldError, Invalid

_STATUS = re.compile(r"([1-5])(?:xx|([0-9]{2}))")
_HEX = re.compile(r"[0-9a-f]{1,32}")
_MAX_MS = 10**12


def search(
    *,
    model: str | None = None,
    key: str | None = None,
    status: str | None = None,
    batch: str | None = None,
    start: str | None = None,
    end: str | None = None,
    min_ms: int | None = None,
    q: str | None = None,
) -> Search:
    """Raises Invalid for a status that is none and times that are none."""
    since, until = _time(start, "from"), _time(end, "to")
    if since is not None and until is not None and until <= since:
        raise _bad("to", "the window ends before it begins")
    if min_ms is not None and not 0 <= min_ms <= _MAX_MS:
        raise _bad("min_ms", f"it must be between 0 and {_MAX_MS}")
    for name, text in (("model", model), ("key", key), ("batch", batch), ("q", q)):
        if text is not None and "\x00" in text:
            raise _bad(name, "a NUL is in no name")
    return Search(
        model=model or None,
        key=key or None,
        status=_status(status) if status else None,
        batch=batch or None,
        since=since,
        until=until,
        min_us=None if min_ms is None else min_ms * 1000,
        q=(q or "").strip() or None,
    )


def request_id(text: str) -> UUID | None:
    """The id behind an `x-request-id`, with or without dashes; None where it is none."""
    plain = text.replace("-", "").lower()
    return UUID(hex=plain) if len(plain) == 32 and _HEX.fullmatch(plain) else None


def ids_beginning(text: str) -> IdRange | None:
    """The ids whose hex begins like this; None where none can."""
    plain = text.replace("-", "").lower()
    if not _HEX.fullmatch(plain):
        return None
    return IdRange(UUID(hex=plain.ljust(32, "0")), UUID(hex=plain.ljust(32, "f")))


def _status(text: str) -> StatusRange:
    match = _STATUS.fullmatch(text)
    if match is None:
        raise _bad("status", f"{text!r} is no status such as 200, and no class such as 5xx")
    if match[2] is None:
        first = int(match[1]) * 100
        return StatusRange(first, first + 99)
    return StatusRange(int(text), int(text))


def _time(text: str | None, field: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _bad(field, f"{text!r} is neither an RFC 3339 time nor a date") from None


def _bad(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", errors=[FieldError(field, "invalid", message)])
