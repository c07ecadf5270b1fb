"""Values of training: jobs, what becomes of them, and what they say of themselves."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from skerry.compute.model import Workload
from skerry.kernel.classes import CapacityClass
from skerry.kernel.ids import AttemptId, KeyId, ProjectId, TrainingJobId, WorkloadId
from skerry.kernel.money import Money
from skerry.kernel.states import StateMachine
from skerry.runtime.state import Reason
from skerry.training.spec import Launcher


class JobStatus(StrEnum):
    """Where a job is. It is derived from its workload (`rules` of this package) and written with its event."""

    QUEUED = "queued"
    """It waits for capacity, or is being started; `status_reason` says why, `estimated_start` when."""
    RUNNING = "running"
    """It runs, or recovers from a failure that is not its end."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It ended by itself, or its time or money did. Its checkpoints are kept, and it can be resumed."""
    CANCELLED = "cancelled"
    PAUSED = "paused"
    """Stopped after a checkpoint. It holds nothing and costs nothing until it is resumed."""


TRANSITIONS: Final = StateMachine(
    {
        JobStatus.QUEUED: {JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.PAUSED},
        # Spot capacity that goes back, and a node that is lost before anything ran.
        JobStatus.RUNNING: {
            JobStatus.QUEUED,
            JobStatus.SUCCEEDED,
            JobStatus.FAILED,
            JobStatus.CANCELLED,
            JobStatus.PAUSED,
        },
        JobStatus.PAUSED: {JobStatus.QUEUED, JobStatus.CANCELLED},
        JobStatus.FAILED: {JobStatus.QUEUED},
        JobStatus.SUCCEEDED: set(),
        JobStatus.CANCELLED: set(),
    }
)

ENDED: Final = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})


class Wish(StrEnum):
    """What its owner wants of a job."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


class Verb(StrEnum):
    """What can be done with a job."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"


class ReasonCode(StrEnum):
    """Why a job is where it is. While it is queued, the codes of its workload stand here too (`no_node`, …).

    `advice` says what to do about it (I8).
    """

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    RECOVERING = "recovering"
    CHECKPOINTING = "checkpointing"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    COMMAND_FAILED = "command_failed"
    COMMAND_NOT_FOUND = "command_not_found"
    OUT_OF_MEMORY = "out_of_memory"
    NO_RESTARTS_LEFT = "no_restarts_left"
    NODE_LOST = "node_lost"
    ISOLATION_UNAVAILABLE = "isolation_unavailable"
    REFUSED = "refused"
    MAX_DURATION = "max_duration"
    BUDGET = "budget"
    BY_OWNER = "by_owner"

    @property
    def advice(self) -> str:
        return _ADVICE[self]


_ADVICE: Final[Mapping[ReasonCode, str]] = {
    ReasonCode.NEW: "Wait: it is about to be placed.",
    ReasonCode.STARTING: "Wait: its nodes are there and its processes come up.",
    ReasonCode.RUNNING: "Nothing to do.",
    ReasonCode.RECOVERING: "Wait: it goes on from its newest complete checkpoint.",
    ReasonCode.CHECKPOINTING: "Wait: it has been told to write a checkpoint and end.",
    ReasonCode.CANCELLING: "Wait: its processes have been told to end.",
    ReasonCode.SUCCEEDED: "Nothing to do.",
    ReasonCode.COMMAND_FAILED: "Read the logs, mend the cause, then resume it or run it anew.",
    ReasonCode.COMMAND_NOT_FOUND: "Check the spelling of the command, and that the source brings it.",
    ReasonCode.OUT_OF_MEMORY: "Use smaller batches, more nodes, or a SKU with more memory.",
    ReasonCode.NO_RESTARTS_LEFT: "Read the logs, mend the cause, then resume it; or allow more restarts.",
    ReasonCode.NODE_LOST: "Resume it: it goes on from its newest complete checkpoint.",
    ReasonCode.ISOLATION_UNAVAILABLE: "Ask the operator: without isolation only trusted projects may run code.",
    ReasonCode.REFUSED: "See the message; then run it anew.",
    ReasonCode.MAX_DURATION: "Resume it for as long again, or run it with a longer max_duration_seconds.",
    ReasonCode.BUDGET: "Raise the budget, then resume it.",
    ReasonCode.BY_OWNER: "Nothing to do.",
}


class LossKind(StrEnum):
    """Time of a job that was not spent on new steps, as far as its supervisors do not see it."""

    QUEUED = "queued"
    """Waiting for capacity: before the first attempt, and between attempts."""
    UNREPORTED = "unreported"
    """An attempt's time of which its supervisor said nothing, as before its start and after the loss of its node."""
    NODE_LOST = "node_lost"
    """What an attempt did since its newest checkpoint, where a node took that with it."""


