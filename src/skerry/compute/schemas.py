"""Workloads and attempts on the wire (API §5)."""

from datetime import datetime
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, PlainSerializer

from skerry.compute.metered import Used
from skerry.compute.model import (
    Attempt,
    ChargeBy,
    Desired,
    ExclusionReason,
    Outcome,
    StopReason,
    Workload,
    WorkloadKind,
    WorkloadStatus,
)
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import rfc3339
from skerry.kernel.paging import Page

T = TypeVar("T")
Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]


class ListOf(BaseModel, Generic[T]):
    data: list[T]
    has_more: bool
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[T]) -> "ListOf[T]":
        return cls(data=list(page.data), has_more=page.has_more, next_cursor=page.next_cursor)


class StatusReason(BaseModel):
    code: str
    message: str


class AttemptOut(BaseModel):
    """`exit_code` is 128 + the signal's number where a signal ended it. Metering runs from `ready_at` to `ended_at`."""

    id: str
    n: int
    engine: str
    nodes: list[str]
    accelerators: int
    generation: int
    created_at: Time
    started_at: Time | None
    ready_at: Time | None
    ended_at: Time | None
    outcome: Outcome | None
    our_fault: bool | None
    exit_code: int | None
    message: str

    @classmethod
    def of(cls, attempt: Attempt) -> "AttemptOut":
        return cls(
            id=attempt.id,
            n=attempt.n,
            engine=attempt.engine,
            nodes=list(attempt.nodes),
            accelerators=attempt.accelerators,
            generation=attempt.generation,
            created_at=attempt.created_at,
            started_at=attempt.started_at,
            ready_at=attempt.ready_at,
            ended_at=attempt.ended_at,
            outcome=attempt.outcome,
            our_fault=attempt.outcome.our_fault if attempt.outcome is not None else None,
            exit_code=attempt.exit_code,
            message=attempt.message,
        )


class ExcludedOut(BaseModel):
    """Time that is not charged. `accelerator_seconds`: what was held meanwhile."""

    reason: ExclusionReason
    seconds: int
    accelerator_seconds: int


class UsageOut(BaseModel):
    """Of all attempts so far, and as fresh as they are. Which meter carries the money is said by `charge_by`."""

    accelerator_seconds: int
    egress_bytes: int
    excluded: list[ExcludedOut]

    @classmethod
    def of(cls, used: Used) -> "UsageOut":
        return cls(
            accelerator_seconds=used.accelerator_seconds,
            egress_bytes=used.egress_bytes,
            excluded=[
                ExcludedOut(reason=one.reason, seconds=one.seconds, accelerator_seconds=one.accelerator_seconds)
                for one in used.excluded
            ],
        )


class WorkloadOut(BaseModel):
    """The command, its environment and its files belong to the product that made it and are not shown."""

    id: str
    kind: WorkloadKind
    name: str
    resource: str
    status: WorkloadStatus
    status_reason: StatusReason
    desired: Desired
    stop_reason: StopReason | None
    charge_by: ChargeBy
    capacity_class: CapacityClass
    sku: str | None
    model: str | None
    accelerators: int
    tasks: int
    restarts: int
    max_restarts: int | None
    outcome: Outcome | None
    attempt: AttemptOut | None
    created_at: Time
    updated_at: Time
    ended_at: Time | None
    estimated_start: Time | None
    """While pending: when it would start as things stand; null where nothing that is known to end makes room."""
    nodes: int
    priority: int

    @classmethod
    def of(cls, workload: Workload) -> "WorkloadOut":
        spec = workload.spec
        return cls(
            id=workload.id,
            kind=workload.kind,
            name=workload.name,
            resource=workload.resource,
            status=workload.status,
            status_reason=StatusReason(code=workload.reason.code, message=workload.reason.message),
            desired=workload.desired,
            stop_reason=workload.stop_reason,
            charge_by=spec.charge_by,
            capacity_class=spec.capacity_class,
            sku=spec.sku,
            model=spec.model,
            accelerators=spec.accelerators,
            tasks=spec.tasks,
            restarts=workload.restarts,
            max_restarts=spec.max_restarts,
            outcome=workload.outcome,
            attempt=AttemptOut.of(workload.attempt) if workload.attempt is not None else None,
            created_at=workload.created_at,
            updated_at=workload.updated_at,
            ended_at=workload.ended_at,
            estimated_start=workload.estimated_start,
            nodes=spec.nodes,
            priority=spec.priority,
        )


class WorkloadWithUsageOut(WorkloadOut):
    """One workload, with what of it is charged and what is not."""

    usage: UsageOut

    @classmethod
    def with_usage(cls, workload: Workload, used: Used) -> "WorkloadWithUsageOut":
        return cls(**WorkloadOut.of(workload).model_dump(), usage=UsageOut.of(used))
