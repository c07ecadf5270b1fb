"""What a job's first supervisor tells the control plane, and what it is answered. Times are Unix milliseconds,
durations milliseconds, integers both, so that parts add up.

`POST {SKERRY_API_URL}/api/v1/node/training/reports` with the node token, at least every two seconds while something
changes, at least every thirty otherwise. `seq` counts from 1 within an attempt; a report that was not answered is sent
again as it was, so one with a `seq` that is not above the last one changes nothing and is answered all the same.
`state`, `step`, `restarts`, `goodput`, `stragglers`, `last_restart` and `end` say how it stands now (the newest wins);
`events`, `metrics` and `lost` are news: each is sent once. A metric of a (name, step) known before replaces it.
"""

from enum import IntEnum, StrEnum
from typing import Any, Final

import msgspec

REPORTS_PATH: Final = "/api/v1/node/training/reports"


class RunState(StrEnum):
    """Where a job's processes are, as their supervisor sees it."""

    STARTING = "starting"
    """No step was seen yet."""
    RUNNING = "running"
    RECOVERING = "recovering"
    """Ranks were lost; from then until the first new step."""
    STOPPING = "stopping"
    """It was asked to save and end."""
    ENDED = "ended"


class Cause(StrEnum):
    """Why a generation of ranks ended."""

    RANK_FAILED = "rank_failed"
    """A rank exited with another code than 0."""
    RANK_CRASHED = "rank_crashed"
    """A signal of its own making ended a rank: SIGSEGV, SIGABRT, SIGBUS …"""
    RANK_KILLED = "rank_killed"
    """SIGKILL that was neither for memory nor asked for. Our fault, not counted as a restart of the customer's."""
    OUT_OF_MEMORY = "out_of_memory"
    """The kernel killed a rank because its memory limit was reached."""
    HANG = "hang"
    """No sign of life for too long."""
    NODE_AWAY = "node_away"
    """A node's supervisor did not answer for a moment. Our fault."""


class Loss(StrEnum):
    """Where time goes that is not progress."""

    STARTUP = "startup"
    """From the supervisor's start to the first step."""
    DETECTION = "detection"
    """From the last step to the moment the loss of a rank was known: lost work under way, and the time to notice."""
    RESTART = "restart"
    """From then to the first step of the next generation."""
    REDONE = "redone"
    """Steps done a second time, since the newest complete checkpoint was older."""
    CHECKPOINT = "checkpoint"
    """Steps waited for a checkpoint, where the program tells (`skerry.training.user.saved`)."""
    HANG = "hang"
    """No progress until a hang was declared."""
    STOPPING = "stopping"
    """From the wish to stop to the end."""


class EndReason(StrEnum):
    """Why a supervisor ended."""

    SUCCEEDED = "succeeded"
    """Every rank exited with 0."""
    FAILED = "failed"
    """A rank failed and `max_restarts` were used up. Exit code: that rank's."""
    KILLED_TOO_OFTEN = "killed_too_often"
    """Ranks were killed from outside more often than we bear. Our fault."""
    STOPPED = "stopped"
    """Asked to stop; a complete checkpoint was written after that, or all ranks ended well."""
    STOPPED_UNSAVED = "stopped_unsaved"
    """Asked to stop; no checkpoint became complete in time. The newest earlier one stands."""
    LOST_PEER = "lost_peer"
    """Another node's supervisor went away and did not come back. Our fault; a new attempt is in order."""
    REFUSED = "refused"
    """The command or `training.json` cannot be run; nothing was started."""


class Exit(IntEnum):
    """Exit codes of a supervisor that are not a rank's. A rank may use the same: `end.reason` decides."""

    SUCCEEDED = 0
    REFUSED = 64
    LOST_PEER = 75
    STOPPED = 82
    STOPPED_UNSAVED = 83
    KILLED_TOO_OFTEN = 84


