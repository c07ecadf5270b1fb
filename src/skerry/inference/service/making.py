"""New endpoints and replicas, as values."""

from datetime import datetime
from typing import Final

from skerry.artifacts.model import Model
from skerry.inference.model import (
    Desired,
    Endpoint,
    EndpointKind,
    EndpointStatus,
    ReasonCode,
    Replica,
    ReplicaStatus,
    because,
)
from skerry.kernel.ids import EndpointId, IdFactory, ModelId, ReplicaId

UPSTREAM_SLOTS: Final = 1024
"""Requests that an upstream is trusted with at once."""
CAPACITY_CLASS, CHARGE_BY = "on_demand", "tokens"


def shared_endpoint(model: Model, new_id: IdFactory, now: datetime, *, launches: bool) -> Endpoint:
    """The one that comes and goes with its model. It keeps a replica, unless its model came unasked."""
    status, code = EndpointStatus.READY, ReasonCode.UPSTREAM
    if launches:
        status, code = EndpointStatus.STARTING, ReasonCode.NEW
    if model.may_sleep:
        status, code = EndpointStatus.STOPPED, ReasonCode.SCALED_TO_ZERO
    return Endpoint(
        id=EndpointId(new_id("ep")),
        project=model.project,
        name=model.name,
        model=ModelId(model.id),
        kind=EndpointKind.SHARED,
        shared=model.shared,
        capacity_class=CAPACITY_CLASS,
        charge_by=CHARGE_BY,
        min_replicas=0 if model.may_sleep else 1,
        max_replicas=1,
        desired=Desired.RUN,
        status=status,
        reason=because(code),
        wanted=0 if model.may_sleep else 1,
        created_at=now,
        updated_at=now,
    )


def upstream_replicas(endpoint: Endpoint, model: Model, new_id: IdFactory, now: datetime, site: str) -> list[Replica]:
    """One for each upstream: they differ in their addresses, keys and shares."""
    return [
        Replica(
            id=ReplicaId(new_id("rep")),
            project=endpoint.project,
            endpoint=endpoint.id,
            status=ReplicaStatus.READY,
            reason=because(ReasonCode.UPSTREAM),
            slots=UPSTREAM_SLOTS,
            created_at=now,
            updated_at=now,
            site=site,
            base_url=location,
            ready_at=now,
            model=model.id,
            version=endpoint.version,
            upstream=number,
            weight=weight,
        )
        for number, (location, weight) in enumerate(upstreams(model))
    ]


def upstreams(model: Model) -> list[tuple[str, int]]:
    """Address and share of each upstream of a model, in the order of the catalogue."""
    return [(upstream.url, upstream.weight) for upstream in model.source.servers]
