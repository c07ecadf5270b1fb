"""Records as rows of a binary COPY. Packed by hand: one call for all numbers of a row, texts that repeat made once."""

from collections.abc import Iterable
from struct import Struct
from typing import Final

from skerry.runtime.journal.records import AnswerRecord, ContentRecord

ANSWER_COLUMNS: Final = (
    "id, ended_at, status, stream, prompt, cached, completion, egress_bytes, queue_us, first_us, total_us, cost_nano, "
    "project, key, model, endpoint, replica, kind, batch, counted"
)
CONTENT_COLUMNS: Final = "id, at, project, sealed"

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_EPOCH_US: Final = 946_684_800_000_000
"""2000-01-01, from which PostgreSQL counts."""
_MOST: Final = 2**63 - 1
_NUMBERS: Final = Struct(">h i16s iq ih i? iq iq iq iq iq iq iq iq".replace(" ", ""))
_CONTENT: Final = Struct(">h i16s iq".replace(" ", ""))
_LENGTH: Final = Struct(">i")


def answer_rows(records: Iterable[AnswerRecord]) -> bytes:
    """Everything COPY wants to read. Numbers that are out of this world become its edge."""
    known: dict[tuple[str, ...], bytes] = {}
    parts = [_HEADER]
    for r in records:
        same = (r.project, r.key, r.model, r.endpoint, r.replica, r.kind, r.batch, r.counted)
        words = known.get(same)
        if words is None:
            words = known[same] = b"".join([_text(value) for value in same])
        total = r.t1 - r.t0
        parts.append(
            _NUMBERS.pack(
                20, 16, r.id, 8, r.t1 - _EPOCH_US, 2, r.status, 1, r.stream,
                8, r.prompt if r.prompt < _MOST else _MOST, 8, r.cached if r.cached < _MOST else _MOST,
                8, r.completion if r.completion < _MOST else _MOST,
                8, r.egress_bytes if r.egress_bytes < _MOST else _MOST,
                8, r.queue_us, 8, r.first_us, 8, total if total > 0 else 0, 8, r.cost_nano,
            )
        )  # fmt: skip
        parts.append(words)
    parts.append(_TRAILER)
    return b"".join(parts)


def content_rows(records: Iterable[ContentRecord]) -> bytes:
    parts = [_HEADER]
    for r in records:
        parts += (_CONTENT.pack(4, 16, r.id, 8, r.at - _EPOCH_US), _text(r.project))
        parts += (_LENGTH.pack(len(r.sealed)), r.sealed)
    parts.append(_TRAILER)
    return b"".join(parts)


def _text(value: str) -> bytes:
    """With its length. PostgreSQL's text has no NUL."""
    data = value.replace("\x00", "\ufffd").encode("utf-8", "replace")
    return _LENGTH.pack(len(data)) + data
