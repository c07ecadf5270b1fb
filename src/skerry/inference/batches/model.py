"""Values of batches: many requests in a file, answered when there is room, at half the price."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from skerry.kernel.ids import BatchId, KeyId, ProjectId
from skerry.kernel.states import StateMachine
from skerry.runtime.state import Reason

MAX_ROWS: Final = 50_000
MAX_LINE_BYTES: Final = 8 * 1024 * 1024
MAX_OPEN: Final = 200
"""Batches of one project that have not ended."""


class BatchStatus(StrEnum):
    """OpenAI's words."""

    VALIDATING = "validating"
    """The input file is being read."""
    FAILED = "failed"
    """The input file cannot be run, or went away; `errors` says what is wrong."""
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    """All rows that will be answered have been; the result files are being written."""
    COMPLETED = "completed"
    EXPIRED = "expired"
    """The window ended first. What was answered is in the files."""
    CANCELLING = "cancelling"
    """Nothing new is sent; rows under way are waited for a moment, then the files are written."""
    CANCELLED = "cancelled"


TRANSITIONS: Final = StateMachine(
    {
        BatchStatus.VALIDATING: {BatchStatus.FAILED, BatchStatus.IN_PROGRESS, BatchStatus.CANCELLING},
        BatchStatus.IN_PROGRESS: {BatchStatus.FINALIZING, BatchStatus.CANCELLING},
        BatchStatus.FINALIZING: {BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.FAILED},
        BatchStatus.CANCELLING: {BatchStatus.CANCELLED},
        BatchStatus.FAILED: set(),
        BatchStatus.COMPLETED: set(),
        BatchStatus.EXPIRED: set(),
        BatchStatus.CANCELLED: set(),
    }
)


class Endpoint(StrEnum):
    """What the rows of a batch may ask for: the paths of the API itself."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    EMBEDDINGS = "/v1/embeddings"


class ReasonCode(StrEnum):
    """Why a batch is where it is. `advice` says what to do about it (I8)."""

    READING = "reading_input"
    RUNNING = "running"
    RETRYING = "retrying"
    """Its files could not be read or written; it is tried again."""
    INVALID_INPUT = "invalid_input"
    INPUT_GONE = "input_gone"
    ALL_ANSWERED = "all_answered"
    WINDOW_ENDED = "window_ended"
    BY_OWNER = "cancelled_by_owner"

    @property
    def advice(self) -> str:
        return _ADVICE[self]


_ADVICE: Final[Mapping[ReasonCode, str]] = {
    ReasonCode.READING: "Wait: the rows are checked, then run.",
    ReasonCode.RUNNING: "Wait: rows are answered while nobody else needs the replicas.",
    ReasonCode.RETRYING: "Wait: it is tried again by itself. If it stays, tell your operator.",
    ReasonCode.INVALID_INPUT: "Mend the lines named in errors, upload the file again and create another batch.",
    ReasonCode.INPUT_GONE: "Keep the input file until the batch has ended; upload it again and create another batch.",
    ReasonCode.ALL_ANSWERED: "Read the output file; rows that were refused are in the error file.",
    ReasonCode.WINDOW_ENDED: "Rows without an answer are in the error file: create another batch of them.",
    ReasonCode.BY_OWNER: "What was answered until then is in the output file.",
}


class RowErrorCode(StrEnum):
    """Why a row of the error file has no answer at all. Answers that are refusals are there as they were given."""

    EXPIRED = "batch_expired"
    """The window ended before it was answered."""
    CANCELLED = "batch_cancelled"
    """The batch was cancelled before it was answered."""
    UNREACHABLE = "gateway_unreachable"
    """The connection broke again and again while it was being answered."""
    INVALID = "invalid_request"
    """The line cannot be sent."""
    BAD_ANSWER = "bad_answer"
    """The answer could not be read."""


@dataclass(frozen=True, slots=True)
class FileError:
    """One thing wrong with the input file. `line` counts from 1; None: the file as a whole."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """`completed` rows were answered with 200, `failed` ones otherwise; what is left of `total` is not answered yet."""

    total: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def missing(self) -> int:
        return self.total - self.completed - self.failed


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of all answers; `prompt` includes `cached`. `cost`: the sum of what the answers said."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    cost: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Batch:
    """`key`: the API key that made it, and on which its rows run."""

    id: BatchId
    project: ProjectId
    key: KeyId
    endpoint: Endpoint
    input_file: str
    completion_window: str
    metadata: Mapping[str, str]
    status: BatchStatus
    reason: Reason
    created_at: datetime
    expires_at: datetime
    updated_at: datetime
    counts: Counts = field(default_factory=Counts)
    usage: Usage = field(default_factory=Usage)
    errors: tuple[FileError, ...] = ()
    output_file: str | None = None
    error_file: str | None = None
    in_progress_at: datetime | None = None
    finalizing_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    expired_at: datetime | None = None
    cancelling_at: datetime | None = None
    cancelled_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return TRANSITIONS.is_final(self.status)


@dataclass(frozen=True, slots=True)
class NewBatch:
    input_file: str
    endpoint: Endpoint
    completion_window: str = "24h"
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a batch of this file would be: rows, and the most that they can cost. `unknown`: models nobody serves."""

    rows: int
    models: Mapping[str, int]
    """Rows by model."""
    unknown: tuple[str, ...]
    highest_cost: Decimal
    currency: str
    errors: tuple[FileError, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the input file that is fit to be sent."""

    line: int
    """From 1."""
    custom_id: str
    model: str
    body: bytes
    """The request, as it was written."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a row. `content`: its line of the output file (`ok`) or the error file, without line end."""

    line: int
    ok: bool
    content: bytes
    usage: Usage = field(default_factory=Usage)


def because(code: ReasonCode, words: str = "") -> Reason:
    """A reason with what to do about it (I8)."""
    return Reason(code, f"{words} {code.advice}".strip())
