"""Endpoints on the wire (API §7)."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, PlainSerializer

from skerry.inference.model import (
    CallableModel,
    EndpointKind,
    EndpointStatus,
    EndpointView,
    Replica,
    ReplicaStatus,
)
from skerry.kernel.clock import rfc3339
from skerry.runtime.events import Event
from skerry.runtime.state import Reason

Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]
_SHARED = "A shared endpoint is scaled by the operator of this cloud; it comes and goes with its model."


class ReasonOut(BaseModel):
    code: str
    message: str

    @classmethod
    def of(cls, reason: Reason) -> "ReasonOut":
        return cls(code=reason.code, message=reason.message)


class ActionOut(BaseModel):
    available: bool
    why_not: str | None


class ReplicaOut(BaseModel):
    """`slots`: requests it works on at once. Without a `workload_id` it is an upstream that somebody else runs."""

    id: str
    status: ReplicaStatus
    status_reason: ReasonOut
    slots: int
    node: str | None
    workload_id: str | None
    ready_at: Time | None
    created_at: Time

    @classmethod
    def of(cls, replica: Replica, *, operator: bool) -> "ReplicaOut":
        """Customers are not told of the operator's nodes and logs."""
        reason = replica.reason if operator else _without_log(replica.reason)
        return cls(
            id=replica.id,
            status=replica.status,
            status_reason=ReasonOut.of(reason),
            slots=replica.slots,
            node=replica.node if operator else None,
            workload_id=replica.workload,
            ready_at=replica.ready_at,
            created_at=replica.created_at,
        )


class EndpointOut(BaseModel):
    id: str
    name: str
    model: str
    kind: EndpointKind
    status: EndpointStatus
    status_reason: ReasonOut
    min_replicas: int
    max_replicas: int
    target_concurrency: int | None
    idle_timeout_seconds: int | None
    capacity_class: str
    replicas: list[ReplicaOut]
    actions: dict[str, ActionOut]
    created_at: Time
    updated_at: Time

    @classmethod
    def of(cls, view: EndpointView, *, operator: bool) -> "EndpointOut":
        endpoint = view.endpoint
        return cls(
            id=endpoint.id,
            name=endpoint.name,
            model=view.model_name,
            kind=endpoint.kind,
            status=endpoint.status,
            status_reason=ReasonOut.of(endpoint.reason if operator else _without_log(endpoint.reason)),
            min_replicas=endpoint.min_replicas,
            max_replicas=endpoint.max_replicas,
            target_concurrency=endpoint.target_concurrency,
            idle_timeout_seconds=endpoint.idle_timeout_seconds,
            capacity_class=endpoint.capacity_class,
            replicas=[ReplicaOut.of(replica, operator=operator) for replica in view.replicas],
            actions={"scale": ActionOut(available=False, why_not=_SHARED)},
            created_at=endpoint.created_at,
            updated_at=endpoint.updated_at,
        )


class EventOut(BaseModel):
    """One entry of a timeline."""

    id: str
    at: Time
    type: str
    resource: str
    resource_kind: str
    data: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> "EventOut":
        return cls(
            id=event.id,
            at=event.at,
            type=event.type,
            resource=event.resource,
            resource_kind=event.resource_kind,
            data=dict(event.data),
        )


class ModelRow(BaseModel):
    """A model as OpenAI's API shows it, with what callers ask for besides."""

    id: str
    object: str = "model"
    created: int
    owned_by: str
    context_length: int
    license: str | None

    @classmethod
    def of(cls, model: CallableModel) -> "ModelRow":
        return cls(
            id=model.name,
            created=int(model.created_at.timestamp()),
            owned_by=model.owned_by,
            context_length=model.context_length,
            license=model.license,
        )


class ModelRows(BaseModel):
    object: str = "list"
    data: list[ModelRow]


def _without_log(reason: Reason) -> Reason:
    """The first line: what follows is the tail of a log, the operator's."""
    return Reason(reason.code, reason.message.partition("; last lines of its log:")[0].partition("\n")[0])