@dataclass(frozen=True, slots=True)
class Restart:
    """The last time that all ranks began anew. `cause` is the supervisor's word (`reporting.Cause`), or `node_lost`."""

    cause: str
    lost_seconds: float
    at: datetime
    rank: int | None = None
    node: str | None = None
    exit_code: int | None = None
    step: int | None = None
    """The highest before."""
    resumed_step: int | None = None
    """Of the checkpoint it went on from; 0: from the start."""
    our_fault: bool = False
    """Whether the time lost is charged."""
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "at": self.at.isoformat()}

    @classmethod
    def of_json(cls, value: Mapping[str, Any] | None) -> "Restart | None":
        return None if value is None else cls(**{**value, "at": datetime.fromisoformat(value["at"])})


@dataclass(frozen=True, slots=True)
class Ending:
    """How the supervisor says that an attempt ends (`reporting.End`)."""

    reason: str
    exit_code: int
    detail: str
    ours: bool


@dataclass(frozen=True, slots=True)
class NewJob:
    """A wish to run a job. None: as `Jobs` finds it best."""

    name: str
    command: tuple[str, ...]
    source: str | None = None
    """Id of a file of purpose `source`, or a path below the project's shared folder; None: no source."""
    nodes: int = 1
    tasks_per_node: int = 1
    accelerators_per_task: int = 1
    launcher: Launcher = Launcher.TORCHRUN
    sku: str | None = None
    capacity_class: CapacityClass | None = None
    reservation_id: str | None = None
    max_duration_seconds: int | None = None
    max_restarts: int = 3
    checkpoint_dir: str | None = None
    """Where tasks see their checkpoints, beside `SKERRY_CHECKPOINT_DIR`."""
    env: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    max_cost: str | None = None
    """Decimal, in the price book's currency."""

    @property
    def accelerators_per_node(self) -> int:
        return self.tasks_per_node * self.accelerators_per_task

    @property
    def accelerators(self) -> int:
        return self.nodes * self.accelerators_per_node

    @property
    def ranks(self) -> int:
        """Processes of the customer's command."""
        return self.nodes * (self.tasks_per_node if self.launcher is Launcher.TORCHRUN else 1)


@dataclass(frozen=True, slots=True)
class Job:
    """`spec` is complete: SKU and class are those it was given."""

    id: TrainingJobId
    project: ProjectId
    key: KeyId
    spec: NewJob
    status: JobStatus
    reason: Reason
    wish: Wish
    workload: WorkloadId
    created_at: datetime
    updated_at: datetime
    restarts: int = 0
    last_restart: Restart | None = None
    started_at: datetime | None = None
    """When it first ran."""
    ended_at: datetime | None = None
    """When it last ended or was paused."""
    exit_code: int | None = None

    @property
    def name(self) -> str:
        return self.spec.name


@dataclass(frozen=True, slots=True)
class Told:
    """What the supervisor of one attempt said last. `seq` is the number of that report."""

    attempt: AttemptId
    job: TrainingJobId
    project: ProjectId
    reported_at: datetime
    seq: int = 0
    generation: int = 1
    phase: str = ""
    step: int = 0
    checkpoint_step: int | None = None
    checkpoint_at: datetime | None = None
    """When the newest complete checkpoint was."""
    restarts: int = 0
    last_restart: Restart | None = None
    productive_ms: int = 0
    losses_ms: Mapping[str, int] = field(default_factory=dict)
    stragglers: tuple[Mapping[str, Any], ...] = ()
    ending: Ending | None = None
    excluded: int = 0
    """Accelerator-seconds of it that are not charged."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a series."""

    name: str
    step: int
    at: datetime
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """A metric of a job, with its newest value. Of its points every `stride`-th is kept."""

    name: str
    latest: Point
    points: int
    stride: int


@dataclass(frozen=True, slots=True)
class Loss:
    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Goodput:
    """Of the time from a job's creation to its end or now, less what it was paused: seconds. `productive` and all of
    `losses` add up to `total`."""

    total: float
    productive: float
    losses: tuple[Loss, ...]
    excluded: int
    """Accelerator-seconds that are not charged."""

    @property
    def share(self) -> float | None:
        return self.productive / self.total if self.total > 0 else None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with what others know of it. `told`: of its newest attempt."""

    job: Job
    workload: Workload
    told: Told | None
    cost: Money
    excluded: int
    """Accelerator-seconds that are not charged."""
    estimated_start: datetime | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job would cost: by the hour, and at most where its length or its cost is limited."""

    charge_by: str
    sku: str
    nodes: int
    accelerators: int
    hour: Money
    most: Money | None
    seconds: int | None
    """Its longest run, where `max_duration_seconds` says so."""
    kwh: float | None
    gco2e: float | None


def because(code: ReasonCode, words: str = "") -> Reason:
    """A reason with what to do about it (I8)."""
    return Reason(code, f"{words} {code.advice}".strip())
