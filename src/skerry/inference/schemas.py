"""Endpoints on the wire (API §7)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, PlainSerializer

from skerry.identity.model import Principal
from skerry.identity.schemas.base import Label, ModelName, Wire
from skerry.inference.estimates import Estimate
from skerry.inference.model import (
    CallableModel,
    EndpointKind,
    EndpointStatus,
    EndpointView,
    NewEndpoint,
    Replica,
    ReplicaStatus,
    RoutingPolicy,
)
from skerry.inference.service.endpoints import LoadView
from skerry.kernel.clock import rfc3339
from skerry.kernel.money import Money, plain
from skerry.runtime.events import Event
from skerry.runtime.state import Reason

Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]
Count = Annotated[int, Field(ge=0, le=1000)]
Target = Annotated[int, Field(ge=1, le=4096)]
IdleSeconds = Annotated[int, Field(ge=1, le=31_536_000)]
QueueSeconds = Annotated[int, Field(ge=1, le=3600)]


class EndpointIn(Wire):
    """`name`: what it is called by; without one it is the model's with something random. A dedicated endpoint may go to
    zero (`min_replicas` 0), a shared one keeps one replica, unless it says otherwise."""

    model: ModelName
    kind: EndpointKind
    name: Label | None = None
    min_replicas: Count | None = None
    max_replicas: Count | None = None
    target_concurrency: Target | None = None
    idle_timeout_seconds: IdleSeconds | None = None
    capacity_class: str = Field(default="on_demand", max_length=100)
    policy: RoutingPolicy = RoutingPolicy.PREFIX_AFFINITY
    queue_seconds: QueueSeconds | None = None
    accelerators: Annotated[int, Field(ge=0, le=1024)] | None = None
    sku: Label | None = None

    def to_new(self) -> NewEndpoint:
        return NewEndpoint(**self.model_dump())


class ScaleIn(Wire):
    """Fields that are left out stay as they are; null puts back what holds by default."""

    min_replicas: Count | None = None
    max_replicas: Count | None = None
    target_concurrency: Target | None = None
    idle_timeout_seconds: IdleSeconds | None = None
    policy: RoutingPolicy | None = None
    queue_seconds: QueueSeconds | None = None

    def given(self) -> dict[str, Any]:
        values = self.model_dump(exclude_unset=True)
        # There is always a number of replicas and a policy: null says nothing.
        kept = ("min_replicas", "max_replicas", "policy")
        return {name: value for name, value in values.items() if value is not None or name not in kept}


class RolloutIn(Wire):
    """Without a model: fresh replicas of the one it serves."""

    model: ModelName | None = None


class MoneyOut(BaseModel):
    amount: str
    currency: str

    @classmethod
    def of(cls, money: Money) -> "MoneyOut":
        return cls(amount=plain(money.amount), currency=money.currency)


class EstimateOut(BaseModel):
    """What an endpoint would cost by the hour: one replica, the fewest, and the most. Nothing where `charge_by` is
    tokens: then requests cost. Energy is null where none is measured."""

    charge_by: str
    sku: str | None
    accelerators: int
    replica_hour: MoneyOut
    min_hour: MoneyOut
    max_hour: MoneyOut
    kwh: str | None = None
    gco2e: str | None = None

    @classmethod
    def of(cls, estimate: Estimate) -> "EstimateOut":
        return cls(
            charge_by=estimate.charge_by,
            sku=estimate.sku,
            accelerators=estimate.accelerators,
            replica_hour=MoneyOut.of(estimate.replica_hour),
            min_hour=MoneyOut.of(estimate.hours(estimate.least)),
            max_hour=MoneyOut.of(estimate.hours(estimate.most)),
        )


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
    """`slots`: requests it works on at once; `in_flight`: those it had when it was last asked. Without a `workload_id`
    it is an upstream that somebody else runs. `cold_start_ms`: from being wanted to its first readiness."""

    id: str
    status: ReplicaStatus
    status_reason: ReasonOut
    slots: int
    in_flight: int | None
    weight: int
    version: int
    node: str | None
    workload_id: str | None
    cold_start_ms: int | None
    ready_at: Time | None
    created_at: Time

    @classmethod
    def of(cls, replica: Replica, *, all_of_it: bool, operator: bool) -> "ReplicaOut":
        """Customers are not told of the operator's nodes, and of logs where the endpoint is their own."""
        reason = replica.reason if all_of_it else _without_log(replica.reason)
        return cls(
            id=replica.id,
            status=replica.status,
            status_reason=ReasonOut.of(reason),
            slots=replica.slots,
            in_flight=replica.in_flight if all_of_it else None,
            weight=replica.weight,
            version=replica.version,
            node=replica.node if operator else None,
            workload_id=replica.workload,
            cold_start_ms=replica.cold_start_ms,
            ready_at=replica.ready_at,
            created_at=replica.created_at,
        )


