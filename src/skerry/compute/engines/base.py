"""What starts processes on nodes. An engine is handed *placed* work and knows nothing of customers, money or calendars.

Every call may raise EngineUnavailable, which means "no answer": whatever was asked may or may not have happened, and
nothing may be concluded about what runs. Calls are therefore idempotent and name the attempt they are about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final, Protocol

from skerry.compute.model import Drop, Outcome
from skerry.kernel.errors import Conflict, Unavailable
from skerry.kernel.ids import AttemptId, ProjectId, WorkloadId

SERVER_NODE: Final = "@server"
"""The server's own machine beside a fleet: no node of it, and never sold. Only what must be there runs on it."""


class EngineUnavailable(Unavailable):
    """The engine does not answer. What it was running goes on running as far as anyone knows."""

    code = "engine_unavailable"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, suggestion="Try again in a moment; `/readyz` says when it is back.", retry_after=5)


class EngineRefused(Conflict):
    """The engine answered, and said no."""

    code = "engine_refused"


class UnknownAttempt(EngineRefused):
    """It was never submitted here, or has been forgotten."""

    code = "unknown_attempt"


class NodeNotReady(EngineRefused):
    """The node is unknown to the engine, drained or down."""

    code = "node_not_ready"


class BadGang(EngineRefused):
    """The gang cannot be started as it is described, now or later."""

    code = "bad_gang"


class ReservationRefused(EngineRefused):
    """The nodes cannot be set aside as asked: not all of them, not for all of the window, or not at all."""

    code = "reservation_refused"


class NotFenced(EngineRefused):
    """It could not be proved that nothing runs on the node any more: it must not be handed out again."""

    code = "not_fenced"


class NodeCondition(StrEnum):
    """Whether a node takes work, as its engine sees it."""

    READY = "ready"
    DRAINED = "drained"
    """Finishes what it has and takes nothing new."""
    DOWN = "down"


class GangStatus(StrEnum):
    """Where the engine is with a gang."""

    PENDING = "pending"
    """Accepted, not started (an engine that queues)."""
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


class EndCause(StrEnum):
    """What the engine saw, before anyone asks whose fault it was."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    OUT_OF_MEMORY = "out_of_memory"
    CPU_LIMIT = "cpu_limit"
    CANCELLED = "cancelled"
    PEER_ENDED = "peer_ended"
    """Another rank of the gang ended first, and this one was ended with it."""
    NOT_STARTED = "not_started"
    """The command could not be executed."""
    ENGINE_STOPPED = "engine_stopped"
    """The engine (or its node) was shut down in order and ended it."""
    UNOBSERVED = "unobserved"
    """It ended while nobody watched: how is not known."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do here, as it found out rather than assumes."""

    engine: str
    isolation: bool = False
    """Whether code of projects that are not trusted may run (I11)."""
    memory_limit: bool = False
    process_limit: bool = False
    drain: bool = False
    reserve: bool = False
    fence: bool = False
    sets_aside: bool = False
    """Others than Skerry may start work on its nodes: what is sold has to be set aside there too."""
    problems: tuple[str, ...] = ()
    """What keeps it from taking work as it should, for operators: how it is set up."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """Memory in bytes. `accelerators` are indexes of GPUs, or of cores where `shared`."""

    name: str
    condition: NodeCondition
    cores: int
    memory_bytes: int
    accelerators: tuple[int, ...]
    shared: bool
    """Accelerators are cores: counted, not handed out one by one."""
    reason: str = ""
    address: str = "127.0.0.1"
    """Where other nodes reach it: host name or IP address."""
    signals: tuple[tuple[str, str, str], ...] = ()
    """What its hardware says of itself now: kind, code and words (`health/readings.py`)."""
    accelerator: str = ""
    """Type of its GPUs in the engine's words, where it knows one."""


@dataclass(frozen=True, slots=True)
class NodeReservation:
    """Whole nodes set aside from `start` to `end`: meanwhile only gangs that name it run there."""

    name: str
    nodes: tuple[str, ...]
    start: datetime
    end: datetime
    amend: bool = False
    """It replaces what has its name; what runs inside goes on."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A node, the tasks that run on it (ranks count through the placements in order), and their accelerators."""

    node: str
    tasks: int
    devices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """For each task; None: none. Bytes, seconds of CPU time, counts."""

    memory_bytes: int | None = None
    address_space_bytes: int | None = None
    cpu_seconds: int | None = None
    open_files: int | None = None
    processes: int | None = None


