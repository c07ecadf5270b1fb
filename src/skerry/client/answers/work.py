"""Files, batches, and the log of requests. Times on `/v1` are Unix seconds; here they are aware datetimes."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from skerry.client.answers.base import Answer, Money, StatusReason

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
"""States in which nothing happens to a batch any more."""


def _time(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


class File(Answer, frozen=True, kw_only=True):
    """`bytes` is its size, `sha256` the checksum of its content in hexadecimal."""

    id: str
    filename: str = ""
    purpose: str = ""
    bytes: int = 0
    status: str = ""
    sha256: str = ""
    created_at: int = 0
    expires_at: int | None = None

    @property
    def created(self) -> datetime | None:
        return _time(self.created_at)

    @property
    def expires(self) -> datetime | None:
        """None: it stays until it is deleted."""
        return _time(self.expires_at)


class BatchError(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong with the input. `line` counts from 1."""

    code: str = ""
    message: str = ""
    line: int | None = None
    param: str | None = None


class BatchErrors(msgspec.Struct, frozen=True, kw_only=True):
    data: tuple[BatchError, ...] = ()


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True):
    total: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def answered(self) -> int:
        return self.completed + self.failed


class BatchCost(msgspec.Struct, frozen=True, kw_only=True):
    cost: Decimal = Decimal(0)
    currency: str = ""


class Batch(Answer, frozen=True, kw_only=True):
    """`status` is OpenAI's; `skerry` has what its answers said they cost, so far."""

    id: str
    endpoint: str = ""
    input_file_id: str = ""
    completion_window: str = ""
    status: str = ""
    status_reason: StatusReason | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    request_counts: RequestCounts = RequestCounts()
    usage: dict[str, Any] | None = None
    errors: BatchErrors | None = None
    metadata: dict[str, str] | None = None
    skerry: BatchCost = BatchCost()
    created_at: int = 0
    expires_at: int | None = None
    completed_at: int | None = None

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def created(self) -> datetime | None:
        return _time(self.created_at)

    @property
    def expires(self) -> datetime | None:
        return _time(self.expires_at)


class BatchEstimate(Answer, frozen=True, kw_only=True):
    """`highest_cost`: were each row to use all that it may."""

    rows: int = 0
    models: dict[str, int] = msgspec.field(default_factory=dict)
    unknown_models: tuple[str, ...] = ()
    highest_cost: Money
    errors: BatchErrors | None = None


class RequestKey(msgspec.Struct, frozen=True, kw_only=True):
    id: str = ""
    name: str | None = None


class RequestTokens(msgspec.Struct, frozen=True, kw_only=True):
    """`prompt` without the cached ones."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0


class RequestTimings(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds since the request was admitted."""

    queue_ms: float = 0.0
    first_token_ms: float | None = None
    total_ms: float = 0.0


class RequestContent(msgspec.Struct, frozen=True, kw_only=True):
    request: str = ""
    request_truncated: bool = False
    answer: str = ""
    answer_truncated: bool = False


class LoggedRequest(Answer, frozen=True, kw_only=True):
    """An answer that was given. `id` is its `x-request-id`. Only `get` tells `content`, and why there is none."""

    id: str
    started_at: datetime | None = None
    ended_at: datetime | None = None
    model: str = ""
    endpoint: str = ""
    replica: str | None = None
    kind: str = ""
    stream: bool = False
    status: int = 0
    key: RequestKey = RequestKey()
    batch: str | None = None
    tokens: RequestTokens = RequestTokens()
    counted: str = ""
    egress_bytes: int = 0
    timings: RequestTimings = RequestTimings()
    cost: Money | None = None
    content: RequestContent | None = None
    content_reason: StatusReason | None = None
