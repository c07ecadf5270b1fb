"""What becomes of an endpoint and its replicas: what is known in, what to do out. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from skerry.inference.model import (
    Desired,
    Endpoint,
    EndpointStatus,
    ReasonCode,
    Replica,
    ReplicaStatus,
    because,
)
from skerry.kernel.ids import AttemptId
from skerry.runtime.reconciler import back_off_seconds
from skerry.runtime.state import Reason

CRASHES: Final = 3
"""Starts in a row that failed until an endpoint counts as failed rather than starting."""
PROBE_EVERY: Final = timedelta(seconds=10)
PROBES: Final = 3
"""Probes in a row that a replica may miss."""
FIRST_PROBES: Final = 10
POLL_SECONDS: Final = 2.0
"""How long a hint that was lost goes unnoticed."""
RETRY_SECONDS: Final = 1.0
LONGEST_BACK_OFF: Final = 60.0
MAX_SLOTS: Final = 4096


class Probe(StrEnum):
    COMPLETION = "completion"
    """A real completion of one token: whether it is ready."""
    HEALTH = "health"
    """Whether its main loop still turns."""


@dataclass(frozen=True, slots=True)
class Process:
    """A replica's workload, as far as it matters here. `attempt` is the one that runs, `address` what it reported."""

    ended: bool
    stopping: bool
    failures: int
    words: str
    attempt: AttemptId | None = None
    address: str | None = None
    slots: int | None = None
    node: str | None = None
    site: str | None = None


GONE: Final = Process(ended=True, stopping=True, failures=0, words="Its workload is gone.")


@dataclass(frozen=True, slots=True)
class Seen:
    """One replica with what was found out. `refusal`: why the probe failed; None: it passed, or there was none."""

    replica: Replica
    process: Process | None
    """None: an upstream."""
    probe: Probe | None = None
    refusal: str | None = None


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
    def empty(self) -> bool:
        return self.status is None and self.reason is None and not self.values and not self.stop_workload


@dataclass(frozen=True, slots=True)
class Change:
    """What to do about an endpoint. `due_in` None: nothing, until somebody says so."""

    replicas: tuple[ReplicaChange, ...]
    status: EndpointStatus | None
    reason: Reason | None
    failures: int
    create: int
    due_in: float | None


def wanted_probe(endpoint: Endpoint, replica: Replica, process: Process | None, now: datetime) -> Probe | None:
    if process is None or endpoint.desired is Desired.STOP or process.ended or process.address is None:
        return None
    if replica.status is not ReplicaStatus.READY or replica.attempt != process.attempt:
        return Probe.COMPLETION
    due = replica.probed_at is None or replica.probed_at + PROBE_EVERY <= now
    return Probe.HEALTH if due else None


def decide(endpoint: Endpoint, seen: Sequence[Seen], last_failure: datetime | None, now: datetime) -> Change:
    """`seen`: the replicas that have not ended. `last_failure`: when the last replica was given up."""
    changes = tuple(_replica(endpoint, one, now) for one in seen)
    live = [change for change in changes if not change.over]
    failures = _failures(endpoint, changes)
    if endpoint.desired is Desired.STOP:
        return _stop(endpoint, changes, live)
    ready = sum(change.after is ReplicaStatus.READY for change in live)
    if any(change.over and change.after is ReplicaStatus.FAILED for change in changes):
        last_failure = now
    missing = max(0, endpoint.min_replicas - len(live))
    wait = _wait(failures, last_failure, now) if missing else 0.0
    status, reason = _health(endpoint, seen, changes, ready, failures)
    return Change(
        replicas=tuple(change for change in changes if not change.empty),
        status=status if status is not endpoint.status else None,
        reason=reason if status is not endpoint.status or reason != endpoint.reason else None,
        failures=failures,
        create=missing if not wait else 0,
        due_in=wait or _due(live, seen),
    )


def usable_address(report: Mapping[str, Any] | None) -> tuple[str | None, int | None]:
    """Address and slots that a task reported. It is somebody's word: None for what is no plain HTTP address."""
    address, slots = (report or {}).get("address"), (report or {}).get("slots")
    if not isinstance(address, str) or len(address) > 300:
        return None, None
    try:
        parts = urlsplit(address)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port
    except ValueError:
        return None, None
    if not sound or parts.path or parts.query or parts.fragment or "@" in parts.netloc or not address.isprintable():
        return None, None
    if isinstance(slots, bool) or not isinstance(slots, int) or not 1 <= slots <= MAX_SLOTS:
        slots = None
    return address, slots


def _replica(endpoint: Endpoint, seen: Seen, now: datetime) -> ReplicaChange:
    replica, process = seen.replica, seen.process
    if endpoint.desired is Desired.STOP:
        return _stop_replica(replica, process, now)
    if process is None:
        return ReplicaChange(replica)
    if process.ended:
        return _give_up(replica, because(ReasonCode.CRASHING, process.words), now, stop=False)
    if process.address is None:
        return _without_address(replica, process)
    if seen.probe is None:
        return ReplicaChange(replica)
    if seen.refusal is None:
        return _passed(replica, process, now)
    return _missed(replica, process, seen.refusal, now)


def _stop_replica(replica: Replica, process: Process | None, now: datetime) -> ReplicaChange:
    if process is None or process.ended:
        values = {"ended_at": now, "base_url": None}
        return ReplicaChange(replica, ReplicaStatus.STOPPED, because(ReasonCode.REMOVED), values)
    reason = because(ReasonCode.STOPPING)
    return ReplicaChange(
        replica, reason=None if replica.reason == reason else reason, stop_workload=not process.stopping
    )


