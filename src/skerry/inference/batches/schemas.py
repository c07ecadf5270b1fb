"""Batches on the wire, as OpenAI's clients read them, with `status_reason`, `actions` and `skerry` besides."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from skerry.identity.schemas.base import Wire
from skerry.inference.batches.model import Batch, BatchStatus, Endpoint, Estimate, FileError, NewBatch
from skerry.inference.batches.rules import why_not_cancellable
from skerry.inference.schemas import ActionOut, ReasonOut
from skerry.kernel.money import plain

MetadataName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]


class BatchIn(Wire):
    input_file_id: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    endpoint: Endpoint
    completion_window: Annotated[str, StringConstraints(max_length=20)] = Field(
        description="`24h`, as with OpenAI; any whole hours up to `168h` here."
    )
    metadata: Annotated[dict[MetadataName, MetadataValue], Field(max_length=16)] | None = None

    def to_model(self) -> NewBatch:
        return NewBatch(self.input_file_id, self.endpoint, self.completion_window, self.metadata or {})


class BatchErrorOut(BaseModel):
    code: str
    message: str
    line: int | None
    param: str | None

    @classmethod
    def of(cls, error: FileError) -> "BatchErrorOut":
        return cls(code=error.code, message=error.message, line=error.line, param=error.param)


class BatchErrorsOut(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchErrorOut]


class CountsOut(BaseModel):
    total: int
    completed: int
    failed: int


class InputDetailsOut(BaseModel):
    cached_tokens: int


class OutputDetailsOut(BaseModel):
    reasoning_tokens: int = 0


class UsageOut(BaseModel):
    input_tokens: int
    input_tokens_details: InputDetailsOut
    output_tokens: int
    output_tokens_details: OutputDetailsOut
    total_tokens: int


class CostOut(BaseModel):
    """The sum of what the answers said they cost, in the currency of the prices."""

    cost: str
    currency: str


class BatchOut(BaseModel):
    id: str
    object: Literal["batch"] = "batch"
    endpoint: Endpoint
    errors: BatchErrorsOut | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: CountsOut
    usage: UsageOut
    metadata: dict[str, str]
    status_reason: ReasonOut
    actions: dict[str, ActionOut]
    skerry: CostOut

    @classmethod
    def of(cls, batch: Batch, currency: str) -> "BatchOut":
        why_not = why_not_cancellable(batch.status)
        errors = [BatchErrorOut.of(error) for error in batch.errors]
        return cls(
            id=batch.id,
            endpoint=batch.endpoint,
            errors=BatchErrorsOut(data=errors) if errors else None,
            input_file_id=batch.input_file,
            completion_window=batch.completion_window,
            status=batch.status,
            # A file that is there before its fellow is not the whole result yet.
            output_file_id=batch.output_file if batch.ended else None,
            error_file_id=batch.error_file if batch.ended else None,
            created_at=int(batch.created_at.timestamp()),
            expires_at=int(batch.expires_at.timestamp()),
            in_progress_at=_seconds(batch.in_progress_at),
            finalizing_at=_seconds(batch.finalizing_at),
            completed_at=_seconds(batch.completed_at),
            failed_at=_seconds(batch.failed_at),
            expired_at=_seconds(batch.expired_at),
            cancelling_at=_seconds(batch.cancelling_at),
            cancelled_at=_seconds(batch.cancelled_at),
            request_counts=CountsOut(
                total=batch.counts.total, completed=batch.counts.completed, failed=batch.counts.failed
            ),
            usage=_usage(batch),
            metadata=dict(batch.metadata),
            status_reason=ReasonOut.of(batch.reason),
            actions={"cancel": ActionOut(available=why_not is None, why_not=why_not)},
            skerry=CostOut(cost=plain(batch.usage.cost), currency=currency),
        )


class BatchList(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchOut]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, batches: list[Batch], has_more: bool, currency: str) -> "BatchList":
        return cls(
            data=[BatchOut.of(batch, currency) for batch in batches],
            first_id=batches[0].id if batches else None,
            last_id=batches[-1].id if batches else None,
            has_more=has_more,
        )


class EstimateOut(BaseModel):
    """An answer to `?dry_run=true`. `highest_cost`: were each row to use all that it may. `models`: rows of each."""

    object: Literal["batch.estimate"] = "batch.estimate"
    rows: int
    models: dict[str, int]
    unknown_models: list[str]
    highest_cost: dict[str, str]
    errors: BatchErrorsOut | None

    @classmethod
    def of(cls, estimate: Estimate) -> "EstimateOut":
        errors = [BatchErrorOut.of(error) for error in estimate.errors]
        return cls(
            rows=estimate.rows,
            models=dict(estimate.models),
            unknown_models=list(estimate.unknown),
            highest_cost={"amount": plain(estimate.highest_cost), "currency": estimate.currency},
            errors=BatchErrorsOut(data=errors) if errors else None,
        )


def _seconds(at: datetime | None) -> int | None:
    return int(at.timestamp()) if at is not None else None


def _usage(batch: Batch) -> UsageOut:
    usage = batch.usage
    return UsageOut(
        input_tokens=usage.prompt,
        input_tokens_details=InputDetailsOut(cached_tokens=usage.cached),
        output_tokens=usage.completion,
        output_tokens_details=OutputDetailsOut(),
        total_tokens=usage.prompt + usage.completion,
    )
