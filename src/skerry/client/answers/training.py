"""Training jobs."""

from datetime import datetime

import msgspec

from skerry.client.answers.base import Answer, Money, StatusReason

ENDED = frozenset({"succeeded", "failed", "cancelled"})
"""States in which a job does nothing any more. One that has failed can be resumed."""
RESTING = ENDED | {"paused"}
"""States that it does not leave by itself."""


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """`step`: the highest one before; `resumed_step`: of the checkpoint it went on from."""

    cause: str = ""
    lost_seconds: float = 0.0
    at: datetime | None = None
    rank: int | None = None
    node: str | None = None
    exit_code: int | None = None
    step: int | None = None
    resumed_step: int | None = None
    charged: bool = True
    detail: str = ""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What its supervisor said last. `generation`: how often all ranks began in the newest attempt."""

    state: str = ""
    generation: int = 1
    step: int = 0
    checkpoint_step: int | None = None
    reported_at: datetime | None = None


class TrainingJob(Answer, frozen=True, kw_only=True):
    id: str
    name: str = ""
    status: str = ""
    status_reason: StatusReason | None = None
    command: tuple[str, ...] = ()
    source: str | None = None
    nodes: int = 1
    tasks_per_node: int = 1
    accelerators_per_task: int = 1
    launcher: str = ""
    sku: str = ""
    capacity_class: str = ""
    reservation_id: str | None = None
    max_duration_seconds: int | None = None
    max_restarts: int = 0
    checkpoint_dir: str = ""
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    max_cost: Money | None = None
    charge_by: str = ""
    workload_id: str = ""
    estimated_start: datetime | None = None
    restarts: int = 0
    last_restart: Restart | None = None
    progress: Progress | None = None
    attempts: int = 0
    attempt_id: str | None = None
    on_nodes: tuple[str, ...] = ()
    exit_code: int | None = None
    cost_so_far: Money | None = None
    excluded_accelerator_seconds: int = 0
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def resting(self) -> bool:
        """Ended or paused: nothing happens to it by itself."""
        return self.status in RESTING

    @property
    def accelerators(self) -> int:
        return self.nodes * self.tasks_per_node * self.accelerators_per_task


class TrainingEstimate(Answer, frozen=True, kw_only=True):
    """`price`: at most, where the job's length or cost is limited."""

    charge_by: str = ""
    sku: str = ""
    nodes: int = 1
    accelerators: int = 0
    hourly: Money
    price: Money | None = None
    max_duration_seconds: int | None = None
    kwh: float | None = None
    gco2e: float | None = None


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    name: str = ""
    seconds: float = 0.0


class Goodput(Answer, frozen=True, kw_only=True):
    """`productive_seconds` and all of `losses` add up to `total_seconds`. `goodput`: the share, 0 to 1."""

    goodput: float | None = None
    total_seconds: float = 0.0
    productive_seconds: float = 0.0
    losses: tuple[Loss, ...] = ()
    excluded_accelerator_seconds: int = 0


class MetricPoint(Answer, frozen=True, kw_only=True):
    name: str = ""
    step: int = 0
    at: datetime | None = None
    value: float = 0.0


class MetricSeries(Answer, frozen=True, kw_only=True):
    """`points`: how many are kept, every `stride`-th of those that came."""

    name: str = ""
    points: int = 0
    stride: int = 1
    latest: MetricPoint


class Measured(Answer, frozen=True, kw_only=True):
    """The series of a job, with the newest value of each."""

    series: tuple[MetricSeries, ...] = ()
