"""What becomes of one replica."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from skerry.inference.model import Endpoint, ReasonCode, Replica, ReplicaStatus, because
from skerry.inference.rules.values import Probe, Process, ReplicaChange, Seen
from skerry.runtime.state import Reason

PROBE_EVERY: Final = timedelta(seconds=10)
COMPLETE_EVERY: Final = timedelta(seconds=60)
"""Between two real completions of a replica that has nothing else to do: one that works proves it by working."""
PROBES: Final = 3
"""Probes in a row that a replica may miss."""
FIRST_PROBES: Final = 10
LINGER: Final = timedelta(seconds=6)
"""From leaving the routes to being ended, at the least: longer than a gateway goes by old routes (its poll: 5 s)."""
DRAIN: Final = timedelta(minutes=15)
"""The longest that a replica is kept for the requests it still has."""
MAX_SLOTS: Final = 4096


def wanted_probe(endpoint: Endpoint, replica: Replica, process: Process | None, now: datetime) -> Probe | None:
    """`endpoint` is one that is wanted, or is being drained."""
    if process is None or process.ended or process.stopping or process.address is None or endpoint.removed_at:
        return None
    if replica.status is ReplicaStatus.DRAINING:
        return Probe.HEALTH if _lingered(replica, now) else None
    if replica.status is not ReplicaStatus.READY or replica.attempt != process.attempt:
        return Probe.COMPLETION
    if replica.probed_at is not None and now < replica.probed_at + PROBE_EVERY:
        return None
    idle = not replica.in_flight
    proven = replica.completed_at is not None and now < replica.completed_at + COMPLETE_EVERY
    return Probe.COMPLETION if idle and not proven else Probe.HEALTH


def judge(seen: Seen, now: datetime) -> ReplicaChange:
    """Of an endpoint that is wanted. An upstream is left as it is."""
    replica, process = seen.replica, seen.process
    if process is None:
        return ReplicaChange(replica)
    if replica.status is ReplicaStatus.DRAINING:
        return _draining(seen, process, now)
    if process.ended:
        return give_up(replica, because(ReasonCode.CRASHING, process.words), now, stop=False)
    if process.address is None:
        return _without_address(replica, process)
    if seen.probe is None:
        return ReplicaChange(replica)
    if seen.refusal is None:
        return _passed(seen, process, now)
    return _missed(replica, process, seen.refusal, now)


def drain(change: ReplicaChange, code: ReasonCode, now: datetime) -> ReplicaChange:
    """Take it out of the routes; end it when its requests are done. One that is not ready has none."""
    replica = change.replica
    if replica.workload is None:
        return ReplicaChange(
            replica, ReplicaStatus.STOPPED, because(code), {"ended_at": now, "base_url": None}, stop_workload=False
        )
    values = {**change.values, "draining_at": now}
    ready = replica.status is ReplicaStatus.READY and change.after is ReplicaStatus.READY
    return ReplicaChange(replica, ReplicaStatus.DRAINING, because(code), values, stop_workload=not ready)


def revive(change: ReplicaChange) -> ReplicaChange:
    """It was on its way out, and is needed again."""
    values = {"draining_at": None}
    return ReplicaChange(change.replica, ReplicaStatus.READY, because(ReasonCode.UP), values)


def revivable(seen: Seen, change: ReplicaChange) -> bool:
    """Whether it could be sent requests at once, as before."""
    replica, process = seen.replica, seen.process
    alive = process is not None and not process.ended and not process.stopping and process.address is not None
    same = process is not None and replica.attempt == process.attempt and replica.base_url is not None
    return alive and same and replica.status is ReplicaStatus.DRAINING and not change.stop_workload and not change.over


def stop(replica: Replica, process: Process | None, code: ReasonCode, now: datetime) -> ReplicaChange:
    """End it now; its program still finishes what it has, within its grace period."""
    if process is None or process.ended:
        return ReplicaChange(replica, ReplicaStatus.STOPPED, because(code), {"ended_at": now, "base_url": None})
    reason = because(ReasonCode.STOPPING)
    return ReplicaChange(
        replica, reason=None if replica.reason == reason else reason, stop_workload=not process.stopping
    )


def give_up(replica: Replica, reason: Reason, now: datetime, *, stop: bool) -> ReplicaChange:
    values = {"ended_at": now, "base_url": None}
    return ReplicaChange(replica, ReplicaStatus.FAILED, reason, values, stop_workload=stop)


def crashes(seen: Seen) -> int:
    """How often in a row it ended while it was starting."""
    process = seen.process
    if process is None:
        return 0
    return min(process.failures, max(0, process.attempts_ended - seen.replica.ready_attempt))


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


def _draining(seen: Seen, process: Process, now: datetime) -> ReplicaChange:
    replica = seen.replica
    if process.ended:
        return ReplicaChange(replica, ReplicaStatus.STOPPED, replica.reason, {"ended_at": now, "base_url": None})
    if process.stopping:
        return ReplicaChange(replica)
    if process.address is None:
        return ReplicaChange(replica, stop_workload=True)
    if not _lingered(replica, now) or seen.probe is None:
        return ReplicaChange(replica)
    assert replica.draining_at is not None, "it has lingered"
    # One that does not say how much it has drains by itself when it is told to end.
    done = not seen.in_flight or now >= replica.draining_at + DRAIN
    return ReplicaChange(replica, values={"in_flight": seen.in_flight, "probed_at": now}, stop_workload=done)


def _lingered(replica: Replica, now: datetime) -> bool:
    return replica.draining_at is not None and now >= replica.draining_at + LINGER


def _without_address(replica: Replica, process: Process) -> ReplicaChange:
    """It is being placed, loads its weights, or died and is started again."""
    began = replica.ready_at is None and not process.failures
    code = ReasonCode.STARTING if began else ReasonCode.RESTARTING
    if process.unplaced:
        code = ReasonCode.NO_CAPACITY
    # Compute's words say what to do themselves.
    reason = Reason(code, process.words) if process.words else because(code)
    if replica.status is ReplicaStatus.READY:
        values = {"base_url": None, "attempt": None, "probe_failures": 0, "in_flight": None}
        return ReplicaChange(replica, ReplicaStatus.STARTING, reason, values)
    return ReplicaChange(replica, reason=reason if reason != replica.reason else None)


def _passed(seen: Seen, process: Process, now: datetime) -> ReplicaChange:
    replica = seen.replica
    values: dict[str, Any] = {"probed_at": now, "probe_failures": 0, "in_flight": seen.in_flight}
    if seen.probe is Probe.COMPLETION:
        values["completed_at"] = now
    if replica.status is ReplicaStatus.READY and replica.attempt == process.attempt:
        return ReplicaChange(replica, values=values)
    values |= {
        "attempt": process.attempt,
        "ready_attempt": process.attempts,
        "base_url": f"{process.address}/v1",
        "slots": process.slots or replica.slots,
        "node": process.node,
        "site": process.site,
        "ready_at": now,
    }
    if replica.ready_at is None:
        values |= cold_start(replica, process, now)
    # A replica whose process was replaced between two looks is ready still, at another address.
    status = None if replica.status is ReplicaStatus.READY else ReplicaStatus.READY
    return ReplicaChange(replica, status, because(ReasonCode.UP), values, mark_ready=process.attempt)


def cold_start(replica: Replica, process: Process, now: datetime) -> dict[str, Any]:
    """How long it took from being wanted to being ready, whole and in the parts whose ends are known."""
    ends = {
        "placed": process.placed_at,
        "started": process.started_at,
        "loaded": process.reported_at,
        "tried_out": now,
    }
    parts: dict[str, int] = {}
    begun = replica.created_at
    for name, end in ends.items():
        if end is not None:
            parts[name] = max(0, round((end - begun) / timedelta(milliseconds=1)))
            begun = max(begun, end)
    whole = max(0, round((now - replica.created_at) / timedelta(milliseconds=1)))
    return {"cold_start_ms": whole, "cold_start": parts}


def _missed(replica: Replica, process: Process, refusal: str, now: datetime) -> ReplicaChange:
    missed = replica.probe_failures + 1
    reason = because(ReasonCode.NOT_ANSWERING, refusal)
    moved = replica.attempt != process.attempt
    if missed >= (PROBES if replica.status is ReplicaStatus.READY and not moved else FIRST_PROBES):
        return give_up(replica, reason, now, stop=True)
    values: dict[str, Any] = {"probe_failures": missed, "probed_at": now}
    if replica.status is ReplicaStatus.READY and moved:
        return ReplicaChange(replica, ReplicaStatus.STARTING, reason, {**values, "base_url": None, "attempt": None})
    return ReplicaChange(replica, reason=reason if reason != replica.reason else None, values=values)
