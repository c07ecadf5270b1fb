"""Values of compute: workloads, their attempts, and the words for what becomes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from skerry.kernel.classes import CapacityClass
from skerry.kernel.ids import AttemptId, ProjectId, WorkloadId
from skerry.kernel.states import StateMachine


class WorkloadKind(StrEnum):
    """What its end means."""

    JOB = "job"
    """Has an end of its own: exit code 0 is success."""
    SERVICE = "service"
    """Runs until it is no longer wanted; `running` once it has reported."""
    INSTANCE = "instance"


class WorkloadStatus(StrEnum):
    """Where it is (DESIGN §2); `Desired` is where it is wanted."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


WORKLOAD_TRANSITIONS: Final = StateMachine(
    {
        # Every way out leads through `stopping`: whatever ended, its tasks are reaped before it counts as ended.
        WorkloadStatus.PENDING: {WorkloadStatus.STARTING, WorkloadStatus.STOPPING},
        WorkloadStatus.STARTING: {WorkloadStatus.RUNNING, WorkloadStatus.STOPPING, WorkloadStatus.PENDING},
        WorkloadStatus.RUNNING: {WorkloadStatus.STOPPING, WorkloadStatus.PENDING},
        WorkloadStatus.STOPPING: {WorkloadStatus.ENDED},
        WorkloadStatus.ENDED: {WorkloadStatus.PENDING},
    }
)


class Desired(StrEnum):
    """Whether it is wanted."""

    RUN = "run"
    STOP = "stop"


class ChargeBy(StrEnum):
    """The one family of meters that carries the money of a workload (DESIGN §5 Money)."""

    TIME = "time"
    TOKENS = "tokens"
    RESERVATION = "reservation"


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    """The node, the agent or an unasked SIGKILL took it."""
    PREEMPTED = "preempted"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    BUDGET_STOPPED = "budget_stopped"

    @property
    def our_fault(self) -> bool:
        return self is Outcome.LOST

    @property
    def restarts(self) -> bool:
        """Whether a workload that is still wanted is tried again, restarts left."""
        return self in _RESTARTED


_RESTARTED: Final = frozenset({Outcome.FAILED, Outcome.LOST, Outcome.PREEMPTED, Outcome.OUT_OF_MEMORY})


class StopReason(StrEnum):
    """Why a workload is to stop; decides the outcome of the attempt that is stopped."""

    BY_CUSTOMER = "by_customer"
    BY_OWNER = "by_owner"
    """The product that made it wants it no longer (scaled down, deleted)."""
    MAX_DURATION = "max_duration"
    BUDGET = "budget"

    @property
    def outcome(self) -> Outcome:
        return _STOPPED.get(self, Outcome.CANCELLED)


_STOPPED: Final = {StopReason.MAX_DURATION: Outcome.TIMED_OUT, StopReason.BUDGET: Outcome.BUDGET_STOPPED}


class ReasonCode(StrEnum):
    """Why a workload is where it is. `advice` says what to do about it (I8)."""

    NEW = "new"
    RESUMED = "resumed"
    NO_NODE = "no_node"
    NO_CAPACITY = "no_capacity"
    RECLAIMING = "reclaiming"
    OUTSIDE_JURISDICTION = "outside_jurisdiction"
    RESERVATION_NOT_READY = "reservation_not_ready"
    RESERVATION_FULL = "reservation_full"
    SCATTERED = "scattered"
    BEHIND_OTHERS = "behind_others"
    ISOLATION_UNAVAILABLE = "isolation_unavailable"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    BACKING_OFF = "backing_off"
    RESTARTING = "restarting"
    PREEMPTED = "preempted"
    SUBMITTING = "submitting"
    QUEUED = "queued"
    REFUSED = "refused"
    WAITING_FOR_REPORT = "waiting_for_report"
    UP = "up"
    STOP_REQUESTED = "stop_requested"
    REAPING = "reaping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    NO_RESTARTS_LEFT = "no_restarts_left"
    STOPPED = "stopped"

    @property
    def advice(self) -> str:
        return _ADVICE[self]