def _without_address(replica: Replica, process: Process) -> ReplicaChange:
    """It is being placed, loads its weights, or died and is started again."""
    began = replica.ready_at is None and not process.failures
    code = ReasonCode.STARTING if began else ReasonCode.RESTARTING
    # Compute's words say what to do themselves.
    reason = Reason(code, process.words) if process.words else because(code)
    if replica.status is ReplicaStatus.READY:
        values = {"base_url": None, "attempt": None, "probe_failures": 0}
        return ReplicaChange(replica, ReplicaStatus.STARTING, reason, values)
    return ReplicaChange(replica, reason=reason if reason != replica.reason else None)


def _passed(replica: Replica, process: Process, now: datetime) -> ReplicaChange:
    values: dict[str, Any] = {"probed_at": now, "probe_failures": 0}
    if replica.status is ReplicaStatus.READY and replica.attempt == process.attempt:
        return ReplicaChange(replica, values=values)
    values |= {
        "attempt": process.attempt,
        "base_url": f"{process.address}/v1",
        "slots": process.slots or replica.slots,
        "node": process.node,
        "site": process.site,
        "ready_at": now,
    }
    # A replica whose process was replaced between two looks is ready still, at another address.
    status = None if replica.status is ReplicaStatus.READY else ReplicaStatus.READY
    return ReplicaChange(replica, status, because(ReasonCode.UP), values, mark_ready=process.attempt)


def _missed(replica: Replica, process: Process, refusal: str, now: datetime) -> ReplicaChange:
    missed = replica.probe_failures + 1
    reason = because(ReasonCode.NOT_ANSWERING, refusal)
    moved = replica.attempt != process.attempt
    if missed >= (PROBES if replica.status is ReplicaStatus.READY and not moved else FIRST_PROBES):
        return _give_up(replica, reason, now, stop=True)
    values: dict[str, Any] = {"probe_failures": missed, "probed_at": now}
    if replica.status is ReplicaStatus.READY and moved:
        return ReplicaChange(replica, ReplicaStatus.STARTING, reason, {**values, "base_url": None, "attempt": None})
    return ReplicaChange(replica, reason=reason if reason != replica.reason else None, values=values)


def _give_up(replica: Replica, reason: Reason, now: datetime, *, stop: bool) -> ReplicaChange:
    values = {"ended_at": now, "base_url": None}
    return ReplicaChange(replica, ReplicaStatus.FAILED, reason, values, stop_workload=stop)


def _failures(endpoint: Endpoint, changes: Sequence[ReplicaChange]) -> int:
    if any(change.status is ReplicaStatus.READY for change in changes):
        return 0
    return endpoint.failures + sum(change.status is ReplicaStatus.FAILED for change in changes)


def _stop(endpoint: Endpoint, changes: Sequence[ReplicaChange], live: Sequence[ReplicaChange]) -> Change:
    over = not live
    status = EndpointStatus.STOPPED if over and endpoint.status is not EndpointStatus.STOPPED else None
    reason = because(ReasonCode.REMOVED if over else ReasonCode.STOPPING)
    return Change(
        replicas=tuple(change for change in changes if not change.empty),
        status=status,
        reason=reason if reason != endpoint.reason else None,
        failures=endpoint.failures,
        create=0,
        due_in=None if over else POLL_SECONDS,
    )


def _health(
    endpoint: Endpoint, seen: Sequence[Seen], changes: Sequence[ReplicaChange], ready: int, failures: int
) -> tuple[EndpointStatus, Reason]:
    if ready >= endpoint.min_replicas:
        upstream = all(one.process is None for one in seen)
        return EndpointStatus.READY, because(ReasonCode.UPSTREAM if upstream else ReasonCode.UP)
    behind = next((c.reason or c.replica.reason for c in changes if c.after is not ReplicaStatus.READY), None)
    words = behind.message if behind is not None else ""
    if ready:
        return EndpointStatus.DEGRADED, because(ReasonCode.REPLICAS_MISSING, words)
    crashes = max((one.process.failures for one in seen if one.process is not None), default=0)
    if max(crashes, failures) >= CRASHES:
        return EndpointStatus.FAILED, Reason(ReasonCode.CRASHING, words or because(ReasonCode.CRASHING).message)
    if behind is None:
        behind = because(ReasonCode.NEW)
    # What has failed stays failed until it is ready: trying once more is no news.
    kept = endpoint.status is EndpointStatus.FAILED
    return EndpointStatus.FAILED if kept else EndpointStatus.STARTING, behind


def _wait(failures: int, last_failure: datetime | None, now: datetime) -> float:
    """Seconds until a replica that was given up may be replaced."""
    if not failures or last_failure is None:
        return 0.0
    pause = back_off_seconds(failures, LONGEST_BACK_OFF)
    return max(0.0, pause - (now - last_failure).total_seconds())


def _due(live: Sequence[ReplicaChange], seen: Sequence[Seen]) -> float | None:
    if live and all(one.process is None for one in seen):
        return None
    if all(change.after is ReplicaStatus.READY for change in live):
        failing = any(change.values.get("probe_failures") for change in live)
        return RETRY_SECONDS if failing else PROBE_EVERY.total_seconds()
    tried = any(one.probe is Probe.COMPLETION and one.refusal is not None for one in seen)
    return RETRY_SECONDS if tried else POLL_SECONDS
