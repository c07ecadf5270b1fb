"""Decisions of batches: what a line may be, what an answer means, what the files say. Values in, values out."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import msgspec

from skerry.inference.batches.model import (
    MAX_LINE_BYTES,
    MAX_ROWS,
    Batch,
    BatchStatus,
    Endpoint,
    FileError,
    ReasonCode,
    Result,
    Row,
    RowErrorCode,
    Usage,
)
from skerry.kernel.ids import BatchId, derived_uuid7, format_id

LONGEST_ERRORS: Final = 100
"""Errors that a failed batch shows; more would help nobody."""
MAX_FAULTS: Final = 8
"""Times a row may break a connection or a replica: beyond, it is taken to be the row's own doing."""
MAX_CUSTOM_ID: Final = 512
_WINDOW = re.compile(r"([1-9]\d{0,2})h")
_LONGEST_WINDOW: Final = 168
_FAULTS: Final = frozenset({"replica_failed", "bad_answer", "answer_too_large"})
"""503s that say something of the answer rather than of how busy we are."""


class _Line(msgspec.Struct):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Body(msgspec.Struct):
    model: str
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = 0


class _Tokens(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Said(msgspec.Struct):
    usage: _Tokens | None = None


class _Refusal(msgspec.Struct):
    code: str | None = None


class _Refused(msgspec.Struct):
    error: _Refusal


class BadLine(ValueError):
    """A line that is no request; `error` says why."""

    def __init__(self, error: FileError) -> None:
        super().__init__(error.message)
        self.error = error


def window_of(text: str) -> timedelta | None:
    """`24h` and the like, up to a week; None for anything else."""
    match = _WINDOW.fullmatch(text)
    hours = int(match[1]) if match else 0
    return timedelta(hours=hours) if 1 <= hours <= _LONGEST_WINDOW else None


def record_id(batch: BatchId, created_at: datetime, line: int) -> UUID:
    """Of the usage record of a row: the same however often it is sent, so that it is counted once.

    A UUIDv7 as any gateway's own, of the moment at which the batch was created.
    """
    return derived_uuid7(int(created_at.timestamp() * 1000), "batch_row", batch, str(line))


# The input file


def parse_line(number: int, line: bytes, endpoint: Endpoint | None = None) -> Row:
    """The request in a line. Raises BadLine. Without `endpoint` any that there is will do."""
    if len(line) > MAX_LINE_BYTES:
        raise _bad(number, "line_too_long", f"it is longer than {MAX_LINE_BYTES} bytes.")
    try:
        given = msgspec.json.decode(line, type=_Line)
        body = msgspec.json.decode(given.body, type=_Body)
    except msgspec.ValidationError as error:
        raise _bad(number, "invalid_request", f"{error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(number, "invalid_json_line", f"it is not JSON: {error}.") from None
    if not 1 <= len(given.custom_id) <= MAX_CUSTOM_ID:
        raise _bad(number, "invalid_custom_id", f"custom_id must have 1 to {MAX_CUSTOM_ID} characters.",
                   "custom_id")  # fmt: skip
    if given.method != "POST":
        raise _bad(number, "invalid_method", "method can only be POST.", "method")
    allowed = [endpoint] if endpoint is not None else list(Endpoint)
    if given.url not in allowed:
        words = f"url is {given.url[:100]!r}, and can only be {' or '.join(allowed)}."
        raise _bad(number, "mismatched_endpoint", words, "url")
    if not body.model:
        raise _bad(number, "missing_model", "body.model is empty.", "body.model")
    if body.stream:
        raise _bad(number, "stream_not_supported", "rows of a batch are not streamed.", "body.stream")
    return Row(number, given.custom_id, body.model, bytes(given.body))


class InputCheck:
    """Reads a file line by line and remembers what is wrong with it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.rows = 0
        self.errors: list[FileError] = []
        # Digests of custom_ids: 50,000 of the ids themselves could be 25 MB.
        self._seen: dict[bytes, int] = {}

    @property
    def enough(self) -> bool:
        """Nothing that follows would change the verdict."""
        return len(self.errors) >= LONGEST_ERRORS or self.rows > MAX_ROWS

    def line(self, number: int, line: bytes) -> Row | None:
        """A row, if the line is one. Empty lines are nothing."""
        if not line.strip():
            return None
        self.rows += 1
        try:
            row = parse_line(number, line, self.endpoint)
        except BadLine as bad:
            self.errors.append(bad.error)
            return None
        first = self._seen.setdefault(custom_id_digest(row.custom_id), number)
        if first != number:
            words = f"custom_id {row.custom_id[:100]!r} is that of line {first} too."
            self.errors.append(FileError("duplicate_custom_id", words, number, "custom_id"))
            return None
        return row

    def verdict(self) -> tuple[FileError, ...]:
        """All that is wrong; empty: it can be run."""
        if self.rows > MAX_ROWS:
            return (FileError("too_many_rows", f"The file has more than {MAX_ROWS} rows: split it."),)
        if not self.rows:
            return (FileError("empty_file", "The file has no rows."),)
        return tuple(self.errors)


def custom_id_digest(custom_id: str) -> bytes:
    return blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def ceiling(row: Row, context: int, overhead: int) -> tuple[int, int]:
    """Upper bounds (prompt, completion) of the tokens a row can use, as a gateway reserves them."""
    body = msgspec.json.decode(row.body, type=_Body)
    asked = body.max_completion_tokens or body.max_tokens
    times = max(body.n or 1, body.best_of or 1, 1)
    return min(context, len(row.body) + overhead), min(asked or context, context) * times


# What an answer means


@dataclass(frozen=True, slots=True)
class Answer:
    """What a gateway said. `cost`: of `x-skerry-cost`; `after`: of Retry-After; `waited`: it stood in the queue."""

    status: int
    body: bytes
    request_id: str = ""
    cost: Decimal = Decimal(0)
    after: float | None = None
    waited: bool = False


class Verdict(StrEnum):
    """What to do about an answer."""

    KEEP = "keep"
    """It is the row's result."""
    BUSY = "busy"
    """Not now: send it again later, and less at once."""
    FAULT = "fault"
    """Something broke: send it again a few times."""


def judge(answer: Answer, *, alone: bool) -> Verdict:
    """`alone`: no other row of the batch was under way, so that none of them can hold what this one lacks."""
    if answer.status == 429:
        return Verdict.BUSY
    if answer.status == 402 and not alone:
        # The rest of a budget may be set aside for rows that will not need it.
        return Verdict.BUSY
    if answer.status == 503 and refusal_code(answer.body) not in _FAULTS:
        return Verdict.BUSY
    return Verdict.FAULT if answer.status >= 500 else Verdict.KEEP


def fault_pause(faults: int) -> float:
    """Seconds to leave a row alone after its n-th fault: 1, 2, 4 … 60."""
    return min(2.0 ** min(faults - 1, 16), 60.0)


def refusal_code(body: bytes) -> str | None:
    try:
        return msgspec.json.decode(body, type=_Refused).error.code
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def cost_of(text: str | None) -> Decimal:
    """The amount in `x-skerry-cost`; nothing, where there is none."""
    try:
        value = Decimal(text or "0")
    except InvalidOperation:
        return Decimal(0)
    return value if value.is_finite() else Decimal(0)


# The result files, in OpenAI's form


def answered(batch: Batch, row: Row, answer: Answer) -> Result:
    """The line that tells of an answer, whatever its status."""
    try:
        body = msgspec.Raw(msgspec.json.format(answer.body, indent=-1))
        said = msgspec.json.decode(body, type=_Said).usage if answer.status == 200 else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return failed(batch, row.line, row.custom_id, RowErrorCode.BAD_ANSWER, "The answer is not JSON.")
    content = _result_line(
        batch,
        row.line,
        row.custom_id,
        {"status_code": answer.status, "request_id": answer.request_id, "body": body},
        None,
    )
    return Result(row.line, answer.status == 200, content, replace(_usage(said), cost=answer.cost))


def failed(batch: Batch, line: int, custom_id: str | None, code: RowErrorCode, words: str) -> Result:
    """The line that tells why there is no answer."""
    content = _result_line(batch, line, custom_id, None, {"code": code.value, "message": words})
    return Result(line, False, content)


def unanswered(batch: Batch) -> tuple[RowErrorCode, str]:
    """What to say of rows that were never answered."""
    if batch.status is BatchStatus.CANCELLING:
        return RowErrorCode.CANCELLED, "The batch was cancelled before this request was answered."
    return RowErrorCode.EXPIRED, "This request could not be answered before the completion window ended."


# The states


def outcome(batch: Batch) -> tuple[BatchStatus, ReasonCode]:
    """Where a batch ends whose files have been written."""
    if batch.status is BatchStatus.CANCELLING:
        return BatchStatus.CANCELLED, ReasonCode.BY_OWNER
    if not batch.counts.missing:
        return BatchStatus.COMPLETED, ReasonCode.ALL_ANSWERED
    if batch.errors:
        return BatchStatus.FAILED, ReasonCode.INPUT_GONE
    return BatchStatus.EXPIRED, ReasonCode.WINDOW_ENDED


def why_stopped(batch: Batch) -> ReasonCode:
    """Why no more rows of a batch in progress are to be sent."""
    if not batch.counts.missing:
        return ReasonCode.ALL_ANSWERED
    return ReasonCode.INPUT_GONE if batch.errors else ReasonCode.WINDOW_ENDED


def why_not_cancellable(status: BatchStatus) -> str | None:
    """None: it can be cancelled, or is being."""
    if status in (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS, BatchStatus.CANCELLING):
        return None
    if status is BatchStatus.FINALIZING:
        return "all its rows have been dealt with, and its files are being written"
    return f"it is {status} already"


def _result_line(
    batch: Batch,
    line: int,
    custom_id: str | None,
    response: Mapping[str, Any] | None,
    error: Mapping[str, str] | None,
) -> bytes:
    id = format_id("batch_req", record_id(batch.id, batch.created_at, line))
    return msgspec.json.encode({"id": id, "custom_id": custom_id, "response": response, "error": error})


def _usage(said: _Tokens | None) -> Usage:
    if said is None:
        return Usage()
    cached = (said.prompt_tokens_details.cached_tokens if said.prompt_tokens_details else 0) or 0
    return Usage(said.prompt_tokens, cached, said.completion_tokens)


def _bad(line: int, code: str, message: str, param: str | None = None) -> BadLine:
    return BadLine(FileError(code, message, line, param))