_ADVICE: Final[Mapping[ReasonCode, str]] = {
    ReasonCode.NEW: "Wait: it is about to be placed.",
    ReasonCode.RESUMED: "Wait: it is about to be placed again.",
    ReasonCode.NO_NODE: "Wait until a node is free, ask for fewer accelerators, or stop something else.",
    ReasonCode.NO_CAPACITY: "Wait, set a shorter maximum duration, or reserve capacity.",
    ReasonCode.RECLAIMING: "Wait: it starts when the spot work is gone.",
    ReasonCode.OUTSIDE_JURISDICTION: "Ask for a SKU or a site within the project's jurisdictions, or change these.",
    ReasonCode.RESERVATION_NOT_READY: "Wait for the reservation's start, or use on-demand capacity.",
    ReasonCode.RESERVATION_FULL: "Stop another workload in the reservation, or extend the reservation.",
    ReasonCode.ISOLATION_UNAVAILABLE: "Operators can install bubblewrap on the nodes, or mark the project as trusted.",
    ReasonCode.BEHIND_OTHERS: "Wait for its turn, or set a maximum duration that is over before then.",
    ReasonCode.SCATTERED: "Wait until nodes near to each other are free, or ask for a wider scope.",
    ReasonCode.ENGINE_UNAVAILABLE: "Wait: it goes on when the engine answers. Operators see it in `skerry status`.",
    ReasonCode.BACKING_OFF: "Read the logs: it ended by itself and is started again after the time given.",
    ReasonCode.RESTARTING: "Wait: it ended through our fault and is started again at once.",
    ReasonCode.PREEMPTED: "Wait: its capacity went back to whom it belongs. It is started again where there is some.",
    ReasonCode.SUBMITTING: "Wait: it is being handed to the engine.",
    ReasonCode.QUEUED: "Wait: the engine has it and starts it when its nodes are free.",
    ReasonCode.REFUSED: "The engine does not take it as it is: see the message.",
    ReasonCode.WAITING_FOR_REPORT: "Wait until it has loaded; the logs show how far it is.",
    ReasonCode.UP: "Nothing to do.",
    ReasonCode.STOP_REQUESTED: "Wait: its tasks have been told to end and are killed when the grace period is over.",
    ReasonCode.REAPING: "Wait: what is left of its tasks is being cleared away.",
    ReasonCode.SUCCEEDED: "Nothing to do.",
    ReasonCode.FAILED: "Read the logs, then start it again.",
    ReasonCode.NO_RESTARTS_LEFT: "Read the logs, mend the cause, then start it again.",
    ReasonCode.STOPPED: "Start it again when it is wanted.",
}


UNPLACED: Final = frozenset(
    {
        ReasonCode.NO_NODE,
        ReasonCode.NO_CAPACITY,
        ReasonCode.RECLAIMING,
        ReasonCode.OUTSIDE_JURISDICTION,
        ReasonCode.RESERVATION_NOT_READY,
        ReasonCode.RESERVATION_FULL,
        ReasonCode.SCATTERED,
        ReasonCode.BEHIND_OTHERS,
        ReasonCode.ISOLATION_UNAVAILABLE,
    }
)
"""It is pending because there is no capacity for it now."""


class MountKind(StrEnum):
    """What a mounted folder is; it says where its engine finds it."""

    CHECKPOINTS = "checkpoints"
    """Of a job: kept until the job is deleted, the same on all nodes and for all attempts."""
    VOLUME = "volume"
    SHARED = "shared"
    """A folder that the operator shared with the project."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder that outlives attempts. `name` says which of its kind (a job, a volume, a path below the shared folder),
    `target` the absolute path under which tasks see it."""

    kind: MountKind
    name: str
    target: str
    read_only: bool = False


class Drop(StrEnum):
    """When a task that was started by root becomes an ordinary user."""

    BEFORE_EXEC = "before_exec"
    BY_PROGRAM = "by_program"
    """Only for programs of our own: started as root, they become `SKERRY_RUN_AS` once their imports are done."""
    NEVER = "never"
    """Only for programs of our own that make what others run in. What they are told stays root's: nobody else may write
    what root acts on."""


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """What to run. Quantities are for each task; None: no limit of its own.

    `files` are secrets: kept encrypted, given to the tasks as files of mode 0600 in the folder `SKERRY_FILES`.
    """

    kind: WorkloadKind
    name: str
    resource: str
    """Id of what it is for, such as an endpoint; usage is booked on it."""
    command: tuple[str, ...]
    charge_by: ChargeBy = ChargeBy.TIME
    capacity_class: CapacityClass = CapacityClass.ON_DEMAND
    accelerators: int = 1
    """For the whole gang, shared out evenly over its tasks."""
    tasks: int = 1
    nodes: int = 1
    """Different nodes of the gang; tasks and accelerators are shared out evenly over them."""
    scope: str = "any"
    """How near to each other they are to be: `leaf`, `hall`, `site` or `any`."""
    scope_required: bool = False
    """False: the scope is preferred."""
    priority: int = 0
    """Among pending workloads the higher one is placed first."""
    customer_code: bool = False
    """It runs what a customer gave: as the project's own Unix user, isolated unless the project is trusted (I11)."""
    source: str | None = None
    """Id of a file of purpose `source`: unpacked on each node, and the tasks' working folder."""
    mounts: tuple[Mount, ...] = ()
    max_cost: str | None = None
    """Decimal, in the price book's currency: it is stopped before it costs more."""
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    memory_bytes: int | None = None
    """Resident memory; enforced where the engine can (control groups)."""
    address_space_bytes: int | None = None
    """RLIMIT_AS: enforceable everywhere, but counts mapped files too."""
    cpu_seconds: int | None = None
    open_files: int | None = None
    processes: int | None = None
    max_restarts: int | None = None
    """None: restarted for ever, with back-off."""
    drop: Drop = Drop.BEFORE_EXEC
    grace_seconds: float = 10.0
    """From SIGTERM to SIGKILL."""
    sku: str | None = None
    model: str | None = None
    site: str | None = None
    """Name of the only site where it may run."""
    reservation: str | None = None
    """Id of the reservation inside which it runs: with capacity class `reserved`, and only then."""
    only_nodes: tuple[str, ...] = ()
    """Host names of the only nodes where it may run; none: any."""
    probe: bool = False
    """It checks the node itself: it starts on one that is drained, too, and takes no accelerators there."""
    on_server: bool = False
    """It runs on the server's own machine where that is no node of the fleet. Takes no accelerators."""
    max_duration_seconds: int | None = None
    """Of each attempt. None: open-ended, which needs a node that nobody has reserved for later."""

    @property
    def each(self) -> int:
        """Accelerators on each node."""
        return self.accelerators // self.nodes