class EventType(StrEnum):
    """What is told once, with its data."""

    GENERATION_STARTED = "generation_started"
    """{generation, resume_step, checkpoint}"""
    RANKS_LOST = "ranks_lost"
    """{generation, cause, rank, node, step, detail, ours, counted}"""
    RECOVERED = "recovered"
    """{generation, step, lost_seconds}: the first new step after a loss."""
    BACKING_OFF = "backing_off"
    """{seconds, deaths}: it died at once, again."""
    HANG_DETECTED = "hang_detected"
    """{silent_seconds, limit_seconds, ranks: [{rank, node, process_state}]}; stacks are in the log."""
    SUSPECT = "suspect"
    """{rank?, node, times}: the same rank or node was the first to go twice. Another node may be in order."""
    CHECKPOINT_COMPLETE = "checkpoint_complete"
    """{step, path}"""
    CHECKPOINT_REMOVED = "checkpoint_removed"
    """{path}: never completed, from a generation that is gone."""
    STRAGGLER = "straggler"
    """{rank, node, ratio}: it became one."""
    STOPPING = "stopping"
    """{grace_seconds, asked_by}"""
    METRICS_DROPPED = "metrics_dropped"
    """{count}: more were printed than can be sent."""


class LastRestart(msgspec.Struct, frozen=True, kw_only=True):
    """`step`: the highest one before the loss; `resumed_step` that of the checkpoint (0: from the start).

    `lost_ms`: from the last step before the loss to having caught up with it; grows until then.
    """

    cause: Cause
    generation: int
    at: int
    rank: int | None = None
    node: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    step: int = 0
    resumed_step: int = 0
    lost_ms: int = 0
    ours: bool = False
    detail: str = ""


class Goodput(msgspec.Struct, frozen=True, kw_only=True):
    """Of this attempt, from the supervisor's start to now. `productive_ms` and all of `losses` add up to `total_ms`."""

    total_ms: int = 0
    productive_ms: int = 0
    losses: dict[Loss, int] = {}
    ours_ms: int = 0
    """Of the losses: what was our fault, and the start-up. Not charged."""


class LostTime(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of time that is over. `not_charged`: start-up, or our fault. Stretches never overlap."""

    loss: Loss
    started_at: int
    ended_at: int
    not_charged: bool


class Straggler(msgspec.Struct, frozen=True, kw_only=True):
    """A rank whose steps take `ratio` times the median of all ranks."""

    rank: int
    node: str
    step_ms: int
    ratio: float


class Event(msgspec.Struct, frozen=True, kw_only=True):
    type: EventType
    at: int
    data: dict[str, Any] = {}


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """`value` None: not a number, or infinite."""

    name: str
    step: int
    at: int
    value: float | None


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended, for the job's `status_reason`. `detail` is one line for a person."""

    reason: EndReason
    exit_code: int
    detail: str
    ours: bool = False
    cause: Cause | None = None
    rank: int | None = None
    node: str | None = None


class TrainingReport(msgspec.Struct, frozen=True, kw_only=True):
    seq: int
    at: int
    generation: int
    state: RunState
    step: int
    """Highest step reached, 0 before the first."""
    checkpoint_step: int | None = None
    """Of the newest complete checkpoint."""
    step_ms: int | None = None
    """Median."""
    restarts: int = 0
    """Generations after the first, in this attempt."""
    last_restart: LastRestart | None = None
    goodput: Goodput = Goodput()
    stragglers: tuple[Straggler, ...] = ()
    events: tuple[Event, ...] = ()
    metrics: tuple[Metric, ...] = ()
    lost: tuple[LostTime, ...] = ()
    end: End | None = None


class Command(StrEnum):
    """What the control plane wants of a job that runs."""

    CHECKPOINT_AND_STOP = "checkpoint_and_stop"
    """Save and end, as with SIGTERM."""


class ReportAnswer(msgspec.Struct, frozen=True, kw_only=True):
    command: Command | None = None


def encode(report: TrainingReport) -> bytes:
    return msgspec.json.encode(report)


def decode(body: bytes) -> TrainingReport:
    """Raises msgspec.ValidationError (a ValueError), which names the field."""
    return msgspec.json.decode(body, type=TrainingReport)