class EndpointOut(BaseModel):
    """`wanted_replicas`: what the autoscaler makes of demand now. `next_model`: of the rollout that is under way."""

    id: str
    name: str
    model: str
    next_model: str | None
    kind: EndpointKind
    status: EndpointStatus
    status_reason: ReasonOut
    min_replicas: int
    max_replicas: int
    wanted_replicas: int
    ready_replicas: int
    target_concurrency: int | None
    idle_timeout_seconds: int | None
    queue_seconds: int | None
    capacity_class: str
    charge_by: str
    accelerators: int
    sku: str | None
    policy: RoutingPolicy
    version: int
    parked_at: Time | None
    replicas: list[ReplicaOut]
    actions: dict[str, ActionOut]
    created_at: Time
    updated_at: Time
    removed_at: Time | None

    @classmethod
    def of(cls, view: EndpointView, why_not: Mapping[str, str | None], principal: Principal) -> "EndpointOut":
        endpoint = view.endpoint
        own = endpoint.kind is EndpointKind.DEDICATED and endpoint.project == principal.project_id
        all_of_it = principal.operator or own
        return cls(
            id=endpoint.id,
            name=endpoint.name,
            model=view.model_name,
            next_model=view.next_model_name,
            kind=endpoint.kind,
            status=endpoint.status,
            status_reason=ReasonOut.of(endpoint.reason if all_of_it else _without_log(endpoint.reason)),
            min_replicas=endpoint.min_replicas,
            max_replicas=endpoint.max_replicas,
            wanted_replicas=endpoint.wanted,
            ready_replicas=sum(one.status is ReplicaStatus.READY for one in view.replicas),
            target_concurrency=endpoint.target_concurrency,
            idle_timeout_seconds=endpoint.idle_timeout_seconds,
            queue_seconds=endpoint.queue_seconds,
            capacity_class=endpoint.capacity_class,
            charge_by=endpoint.charge_by,
            accelerators=endpoint.accelerators,
            sku=endpoint.sku,
            policy=endpoint.policy,
            version=endpoint.version,
            parked_at=endpoint.parked_at,
            replicas=[ReplicaOut.of(one, all_of_it=all_of_it, operator=principal.operator) for one in view.replicas],
            actions={verb: ActionOut(available=not why, why_not=why) for verb, why in why_not.items()},
            created_at=endpoint.created_at,
            updated_at=endpoint.updated_at,
            removed_at=endpoint.removed_at,
        )


class ReplicaLoadOut(BaseModel):
    """`in_flight`: null where the engine does not say, or was not asked yet."""

    id: str
    status: ReplicaStatus
    slots: int
    in_flight: int | None
    node: str | None


class ColdStartOut(BaseModel):
    """`parts_ms`: placed, started, loaded, tried_out: how long each took, as far as it is known."""

    replica: str
    ready_at: Time | None
    cold_start_ms: int
    parts_ms: dict[str, int]

    @classmethod
    def of(cls, replica: Replica) -> "ColdStartOut":
        return cls(
            replica=replica.id,
            ready_at=replica.ready_at,
            cold_start_ms=replica.cold_start_ms or 0,
            parts_ms=dict(replica.cold_start or {}),
        )


class LoadOut(BaseModel):
    """Sums over the gateways that have said something in the last seconds; `gateways` is how many those are.
    `tokens_per_second` are completion tokens, `first_token_ms` the median of the last minute (0: none)."""

    endpoint: str
    name: str
    status: EndpointStatus
    gateways: int
    reported_at: Time | None
    in_flight: int
    waiting: int
    batch_waiting: int
    longest_wait_seconds: float
    requests_per_minute: float
    tokens_per_second: float
    first_token_ms: float
    wanted_replicas: int
    ready_replicas: int
    scale_reason: str | None
    replicas: list[ReplicaLoadOut]
    cold_starts: list[ColdStartOut]

    @classmethod
    def of(cls, found: LoadView, *, operator: bool) -> "LoadOut":
        endpoint, demand = found.view.endpoint, found.load.demand
        return cls(
            endpoint=endpoint.id,
            name=endpoint.name,
            status=endpoint.status,
            gateways=found.load.gateways,
            reported_at=found.load.reported_at,
            in_flight=demand.in_flight,
            waiting=demand.waiting,
            batch_waiting=demand.batch_waiting,
            longest_wait_seconds=round(demand.longest_wait_seconds, 3),
            requests_per_minute=round(demand.requests_per_minute, 1),
            tokens_per_second=round(demand.tokens_per_second, 1),
            first_token_ms=round(demand.first_token_ms, 1),
            wanted_replicas=endpoint.wanted,
            ready_replicas=sum(one.status is ReplicaStatus.READY for one in found.view.replicas),
            scale_reason=(endpoint.scaling or {}).get("reason"),
            replicas=[
                ReplicaLoadOut(
                    id=one.id,
                    status=one.status,
                    slots=one.slots,
                    in_flight=one.in_flight,
                    node=one.node if operator else None,
                )
                for one in found.view.replicas
            ],
            cold_starts=[ColdStartOut.of(one) for one in found.starts],
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
    tasks: list[str]
    """What it answers: `chat`, `completion`, `embedding`."""

    @classmethod
    def of(cls, model: CallableModel) -> "ModelRow":
        return cls(
            id=model.name,
            created=int(model.created_at.timestamp()),
            owned_by=model.owned_by,
            context_length=model.context_length,
            license=model.license,
            tasks=list(model.tasks),
        )


class ModelRows(BaseModel):
    object: str = "list"
    data: list[ModelRow]


def _without_log(reason: Reason) -> Reason:
    """The first line: what follows is the tail of a log, the operator's."""
    return Reason(reason.code, reason.message.partition("; last lines of its log:")[0].partition("\n")[0])