@dataclass(frozen=True, slots=True)
class StatusReason:
    """Why it is in its status: a code to act on, and words that also say what to do."""

    code: ReasonCode
    message: str

    @classmethod
    def of(cls, code: ReasonCode, words: str = "") -> "StatusReason":
        return cls(code, f"{words} {code.advice}".strip())


@dataclass(frozen=True, slots=True)
class Attempt:
    """One engine allocation. This row, not the engine's memory, is the record of it.

    Metering runs from `ready_at` to `ended_at`; `metered_through` says how far facts were made.
    """

    id: AttemptId
    workload: WorkloadId
    project: ProjectId
    n: int
    engine: str
    nodes: tuple[str, ...]
    accelerators: int
    devices: tuple[int, ...]
    """Indexes of the accelerators on their nodes, one node after another, as many of each; empty where cores are
    shared."""
    created_at: datetime
    site: str | None = None
    sku: str | None = None
    generation: int = 1
    engine_ref: str | None = None
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ready_at: datetime | None = None
    seen_at: datetime | None = None
    """When the engine last said that it runs. It ended no earlier."""
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    exit_code: int | None = None
    """128 + the signal's number where a signal ended it; None: unknown or never started."""
    message: str = ""
    report: Mapping[str, Any] | None = None
    """What rank 0 wrote to `SKERRY_REPORT`."""
    reports: tuple[Mapping[str, Any] | None, ...] = ()
    """What each rank wrote there, in the order of ranks."""
    metered_through: datetime | None = None
    died_on: str | None = None
    """The node that took it, where it was lost and that is known."""
    waited_seconds: int = 0
    """How long the workload had waited for it."""
    egress_bytes: int = 0
    """What it has sent, by its ranks' reports; `egress_counters` is what these said last, `egress_metered` what facts
    have of it."""
    egress_counters: tuple[int, ...] = ()
    egress_metered: int = 0
    warned: tuple[str, ...] = ()
    """Of what its owner was warned: each once."""

    @property
    def by_node(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Each node with the accelerators on it, in the order of ranks."""
        return tuple(zip(self.nodes, shared_out(self.devices, len(self.nodes)), strict=True))


def shared_out(devices: Sequence[int], nodes: int) -> list[tuple[int, ...]]:
    """The devices of each node: `devices` lists them one node after another, as many of each."""
    each = len(devices) // nodes
    return [tuple(devices[each * n : each * (n + 1)]) for n in range(nodes)]


class ExclusionReason(StrEnum):
    """Why time is not charged."""

    QUEUEING = "queueing"
    """It waited for capacity, or for the next try."""
    START_UP = "start_up"
    """It had its nodes, and was not ready yet."""
    OUR_FAULT = "our_fault"
    """What it did was lost, and is done again, through a failure of ours."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A stretch of an attempt that was metered and is taken off again."""

    key: str
    reason: ExclusionReason
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Workload:
    """Something that runs as a gang of tasks on bound nodes."""

    id: WorkloadId
    project: ProjectId
    kind: WorkloadKind
    name: str
    resource: str
    spec: WorkloadSpec
    """Without `files`."""
    status: WorkloadStatus
    reason: StatusReason
    desired: Desired
    created_at: datetime
    updated_at: datetime
    due_at: datetime
    """When the reconciler looks at it next, at the latest."""
    attempts: int = 0
    restarts: int = 0
    """Those that count against `max_restarts`."""
    failures: int = 0
    """Attempts in a row that ended before they were stable; sets the back-off."""
    stop_reason: StopReason | None = None
    outcome: Outcome | None = None
    """Of the last attempt, once ended."""
    ended_at: datetime | None = None
    attempt: Attempt | None = None
    """The newest one."""
    queued_at: datetime | None = None
    """Since when it has waited for its turn; None: since it was created. Preemptions and restarts keep its place."""
    estimated_start: datetime | None = None
    """While pending: when it would start as things stand. None: nothing that is known to end makes room for it."""

    @property
    def open_attempt(self) -> Attempt | None:
        return self.attempt if self.attempt is not None and self.attempt.ended_at is None else None
