"""What is known of an endpoint at a look, and what is to be done about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from skerry.inference.model import EndpointStatus, Replica, ReplicaStatus
from skerry.kernel.ids import AttemptId
from skerry.runtime.state import Reason


class Probe(StrEnum):
    """What a replica is asked."""

    COMPLETION = "completion"
    """A real completion of one token, or an embedding: whether it works."""
    HEALTH = "health"
    """Whether its main loop still turns, and how many requests it has."""


@dataclass(frozen=True, slots=True)
class Process:
    """A replica's workload, as far as it matters here. `attempt` is the one that runs, `address` what it reported."""

    ended: bool
    stopping: bool
    failures: int
    words: str
    attempt: AttemptId | None = None
    attempts: int = 0
    """How many there have been; the last of them may be running."""
    address: str | None = None
    slots: int | None = None
    node: str | None = None
    node_leaves: bool = False
    """Its node is being emptied: it serves on until another does."""
    site: str | None = None
    unplaced: bool = False
    """No node can take it now."""
    placed_at: datetime | None = None
    started_at: datetime | None = None
    reported_at: datetime | None = None
    """When the attempt said where it is, by its own clock."""

    @property
    def attempts_ended(self) -> int:
        return self.attempts - (self.attempt is not None)


GONE: Final = Process(ended=True, stopping=True, failures=0, words="Its workload is gone.")


@dataclass(frozen=True, slots=True)
class Seen:
    """One replica with what was found out. `refusal`: why the probe failed; None: it passed, or there was none.

    `in_flight`: requests it says it has; None: it does not say, or was not asked.
    """

    replica: Replica
    process: Process | None
    """None: an upstream."""
    probe: Probe | None = None
    refusal: str | None = None
    in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class ReplicaChange:
    """What to write. `status` None: it stays; `values` and `reason` are written all the same."""

    replica: Replica
    status: ReplicaStatus | None = None
    reason: Reason | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    mark_ready: AttemptId | None = None
    stop_workload: bool = False

    @property
    def after(self) -> ReplicaStatus:
        return self.status or self.replica.status

    @property
    def over(self) -> bool:
        return self.values.get("ended_at") is not None

    @property
    def serves(self) -> bool:
        """It is there, or on its way; not on its way out."""
        return not self.over and self.after is not ReplicaStatus.DRAINING

    @property
    def ready(self) -> bool:
        return not self.over and self.after is ReplicaStatus.READY

    @property
    def empty(self) -> bool:
        return self.status is None and self.reason is None and not self.values and not self.stop_workload


@dataclass(frozen=True, slots=True)
class News:
    """An event for the endpoint's timeline."""

    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """What to do about an endpoint. `due_in` None: nothing, until somebody says so."""

    replicas: tuple[ReplicaChange, ...]
    status: EndpointStatus | None
    reason: Reason | None
    values: Mapping[str, Any]
    """Of the endpoint's row."""
    create: int
    due_in: float | None
    news: tuple[News, ...] = ()
