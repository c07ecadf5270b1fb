"""Values of the inference domain."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from skerry.inference.engines.base import EngineProfile
from skerry.kernel.ids import AttemptId, EndpointId, ModelId, ProjectId, ReplicaId, WorkloadId
from skerry.kernel.states import StateMachine
from skerry.runtime.state import Reason


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


class RoutingPolicy(StrEnum):
    """How a gateway chooses among the replicas of an endpoint."""

    PREFIX_AFFINITY = "prefix_affinity"
    """The replica that holds the beginning of the prompt, unless it is much busier than others."""
    LEAST_LOAD = "least_load"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"


class Desired(StrEnum):
    RUN = "run"
    STOP = "stop"


class ReasonCode(StrEnum):
    """Why an endpoint or a replica is where it is. `advice` says what to do about it (I8)."""

    NEW = "new"
    STARTING = "starting"
    """Its process is placed, loads the weights, or is tried out."""
    RESTARTING = "restarting"
    """Its process ended and is started again."""
    NOT_ANSWERING = "not_answering"
    CRASHING = "crashing"
    """It ended again and again."""
    REPLICAS_MISSING = "replicas_missing"
    UP = "up"
    UPSTREAM = "upstream"
    STOPPING = "stopping"
    REMOVED = "removed"

    @property
    def advice(self) -> str:
        return _ADVICE[self]


_ADVICE: Final[Mapping[ReasonCode, str]] = {
    ReasonCode.NEW: "Wait: its first replica is about to be started.",
    ReasonCode.STARTING: "Wait: requests are kept until it is ready.",
    ReasonCode.RESTARTING: "Wait: it is started again by itself. If it happens often, read the log of its workload.",
    ReasonCode.NOT_ANSWERING: "Wait: it is replaced if it goes on. Operators can read the log of its workload.",
    ReasonCode.CRASHING: "Read the log, mend the cause (weights, memory), then remove the model and add it again.",
    ReasonCode.REPLICAS_MISSING: "Wait: it answers with the replicas it has while others are started.",
    ReasonCode.UP: "Nothing to do.",
    ReasonCode.UPSTREAM: "Nothing to do here: the upstream answers, or requests get 503.",
    ReasonCode.STOPPING: "Wait: requests that run are finished first.",
    ReasonCode.REMOVED: "Add the model again to serve it.",
}


def because(code: ReasonCode, words: str = "") -> Reason:
    """A reason with what to do about it (I8)."""
    return Reason(code, f"{words} {code.advice}".strip())


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A served model. `project` owns it; a `shared` one may be called by every project."""

    id: EndpointId
    project: ProjectId
    name: str
    model: ModelId
    kind: EndpointKind
    shared: bool
    capacity_class: str
    charge_by: str
    min_replicas: int
    max_replicas: int
    desired: Desired
    status: EndpointStatus
    reason: Reason
    created_at: datetime
    updated_at: datetime
    failures: int = 0
    """Replicas in a row that were given up."""
    target_concurrency: int | None = None
    idle_timeout_seconds: int | None = None
    removed_at: datetime | None = None

    def described(self) -> dict[str, Any]:
        return {"name": self.name, "model": self.model, "kind": self.kind.value}


@dataclass(frozen=True, slots=True)
class Replica:
    """One running server of an endpoint. Without a workload it is an upstream, which somebody else runs."""

    id: ReplicaId
    project: ProjectId
    endpoint: EndpointId
    status: ReplicaStatus
    reason: Reason
    slots: int
    created_at: datetime
    updated_at: datetime
    workload: WorkloadId | None = None
    attempt: AttemptId | None = None
    """The attempt whose address is in `base_url`."""
    node: str | None = None
    site: str | None = None
    base_url: str | None = None
    probe_failures: int = 0
    probed_at: datetime | None = None
    ready_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint with its replicas: those that run, and the last one that failed."""

    endpoint: Endpoint
    model_name: str
    replicas: tuple[Replica, ...]


@dataclass(frozen=True, slots=True)
class CallableModel:
    """What a key may call, as `/v1/models` shows it."""

    name: str
    created_at: datetime
    owned_by: str
    context_length: int
    license: str | None


@dataclass(frozen=True, slots=True)
class RouteReplica:
    """One server a request can go to. `base_url` ends before `/chat/completions`; `key` is its own bearer token."""

    id: ReplicaId
    base_url: str
    key: str
    slots: int
    """Requests it works on at once; more wait inside it."""
    weight: int = 100
    """Its share of the requests beside other replicas: 5 beside 95 is a canary. 0: nothing new is sent to it."""


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
    policy: RoutingPolicy = RoutingPolicy.PREFIX_AFFINITY
    per_replica: int | None = None
    """Requests a gateway sends to one replica at once; more wait in the gateway. None: its `slots`."""
    wakes: bool = False
    """Scaled to zero, or on its way up: requests wait although there is no replica."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one gateway has of one endpoint at this moment; the autoscaler adds up what the gateways say."""

    endpoint: EndpointId
    in_flight: int
    """Being answered by replicas."""
    waiting: int
    """Waiting for a replica."""
    longest_wait_seconds: float
    requests_per_minute: float
    """Answered in the last minute."""
    tokens_per_second: float
    """Completion tokens, over the last ten seconds."""
    first_token_ms: float
    """Median of the last minute; 0: none."""
    batch_waiting: int = 0
    """Of `waiting`, rows of batches: they alone do not call for more replicas than one."""


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
