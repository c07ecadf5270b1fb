"""A journal record as the spans of a trace (pure): nothing is measured for traces that was not recorded anyway.

chat MODEL                  admission → record
├─ queue                    waited for a replica
└─ replica                  sent to the replica → record
   ├─ first_token           … → first byte of the answer
   └─ stream                first byte → record
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from skerry.runtime.journal.records import AnswerRecord

_TRACEPARENT: Final = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_LOW_BITS: Final = 56
"""Of a trace's id, which are random (W3C Trace Context, level 2)."""

Value = str | int | bool


@dataclass(frozen=True, slots=True)
class Parent:
    """What a client's `traceparent` says."""

    trace: int
    span: int
    sampled: bool


@dataclass(frozen=True, slots=True)
class Span:
    """Times are Unix nanoseconds; `parent` None: a root."""

    name: str
    trace: int
    id: int
    parent: int | None
    start: int
    end: int
    attributes: Mapping[str, Value]
    failed: bool = False
    remote_parent: bool = False
    """Whether the parent is the client's."""
    server: bool = False
    """Whether it is the answer to somebody's request."""


def parent_of(traceparent: str) -> Parent | None:
    """None for what is no valid header: the trace then begins here."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (match[1] == "00" and match[5] is not None):
        return None
    trace, span = int(match[2], 16), int(match[3], 16)
    return Parent(trace, span, bool(int(match[4], 16) & 1)) if trace and span else None


def is_sampled(record: AnswerRecord, share: float) -> bool:
    """The client's word where it gave one; else `share` (0 to 1) of all, the same ones wherever it is asked."""
    parent = parent_of(record.trace) if record.trace else None
    if parent is not None:
        return parent.sampled
    return int.from_bytes(record.id) % (1 << _LOW_BITS) < share * (1 << _LOW_BITS)


def spans_of(record: AnswerRecord) -> list[Span]:
    """Parents first. Ids derive from the record's: a batch that is exported twice shows once."""
    parent = parent_of(record.trace) if record.trace else None
    trace = parent.trace if parent else int.from_bytes(record.id)
    begin, end = record.t0, max(record.t0, record.t1)
    sent = min(begin + max(record.queue_us, 0), end)
    first = min(max(begin + record.first_us, sent), end) if record.first_us > 0 else None
    failed = record.status >= 500

    def span(name: str, above: int, start: int, stop: int, **attributes: Value) -> Span:
        return Span(name, trace, _id(record, name), above, start * 1000, stop * 1000, attributes, failed)

    root = Span(
        f"{record.kind} {record.model}", trace, _id(record, "root"), parent.span if parent else None,
        begin * 1000, end * 1000, _about(record), failed, remote_parent=parent is not None, server=True,
    )  # fmt: skip
    spans = [root]
    if sent > begin:
        spans.append(span("queue", root.id, begin, sent))
    replica = span("replica", root.id, sent, end, **{"skerry.replica": record.replica})
    spans.append(replica)
    if first is not None:
        spans.append(span("first_token", replica.id, sent, first))
        if record.stream:
            spans.append(span("stream", replica.id, first, end, **{"gen_ai.usage.output_tokens": record.completion}))
    return spans


def _about(record: AnswerRecord) -> dict[str, Value]:
    """By OpenTelemetry's names where it has some (semantic conventions for generative AI)."""
    about: dict[str, Value] = {
        "gen_ai.operation.name": {"completion": "text_completion", "embedding": "embeddings"}.get(
            record.kind, record.kind
        ),
        "gen_ai.request.model": record.model,
        "gen_ai.usage.input_tokens": record.prompt + record.cached,
        "gen_ai.usage.output_tokens": record.completion,
        "http.response.status_code": record.status,
        "skerry.request_id": record.id.hex(),
        "skerry.project": record.project,
        "skerry.key": record.key,
        "skerry.endpoint": record.endpoint,
        "skerry.cached_tokens": record.cached,
        "skerry.stream": record.stream,
    }
    if record.batch:
        about["skerry.batch"] = record.batch
    return about


def _id(record: AnswerRecord, name: str) -> int:
    digest = blake2b(record.id + name.encode(), digest_size=8).digest()
    return int.from_bytes(digest) or 1