@dataclass(frozen=True, slots=True)
class GangSpec:
    """All tasks start, or none does. The attempt's id is the key: submitted twice, it runs once."""

    attempt: AttemptId
    workload: WorkloadId
    project: ProjectId
    placements: tuple[Placement, ...]
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits = field(default_factory=Limits)
    drop: Drop = Drop.BEFORE_EXEC
    grace_seconds: float = 10.0
    reservation: str | None = None
    """Name of the engine's reservation inside which it runs."""
    max_seconds: int | None = None
    """The caller ends it by then. An engine that queues sees from it what fits in before a reservation."""

    @property
    def tasks(self) -> int:
        return sum(placement.tasks for placement in self.placements)


@dataclass(frozen=True, slots=True)
class RankEnd:
    """`exit_code` None: unknown. `signal` is the number of the signal that ended it, where one did."""

    cause: EndCause
    outcome: Outcome
    at: datetime
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class RankState:
    """`log_bytes`: how much it has written so far, rotated parts included."""

    rank: int
    node: str
    pid: int | None
    started_at: datetime | None
    adopted: bool = False
    """The engine's daemon was restarted under it: it is not the daemon's child any more."""
    report: Mapping[str, Any] | None = None
    log_bytes: int = 0
    end: RankEnd | None = None


@dataclass(frozen=True, slots=True)
class GangState:
    """`end` is that of the rank which decided: the first to end other than well, else the last."""

    attempt: AttemptId
    status: GangStatus
    ref: str
    ranks: tuple[RankState, ...] = ()
    end: RankEnd | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Bytes of a log from `offset` on. `offset` is later than asked for where rotation has dropped what was before."""

    data: bytes
    offset: int
    size: int
    """Bytes written so far."""
    ended: bool
    """Nothing more will be written."""

    @property
    def next_offset(self) -> int:
        return self.offset + len(self.data)


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Attempts that changed since a cursor. `reset`: the engine does not know since when; look at everything."""

    cursor: str
    attempts: tuple[AttemptId, ...]
    reset: bool = False


class Engine(Protocol):
    """The seam between Skerry and whatever starts processes. All implementations pass one conformance suite."""

    name: ClassVar[str]

    async def capabilities(self) -> Capabilities: ...

    async def nodes(self) -> Sequence[NodeState]: ...

    async def submit(self, gang: GangSpec) -> str:
        """Start it, all or nothing; the engine's own name for it. A second submit answers like the first.

        An attempt that was cancelled or has ended is never started again, not even if it was cancelled before it was
        submitted. Raises BadGang, NodeNotReady.
        """
        ...

    async def observe(self, attempts: Sequence[AttemptId]) -> Mapping[AttemptId, GangState]:
        """What is known of these attempts. One that is missing from the answer is not known to the engine."""
        ...

    async def known(self) -> Sequence[AttemptId]:
        """All attempts the engine has, ended ones that were not forgotten included."""
        ...

    async def logs(self, attempt: AttemptId, rank: int, offset: int, limit: int) -> LogChunk:
        """Raises UnknownAttempt where there is no such log (any more)."""
        ...

    async def signal(self, attempt: AttemptId, number: int) -> None:
        """Send a signal to every rank's process group. Raises UnknownAttempt."""
        ...

    async def cancel(self, attempt: AttemptId, grace_seconds: float) -> None:
        """Begin to end it: SIGTERM, then SIGKILL, then whatever is left. Final, also for an attempt not seen yet."""
        ...

    async def forget(self, attempt: AttemptId) -> None:
        """The end of this attempt is on record: the engine need not remember it. Logs stay for a while."""
        ...

    async def drain(self, node: str, reason: str) -> None:
        """Take nothing new on this node; what runs goes on. Raises NodeNotReady for an unknown node."""
        ...

    async def resume(self, node: str) -> None: ...

    async def reserve(self, reservation: NodeReservation) -> None:
        """Set these nodes aside, all of them or none; what was made is read back and compared. Again: no change.

        Raises ReservationRefused, also where the name is taken by another window or other nodes; NodeNotReady.
        """
        ...

    async def release(self, name: str) -> None:
        """Give the nodes of a reservation back. An unknown name is released already.

        An engine may refuse while something runs inside (ReservationRefused): end that first.
        """
        ...

    async def reservations(self) -> Sequence[NodeReservation]: ...

    async def fence(self, node: str, reason: str) -> None:
        """Drain it, end all that runs on it at once, and return when nothing does. Raises NotFenced, NodeNotReady.

        What it ended is reported as lost. The node stays drained until `resume`.
        """
        ...

    async def events(self, cursor: str, wait_seconds: float) -> EventBatch:
        """Wait for changes after `cursor` (empty: from now on) for at most so long."""
        ...
