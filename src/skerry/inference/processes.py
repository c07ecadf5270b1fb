"""A replica as a workload: what compute is asked for, and what its answer means here."""

from datetime import UTC, datetime
from typing import Any

from skerry.compute.model import (
    UNPLACED,
    ChargeBy,
    Desired,
    Drop,
    Workload,
    WorkloadKind,
    WorkloadSpec,
    WorkloadStatus,
)
from skerry.inference.engines.base import LaunchPlan
from skerry.inference.model import Endpoint
from skerry.inference.rules.replicas import usable_address
from skerry.inference.rules.values import Process
from skerry.kernel.classes import CapacityClass


def workload_spec(endpoint: Endpoint, model: str, plan: LaunchPlan, *, builtin: bool = False) -> WorkloadSpec:
    """`builtin`: of a model that every installation begins with. Its shared replica takes no node (API §0)."""
    accelerators = max(endpoint.accelerators, plan.accelerators)
    return WorkloadSpec(
        kind=WorkloadKind.SERVICE,
        name=f"replica of {endpoint.name}",
        resource=endpoint.id,
        command=plan.command,
        charge_by=ChargeBy(endpoint.charge_by),
        capacity_class=CapacityClass(endpoint.capacity_class),
        # None for a shared endpoint's on a CPU machine: they leave every accelerator free (API §0).
        accelerators=accelerators,
        on_server=builtin and not accelerators,
        env=plan.env,
        files=plan.files,
        memory_bytes=plan.memory_bytes,
        max_restarts=None,
        drop=Drop.BY_PROGRAM,
        grace_seconds=plan.grace_seconds,
        sku=endpoint.sku,
        model=model,
    )


def process_of(workload: Workload) -> Process:
    attempt, newest = workload.open_attempt, workload.attempt
    running = workload.status in (WorkloadStatus.STARTING, WorkloadStatus.RUNNING)
    report = attempt.report if attempt is not None and running else None
    address, slots = usable_address(report)
    return Process(
        ended=workload.status is WorkloadStatus.ENDED,
        stopping=workload.desired is Desired.STOP,
        failures=workload.failures,
        words=workload.reason.message,
        attempt=attempt.id if attempt is not None else None,
        attempts=newest.n if newest is not None else 0,
        address=address,
        slots=slots,
        node=attempt.nodes[0] if attempt is not None and attempt.nodes else None,
        site=attempt.site if attempt is not None else None,
        unplaced=workload.status is WorkloadStatus.PENDING and workload.reason.code in UNPLACED,
        placed_at=attempt.created_at if attempt is not None else None,
        started_at=attempt.started_at if attempt is not None else None,
        reported_at=_moment(report.get("reported_at")) if report is not None else None,
    )


def _moment(seconds: Any) -> datetime | None:
    """Unix seconds that a task reported; None for what is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return None
