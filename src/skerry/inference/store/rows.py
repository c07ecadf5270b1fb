"""From rows to values."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Row, or_, true

from skerry.inference.model import (
    Desired,
    Endpoint,
    EndpointKind,
    EndpointStatus,
    Replica,
    ReplicaStatus,
    RoutingPolicy,
)
from skerry.inference.tables import endpoints as e
from skerry.kernel.ids import AttemptId, EndpointId, ModelId, ProjectId, ReplicaId, WorkloadId
from skerry.runtime.state import Reason


def visible(project: ProjectId | None) -> ColumnElement[bool]:
    return true() if project is None else or_(e.c.shared, e.c.project == project)


def _reason(value: Mapping[str, str]) -> Reason:
    return Reason(value["code"], value["message"])


def endpoint_of(row: Row[Any]) -> Endpoint:
    return Endpoint(
        id=EndpointId(row.id),
        project=ProjectId(row.project),
        name=row.name,
        model=ModelId(row.model),
        kind=EndpointKind(row.kind),
        shared=row.shared,
        capacity_class=row.capacity_class,
        charge_by=row.charge_by,
        min_replicas=row.min_replicas,
        max_replicas=row.max_replicas,
        desired=Desired(row.desired),
        status=EndpointStatus(row.status),
        reason=_reason(row.status_reason),
        created_at=row.created_at,
        updated_at=row.updated_at,
        failures=row.failures,
        target_concurrency=row.target_concurrency,
        idle_timeout_seconds=row.idle_timeout_seconds,
        removed_at=row.removed_at,
        policy=RoutingPolicy(row.policy),
        queue_seconds=row.queue_seconds,
        accelerators=row.accelerators,
        sku=row.sku,
        wanted=row.wanted,
        scaling=row.scaling,
        version=row.version,
        next_model=ModelId(row.next_model) if row.next_model else None,
        parked_at=row.parked_at,
        stop_code=row.stop_code,
    )


def replica_of(row: Row[Any]) -> Replica:
    return Replica(
        id=ReplicaId(row.id),
        project=ProjectId(row.project),
        endpoint=EndpointId(row.endpoint),
        status=ReplicaStatus(row.status),
        reason=_reason(row.status_reason),
        slots=row.slots,
        created_at=row.created_at,
        updated_at=row.updated_at,
        workload=WorkloadId(row.workload) if row.workload else None,
        attempt=AttemptId(row.attempt) if row.attempt else None,
        node=row.node,
        site=row.site,
        base_url=row.base_url,
        probe_failures=row.probe_failures,
        probed_at=row.probed_at,
        ready_at=row.ready_at,
        ended_at=row.ended_at,
        model=ModelId(row.model) if row.model else None,
        version=row.version,
        weight=row.weight,
        upstream=row.upstream,
        draining_at=row.draining_at,
        completed_at=row.completed_at,
        in_flight=row.in_flight,
        ready_attempt=row.ready_attempt,
        cold_start_ms=row.cold_start_ms,
        cold_start=row.cold_start,
    )
