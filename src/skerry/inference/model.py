"""Values of the inference domain."""

from dataclasses import dataclass
from enum import StrEnum

from skerry.inference.engines.base import EngineProfile
from skerry.kernel.ids import EndpointId, ModelId, ProjectId, ReplicaId
from skerry.kernel.states import StateMachine


class EndpointKind(StrEnum):
    SHARED = "shared"
    DEDICATED = "dedicated"


class EndpointStatus(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    FAILED = "failed"


class ReplicaStatus(StrEnum):
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class RouteReplica:
    """One server a request can go to. `base_url` ends before `/chat/completions`; `key` is its own bearer token."""

    id: ReplicaId
    base_url: str
    key: str
    slots: int
    """Requests it works on at once; more wait inside it."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a gateway must know of an endpoint. `project` is None where every project may call it."""

    name: str
    endpoint: EndpointId
    model: ModelId
    model_name: str
    project: ProjectId | None
    context_length: int
    profile: EngineProfile
    upstream_model: str
    """The name the engine knows the model by."""
    site: str
    capacity_class: str
    charge_by: str
    status: EndpointStatus
    status_reason: str
    replicas: tuple[RouteReplica, ...]
    """Those that are ready."""


ENDPOINT_TRANSITIONS = StateMachine(
    {
        EndpointStatus.STOPPED: {EndpointStatus.STARTING},
        EndpointStatus.STARTING: {EndpointStatus.READY, EndpointStatus.FAILED, EndpointStatus.STOPPED},
        EndpointStatus.READY: {
            EndpointStatus.DEGRADED,
            EndpointStatus.STARTING,
            EndpointStatus.FAILED,
            EndpointStatus.STOPPED,
        },
        EndpointStatus.DEGRADED: {
            EndpointStatus.READY,
            EndpointStatus.STARTING,
            EndpointStatus.FAILED,
            EndpointStatus.STOPPED,
        },
        EndpointStatus.FAILED: {EndpointStatus.STARTING, EndpointStatus.STOPPED, EndpointStatus.READY},
    }
)

REPLICA_TRANSITIONS = StateMachine(
    {
        ReplicaStatus.STARTING: {ReplicaStatus.READY, ReplicaStatus.FAILED, ReplicaStatus.STOPPED},
        ReplicaStatus.READY: {ReplicaStatus.STARTING, ReplicaStatus.FAILED, ReplicaStatus.STOPPED},
        ReplicaStatus.FAILED: {ReplicaStatus.STARTING, ReplicaStatus.STOPPED},
        ReplicaStatus.STOPPED: set(),
    }
)
