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
    """Called by every project, charged by tokens."""
    DEDICATED = "dedicated"
    """Called by one project, charged by the time its replicas run."""


class EndpointStatus(StrEnum):
    STOPPED = "stopped"
    """Nothing runs: drained, removed, or scaled to zero, which the next request ends."""
    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    """It answers, with fewer replicas than `min_replicas`."""
    FAILED = "failed"


class ReplicaStatus(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    """It gets no new requests and finishes what it has."""
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
    NO_CAPACITY = "no_capacity"
    """No node can take it now."""
    DOWNLOADING = "downloading"
    """Its weights are on their way from a hub, or could not be had."""
    CANNOT_RUN = "cannot_run"
    """Its model does not fit what a replica may use."""
    PARKED = "parked"
    """It ended too often in a row and is not started any more."""
    REPLICAS_MISSING = "replicas_missing"
    UP = "up"
    UPSTREAM = "upstream"
    SCALED_TO_ZERO = "scaled_to_zero"
    ROLLING_OUT = "rolling_out"
    """Its replicas are replaced one after the other."""
    SCALED_DOWN = "scaled_down"
    REPLACED = "replaced"
    NODE_EMPTIED = "node_emptied"
    DRAINING = "draining"
    DRAINED = "drained"
    STOPPING = "stopping"
    MODEL_REMOVED = "model_removed"
    REMOVED = "removed"

    @property
    def advice(self) -> str:
        return _ADVICE[self]


_ADVICE: Final[Mapping[ReasonCode, str]] = {
    ReasonCode.NEW: "Wait: its first replica is about to be started.",
    ReasonCode.STARTING: "Wait: requests are kept until it is ready.",
    ReasonCode.RESTARTING: "Wait: it is started again by itself. If it happens often, read the log of its workload.",
    ReasonCode.NOT_ANSWERING: "Wait: it is replaced if it goes on. Operators can read the log of its workload.",
    ReasonCode.CRASHING: "It is tried again with growing pauses. Read the log and mend the cause (weights, memory).",
    ReasonCode.NO_CAPACITY: "Wait until a node is free, stop something else, or ask for less.",
    ReasonCode.DOWNLOADING: "GET /api/v1/models/{model} says how far it is and what stands in the way.",
    ReasonCode.CANNOT_RUN: "Add the model again with a shorter context, or give replicas more memory.",
    ReasonCode.PARKED: "Read the log, mend the cause (weights, memory), then resume the endpoint.",
    ReasonCode.REPLICAS_MISSING: "Wait: it answers with the replicas it has while others are started.",
    ReasonCode.UP: "Nothing to do.",
    ReasonCode.UPSTREAM: "Nothing to do here: the upstream answers, or requests get 503.",
    ReasonCode.SCALED_TO_ZERO: "Nothing to do: the next request starts it.",
    ReasonCode.ROLLING_OUT: "Wait: each new replica is ready before an old one goes.",
    ReasonCode.SCALED_DOWN: "Nothing to do: fewer replicas are needed.",
    ReasonCode.REPLACED: "Nothing to do: a newer replica has taken its place.",
    ReasonCode.NODE_EMPTIED: "Nothing to do: its node is being emptied, and another replica serves.",
    ReasonCode.DRAINING: "Wait: requests that run are finished, new ones get 503.",
    ReasonCode.DRAINED: "Resume the endpoint to serve again.",
    ReasonCode.STOPPING: "Wait: requests that run are finished first.",
    ReasonCode.MODEL_REMOVED: "Its model was removed from the catalogue: create an endpoint of another model.",
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
    """Requests one replica is to work on at once; None: its slots."""
    idle_timeout_seconds: int | None = None
    """How long without a request until it goes to zero, where `min_replicas` is 0."""
    removed_at: datetime | None = None
    policy: RoutingPolicy = RoutingPolicy.PREFIX_AFFINITY
    queue_seconds: int | None = None
    """How long a request may wait for a replica; None: as long as the gateway lets it."""
    accelerators: int = 0
    """Of each replica."""
    sku: str | None = None
    wanted: int = 1
    """Replicas it is to have now; the autoscaler moves it between the minimum and the maximum."""
    scaling: Mapping[str, Any] | None = None
    """What the autoscaler remembers (`rules.autoscaling.Memory`)."""
    version: int = 1
    """Counts rollouts: replicas of an earlier one are replaced."""
    next_model: ModelId | None = None
    """Model of the rollout that is under way, where it is another one."""
    parked_at: datetime | None = None
    """Since when it is not started any more, because it crashed too often."""
    stop_code: str | None = None
    """`ReasonCode` of why it is to stop, where it is."""

    @property
    def coming_model(self) -> ModelId:
        """What new replicas run."""
        return self.next_model or self.model

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
    model: ModelId | None = None
    """What it runs; None: what its endpoint serves."""
    version: int = 1
    """The endpoint's when it was made."""
    weight: int = 100
    upstream: int | None = None
    """Which of the model's upstreams it is."""
    draining_at: datetime | None = None
    completed_at: datetime | None = None
    """When it last completed something for us."""
    in_flight: int | None = None
    """Requests it said it has, at the last probe; None: it does not say."""
    ready_attempt: int = 0
    """Number of the last attempt that became ready: later ones that ended were crashes while starting."""
    cold_start_ms: int | None = None
    """From being wanted to being ready, the first time."""
    cold_start: Mapping[str, int] | None = None
    """The same in its parts, milliseconds each."""


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint with its replicas: those that run, and the last one that failed."""

    endpoint: Endpoint
    model_name: str
    replicas: tuple[Replica, ...]
    launches: bool = True
    """Whether its replicas are ours; where not, they are upstreams that somebody else runs."""
    next_model_name: str | None = None
    """Of the rollout that is under way, where it is to another model."""


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """A wish to make an endpoint, not yet checked."""

    model: str
    kind: EndpointKind
    name: str | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None
    target_concurrency: int | None = None
    idle_timeout_seconds: int | None = None
    capacity_class: str = "on_demand"
    policy: RoutingPolicy = RoutingPolicy.PREFIX_AFFINITY
    queue_seconds: int | None = None
    accelerators: int | None = None
    sku: str | None = None


@dataclass(frozen=True, slots=True)
class CallableModel:
    """What a key may call, as `/v1/models` shows it."""

    name: str
    created_at: datetime
    owned_by: str
    context_length: int
    license: str | None
    tasks: tuple[str, ...] = ()
    """What it may be asked for: `chat`, `completion`, `embedding`."""


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
    queue_seconds: int | None = None
    """How long a request may wait for a replica; None: as long as the gateway's setting says."""


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


@dataclass(frozen=True, slots=True)
class EndpointLoad:
    """What happens at an endpoint now: the sum over the gateways that have said something lately."""

    gateways: int
    demand: Demand
    reported_at: datetime | None
    """Of the newest report that is in it."""


ENDPOINT_TRANSITIONS = StateMachine(
    {
        # A sleeping endpoint whose last replica is still there is ready again at once.
        EndpointStatus.STOPPED: set(EndpointStatus) - {EndpointStatus.STOPPED},
        EndpointStatus.STARTING: set(EndpointStatus) - {EndpointStatus.STARTING},
        EndpointStatus.READY: set(EndpointStatus) - {EndpointStatus.READY},
        EndpointStatus.DEGRADED: set(EndpointStatus) - {EndpointStatus.DEGRADED},
        EndpointStatus.FAILED: set(EndpointStatus) - {EndpointStatus.FAILED},
    }
)

REPLICA_TRANSITIONS = StateMachine(
    {
        ReplicaStatus.STARTING: {
            ReplicaStatus.READY,
            ReplicaStatus.DRAINING,
            ReplicaStatus.FAILED,
            ReplicaStatus.STOPPED,
        },
        ReplicaStatus.READY: {
            ReplicaStatus.STARTING,
            ReplicaStatus.DRAINING,
            ReplicaStatus.FAILED,
            ReplicaStatus.STOPPED,
        },
        ReplicaStatus.DRAINING: {ReplicaStatus.READY, ReplicaStatus.FAILED, ReplicaStatus.STOPPED},
        ReplicaStatus.FAILED: {ReplicaStatus.STARTING, ReplicaStatus.STOPPED},
        ReplicaStatus.STOPPED: set(),
    }
)
