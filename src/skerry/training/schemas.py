"""Training jobs on the wire (API §6)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, PlainSerializer, StringConstraints

from skerry.identity.schemas.base import Label, Listing, Wire
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import rfc3339
from skerry.kernel.money import Money, plain
from skerry.runtime.state import Reason
from skerry.training.asking import NODES_MAX
from skerry.training.deriving import why_not
from skerry.training.model import (
    Estimate,
    Goodput,
    JobStatus,
    JobView,
    NewJob,
    Point,
    Restart,
    Series,
    Told,
    Verb,
)
from skerry.training.spec import Launcher

Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]
Word = Annotated[str, StringConstraints(max_length=32_768)]
Ref = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
TagName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00]+$")]
TagValue = Annotated[str, StringConstraints(max_length=256, pattern=r"^[^\x00]*$")]
EnvName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Seconds = Annotated[int, Field(strict=True, ge=1, le=100 * 366 * 86_400)]


class JobIn(Wire):
    """`source`: the id of a file of purpose `source`, or a folder below what the operator shared with the project.

    `sku`: the reservation's, or the only one there is. `capacity_class`: `reserved` in a reservation, else
    `on_demand`.
    """

    name: Label
    command: Annotated[list[Word], Field(min_length=1, max_length=1000)]
    source: Ref | None = None
    nodes: Annotated[int, Field(strict=True, ge=1, le=NODES_MAX)] = 1
    tasks_per_node: Annotated[int, Field(strict=True, ge=1, le=1024)] = 1
    accelerators_per_task: Annotated[int, Field(strict=True, ge=1, le=1024)] = 1
    launcher: Launcher = Launcher.TORCHRUN
    sku: Label | None = None
    capacity_class: CapacityClass | None = None
    reservation_id: Ref | None = None
    max_duration_seconds: Seconds | None = None
    max_restarts: Annotated[int, Field(strict=True, ge=0, le=1000)] = 3
    checkpoint_dir: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None
    env: Annotated[dict[EnvName, Word], Field(max_length=500)] = Field(default_factory=dict)
    tags: Annotated[dict[TagName, TagValue], Field(max_length=50)] = Field(default_factory=dict)
    max_cost: Annotated[str, StringConstraints(min_length=1, max_length=40)] | None = Field(
        default=None, description="Decimal, in the currency of the prices: it is stopped before it costs more."
    )

    def to_new(self) -> NewJob:
        values = self.model_dump()
        return NewJob(**{**values, "command": tuple(self.command)})


class MoneyOut(BaseModel):
    amount: str
    currency: str

    @classmethod
    def of(cls, money: Money) -> "MoneyOut":
        return cls(amount=plain(money.amount), currency=money.currency)


class JobEstimateOut(BaseModel):
    """What a job would cost: by the hour, and at most (`price`), where `max_duration_seconds` or `max_cost` bound it.
    Energy is at full power, and null where nobody knows."""

    charge_by: str
    sku: str
    nodes: int
    accelerators: int
    hourly: MoneyOut
    price: MoneyOut | None
    max_duration_seconds: int | None
    kwh: float | None
    gco2e: float | None

    @classmethod
    def of(cls, estimate: Estimate) -> "JobEstimateOut":
        return cls(
            charge_by=estimate.charge_by,
            sku=estimate.sku,
            nodes=estimate.nodes,
            accelerators=estimate.accelerators,
            hourly=MoneyOut.of(estimate.hour),
            price=MoneyOut.of(estimate.most) if estimate.most is not None else None,
            max_duration_seconds=estimate.seconds,
            kwh=estimate.kwh,
            gco2e=estimate.gco2e,
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


class RestartOut(BaseModel):
    """`step`: the highest one before; `resumed_step`: of the checkpoint it went on from, 0 where there was none."""

    cause: str
    lost_seconds: float
    at: Time
    rank: int | None
    node: str | None
    exit_code: int | None
    step: int | None
    resumed_step: int | None
    charged: bool
    detail: str

    @classmethod
    def of(cls, restart: Restart) -> "RestartOut":
        return cls(
            cause=restart.cause,
            lost_seconds=restart.lost_seconds,
            at=restart.at,
            rank=restart.rank,
            node=restart.node,
            exit_code=restart.exit_code,
            step=restart.step,
            resumed_step=restart.resumed_step,
            charged=not restart.our_fault,
            detail=restart.detail,
        )


class ProgressOut(BaseModel):
    """What the supervisor of the newest attempt said last. `generation`: how often all ranks began in it."""

    state: str
    generation: int
    step: int
    checkpoint_step: int | None
    stragglers: list[dict[str, Any]]
    reported_at: Time

    @classmethod
    def of(cls, told: Told) -> "ProgressOut":
        return cls(
            state=told.phase,
            generation=told.generation,
            step=told.step,
            checkpoint_step=told.checkpoint_step,
            stragglers=[dict(one) for one in told.stragglers],
            reported_at=told.reported_at,
        )


class JobOut(BaseModel):
    """`excluded_accelerator_seconds`: start-up, and what was lost through our fault; it is not charged. The values of
    `env` are not shown."""

    id: str
    name: str
    status: JobStatus
    status_reason: ReasonOut
    actions: dict[str, ActionOut]
    command: list[str]
    source: str | None
    nodes: int
    tasks_per_node: int
    accelerators_per_task: int
    launcher: Launcher
    sku: str
    capacity_class: CapacityClass
    reservation_id: str | None
    max_duration_seconds: int | None
    max_restarts: int
    checkpoint_dir: str
    env: dict[str, str]
    tags: dict[str, str]
    max_cost: MoneyOut | None
    charge_by: str
    workload_id: str
    estimated_start: Time | None
    restarts: int
    last_restart: RestartOut | None
    progress: ProgressOut | None
    attempts: int
    attempt_id: str | None
    on_nodes: list[str]
    exit_code: int | None
    cost_so_far: MoneyOut
    energy_so_far: float | None
    excluded_accelerator_seconds: int
    created_at: Time
    updated_at: Time
    started_at: Time | None
    ended_at: Time | None

    @classmethod
    def of(cls, view: JobView, checkpoints: str) -> "JobOut":
        job, spec = view.job, view.job.spec
        assert spec.sku is not None, "one was chosen"
        assert spec.capacity_class is not None, "one was chosen"
        attempt = view.workload.open_attempt
        return cls(
            id=job.id,
            name=job.name,
            status=job.status,
            status_reason=ReasonOut.of(job.reason),
            actions=_actions(view),
            command=list(spec.command),
            source=spec.source,
            nodes=spec.nodes,
            tasks_per_node=spec.tasks_per_node,
            accelerators_per_task=spec.accelerators_per_task,
            launcher=spec.launcher,
            sku=spec.sku,
            capacity_class=spec.capacity_class,
            reservation_id=spec.reservation_id,
            max_duration_seconds=spec.max_duration_seconds,
            max_restarts=spec.max_restarts,
            checkpoint_dir=spec.checkpoint_dir or checkpoints,
            env=dict.fromkeys(spec.env, "***"),
            tags=dict(spec.tags),
            max_cost=_money(spec.max_cost, view.cost.currency),
            charge_by=view.workload.spec.charge_by.value,
            workload_id=job.workload,
            estimated_start=view.estimated_start if job.status is JobStatus.QUEUED else None,
            restarts=job.restarts,
            last_restart=RestartOut.of(job.last_restart) if job.last_restart is not None else None,
            progress=ProgressOut.of(view.told) if view.told is not None else None,
            attempts=view.workload.attempts,
            attempt_id=view.workload.attempt.id if view.workload.attempt is not None else None,
            on_nodes=list(attempt.nodes) if attempt is not None else [],
            exit_code=job.exit_code,
            cost_so_far=MoneyOut.of(view.cost),
            energy_so_far=None,
            excluded_accelerator_seconds=view.excluded,
            created_at=job.created_at,
            updated_at=job.updated_at,
            started_at=job.started_at,
            ended_at=job.ended_at,
        )


class PointOut(BaseModel):
    name: str
    step: int
    at: Time
    value: float

    @classmethod
    def of(cls, point: Point) -> "PointOut":
        return cls(name=point.name, step=point.step, at=point.at, value=point.value)


class SeriesOut(BaseModel):
    """`points`: how many are kept, every `stride`-th of those that came."""

    name: str
    points: int
    stride: int
    latest: PointOut

    @classmethod
    def of(cls, series: Series) -> "SeriesOut":
        latest = PointOut.of(series.latest)
        return cls(name=series.name, points=series.points, stride=series.stride, latest=latest)


class MetricsOut(Listing[PointOut]):
    """Points by step, and the series that the job has, with the newest value of each."""

    series: list[SeriesOut]


class LossOut(BaseModel):
    name: str
    seconds: float


class GoodputOut(BaseModel):
    """`productive_seconds` and all of `losses` add up to `total_seconds`; pauses do not count. `goodput`: the share of
    what was productive, 0 to 1; null before anything ran."""

    goodput: float | None
    total_seconds: float
    productive_seconds: float
    losses: list[LossOut]
    excluded_accelerator_seconds: int

    @classmethod
    def of(cls, goodput: Goodput) -> "GoodputOut":
        return cls(
            goodput=round(goodput.share, 4) if goodput.share is not None else None,
            total_seconds=round(goodput.total, 3),
            productive_seconds=round(goodput.productive, 3),
            losses=[LossOut(name=one.name, seconds=round(one.seconds, 3)) for one in goodput.losses],
            excluded_accelerator_seconds=goodput.excluded,
        )


def _actions(view: JobView) -> dict[str, ActionOut]:
    whys: Mapping[Verb, str | None] = {verb: why_not(view.job, verb) for verb in Verb}
    return {verb.value: ActionOut(available=why is None, why_not=why) for verb, why in whys.items()}


def _money(amount: str | None, currency: str) -> MoneyOut | None:
    return MoneyOut(amount=amount, currency=currency) if amount is not None else None
