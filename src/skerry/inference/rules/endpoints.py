"""What becomes of an endpoint and of how many replicas it has."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from skerry.inference.model import Desired, Endpoint, EndpointStatus, ReasonCode, ReplicaStatus, because
from skerry.inference.rules import replicas as one_replica
from skerry.inference.rules.autoscaling import Decision
from skerry.inference.rules.replicas import PROBE_EVERY
from skerry.inference.rules.rollouts import Plan, plan_rollout
from skerry.inference.rules.values import Change, News, Probe, ReplicaChange, Seen
from skerry.runtime.reconciler import back_off_seconds
from skerry.runtime.state import Reason

CRASHES: Final = 3
"""Starts in a row that failed until an endpoint counts as failed rather than starting."""
PARKED_AFTER: Final = 5
"""Starts in a row that failed until it is not tried any more."""
UNSTABLE: Final = 12
"""The same for replicas that do become ready, and crash within two minutes each time."""
POLL_SECONDS: Final = 2.0
"""How long a hint that was lost goes unnoticed."""
RETRY_SECONDS: Final = 1.0
LONGEST_BACK_OFF: Final = 60.0


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of an endpoint. `seen`: the replicas that have not ended, oldest first."""

    endpoint: Endpoint
    seen: Sequence[Seen]
    scaling: Decision
    last_failure: datetime | None
    """When the last replica was given up."""
    now: datetime


def decide(look: Look) -> Change:
    """Of an endpoint whose replicas are workloads of ours."""
    endpoint = look.endpoint
    if endpoint.desired is Desired.STOP:
        return _stop(look)
    if endpoint.parked_at is not None:
        return _parked(look)
    changes = [one_replica.judge(one, look.now) for one in look.seen]
    failures = _failures(endpoint, changes)
    crashed = max((one_replica.crashes(one) for one in look.seen), default=0)
    unstable = max((one.process.failures for one in look.seen if one.process is not None), default=0)
    hopeless = max(crashed, failures) >= PARKED_AFTER or unstable >= UNSTABLE
    if hopeless and not any(change.ready for change in changes):
        return _park(look, changes, max(crashed, failures, unstable if unstable >= UNSTABLE else 0))
    plan = plan_rollout(
        endpoint, look.seen, changes, look.scaling.wanted, look.now, hopeless=max(crashed, failures) >= PARKED_AFTER
    )
    wait = _wait(failures, _last_failure(look, changes), look.now) if plan.create else 0.0
    status, reason = _health(look, plan, max(unstable, failures))
    return Change(
        replicas=tuple(change for change in plan.replicas if not change.empty),
        status=status if status is not endpoint.status else None,
        reason=reason if status is not endpoint.status or reason != endpoint.reason else None,
        values={"failures": failures, **_scaled(look), **plan.values},
        create=plan.create if not wait else 0,
        due_in=min(wait or _due(plan, look.seen), look.scaling.look_in),
        news=(*_scaling_news(look), *_cold_starts(plan.replicas), *plan.news),
    )


def decide_upstream(look: Look, upstreams: int) -> Change:
    """Of an endpoint whose replicas are run by somebody else: there are as many as the model has upstreams."""
    endpoint = look.endpoint
    if endpoint.desired is Desired.STOP:
        return _stop(look)
    up, ready = because(ReasonCode.UPSTREAM), EndpointStatus.READY
    return Change(
        replicas=(),
        status=ready if endpoint.status is not ready else None,
        reason=up if endpoint.status is not ready or endpoint.reason != up else None,
        values={"wanted": upstreams},
        create=0 if look.seen else upstreams,
        due_in=None,
    )


def decide_unfit(look: Look, words: str) -> Change:
    """Of an endpoint whose model does not fit what a replica may use."""
    endpoint, failed = look.endpoint, EndpointStatus.FAILED
    reason = because(ReasonCode.CANNOT_RUN, words)
    return Change(
        replicas=(),
        status=failed if endpoint.status is not failed else None,
        reason=reason if endpoint.status is not failed or endpoint.reason != reason else None,
        values={},
        create=0,
        due_in=LONGEST_BACK_OFF,
    )


def decide_absent(look: Look, words: str, *, failed: bool) -> Change:
    """Of an endpoint whose weights are not here yet, or (`failed`) will never be. `words`: how far they are."""
    endpoint = look.endpoint
    if endpoint.desired is Desired.STOP:
        return _stop(look)
    status = EndpointStatus.FAILED if failed else EndpointStatus.STARTING
    reason = because(ReasonCode.DOWNLOADING, f"{words[:1].upper()}{words[1:]}.")
    return Change(
        replicas=(),
        status=status if endpoint.status is not status else None,
        reason=reason if endpoint.status is not status or endpoint.reason != reason else None,
        values={},
        create=0,
        due_in=POLL_SECONDS,
    )


def _stop(look: Look) -> Change:
    """Drained endpoints let their requests finish first; of removed ones the programs do so themselves."""
    endpoint, removed = look.endpoint, look.endpoint.removed_at is not None
    code = _end_code(endpoint)
    if removed:
        changes = [one_replica.stop(one.replica, one.process, code, look.now) for one in look.seen]
    else:
        changes = [_drain_one(one, look.now) for one in look.seen]
    over = all(change.over for change in changes)
    status = EndpointStatus.STOPPED if over and endpoint.status is not EndpointStatus.STOPPED else None
    going = ReasonCode.DRAINING if code is ReasonCode.DRAINED else ReasonCode.STOPPING
    reason = because(going if not over and code in (ReasonCode.DRAINED, ReasonCode.REMOVED) else code)
    return Change(
        replicas=tuple(change for change in changes if not change.empty),
        status=status,
        reason=reason if reason != endpoint.reason else None,
        values={"failures": endpoint.failures, "parked_at": None},
        create=0,
        due_in=None if over else POLL_SECONDS,
    )


def _end_code(endpoint: Endpoint) -> ReasonCode:
    return ReasonCode(endpoint.stop_code) if endpoint.stop_code else ReasonCode.REMOVED


def _drain_one(seen: Seen, now: datetime) -> ReplicaChange:
    change = one_replica.judge(seen, now)
    if change.over or not change.serves:
        return change
    return one_replica.drain(change, ReasonCode.DRAINED, now)


def _park(look: Look, changes: Sequence[ReplicaChange], times: int) -> Change:
    """End what is left of it, and try no more until somebody has mended it."""
    endpoint = look.endpoint
    words = next((_words(change) for change in changes if _words(change)), endpoint.reason.message)
    log = words.partition("; last lines of its log:")
    told = f"It ended {times} times in a row, so it is not started any more until it is resumed. {_plain(log[0])}"
    advice = ReasonCode.PARKED.advice
    reason = Reason(ReasonCode.PARKED, f"{told} {advice}{log[1]}{_without_advice(log[2])}")
    ended = [
        change if change.over else _give_up(one, change, look.now)
        for one, change in zip(look.seen, changes, strict=True)
    ]
    return Change(
        replicas=tuple(change for change in ended if not change.empty),
        status=EndpointStatus.FAILED if endpoint.status is not EndpointStatus.FAILED else None,
        reason=reason,
        values={"parked_at": look.now, "failures": max(times, PARKED_AFTER), **_scaled(look)},
        create=0,
        due_in=None,
        news=(News("endpoint.parked", {"failures": times, "reason": reason.to_json()}),),
    )


def _parked(look: Look) -> Change:
    changes = [
        one_replica.stop(one.replica, one.process, ReasonCode.PARKED, look.now) for one in look.seen if one.process
    ]
    left = [change for change in changes if not change.over]
    return Change(
        replicas=tuple(change for change in changes if not change.empty),
        status=None,
        reason=None,
        values={},
        create=0,
        due_in=POLL_SECONDS if left else None,
    )


def _give_up(seen: Seen, change: ReplicaChange, now: datetime) -> ReplicaChange:
    reason = change.reason or seen.replica.reason
    ended = seen.process is None or seen.process.ended
    return one_replica.give_up(seen.replica, reason, now, stop=not ended)


def _words(change: ReplicaChange) -> str:
    bad = change.after in (ReplicaStatus.STARTING, ReplicaStatus.FAILED)
    return (change.reason or change.replica.reason).message if bad else ""


def _plain(words: str) -> str:
    """Without compute's own promise to start it again."""
    begun = words.partition("Attempt ")
    return begun[1] + begun[2] if begun[1] and begun[0].startswith("Next start in") else words


def _without_advice(log: str) -> str:
    """Compute's advice comes after the log, on a line of its own."""
    kept, _, last = log.rpartition("\n")
    return kept if last.strip().startswith("Read the logs") else log


def _failures(endpoint: Endpoint, changes: Sequence[ReplicaChange]) -> int:
    if any(change.status is ReplicaStatus.READY for change in changes):
        return 0
    return endpoint.failures + sum(change.status is ReplicaStatus.FAILED for change in changes)


def _last_failure(look: Look, changes: Sequence[ReplicaChange]) -> datetime | None:
    failed = any(change.over and change.after is ReplicaStatus.FAILED for change in changes)
    return look.now if failed else look.last_failure


def _wait(failures: int, last_failure: datetime | None, now: datetime) -> float:
    """Seconds until a replica that was given up may be replaced."""
    if not failures or last_failure is None:
        return 0.0
    pause = back_off_seconds(failures, LONGEST_BACK_OFF)
    return max(0.0, pause - (now - last_failure).total_seconds())


def _scaled(look: Look) -> dict[str, Any]:
    return {
        "wanted": look.scaling.wanted,
        "scaling": {**look.scaling.memory.to_json(), "reason": look.scaling.reason.value},
    }


def _scaling_news(look: Look) -> tuple[News, ...]:
    before, after = look.endpoint.wanted, look.scaling.wanted
    if before == after:
        return ()
    return (News("endpoint.scaled", {"before": before, "after": after, "why": look.scaling.reason.value}),)


def _cold_starts(changes: Sequence[ReplicaChange]) -> tuple[News, ...]:
    return tuple(
        News(
            "endpoint.cold_start",
            {
                "replica": change.replica.id,
                "cold_start_ms": change.values["cold_start_ms"],
                "parts_ms": dict(change.values["cold_start"]),
            },
        )
        for change in changes
        if "cold_start_ms" in change.values
    )


def _health(look: Look, plan: Plan, failures: int) -> tuple[EndpointStatus, Reason]:
    endpoint, wanted = look.endpoint, look.scaling.wanted
    if not wanted and not any(change.serves for change in plan.replicas):
        idle = endpoint.idle_timeout_seconds
        words = f"It had no requests for {idle} s." if idle else "It had no requests for a while."
        return EndpointStatus.STOPPED, because(ReasonCode.SCALED_TO_ZERO, words)
    ready = sum(change.ready for change in plan.replicas)
    behind = next((c.reason or c.replica.reason for c in plan.replicas if _is_behind(c)), None)
    words = behind.message if behind is not None else ""
    if ready and plan.rolling:
        return EndpointStatus.READY, because(ReasonCode.ROLLING_OUT, words)
    if ready >= wanted:
        return EndpointStatus.READY, because(ReasonCode.UP)
    if ready:
        enough = ready >= max(1, endpoint.min_replicas)
        status = EndpointStatus.READY if enough else EndpointStatus.DEGRADED
        return status, because(ReasonCode.REPLICAS_MISSING, words)
    if failures >= CRASHES:
        return EndpointStatus.FAILED, Reason(ReasonCode.CRASHING, words or because(ReasonCode.CRASHING).message)
    if behind is None:
        behind = because(ReasonCode.NEW)
    # What has failed stays failed until it is ready: trying once more is no news.
    kept = endpoint.status is EndpointStatus.FAILED and endpoint.failures > 0
    return EndpointStatus.FAILED if kept else EndpointStatus.STARTING, behind


def _is_behind(change: ReplicaChange) -> bool:
    return change.after in (ReplicaStatus.STARTING, ReplicaStatus.FAILED)


def _due(plan: Plan, seen: Sequence[Seen]) -> float:
    live = [change for change in plan.replicas if not change.over]
    if all(change.ready for change in live) and not plan.create:
        failing = any(change.values.get("probe_failures") for change in live)
        return RETRY_SECONDS if failing else PROBE_EVERY.total_seconds()
    tried = any(one.probe is Probe.COMPLETION and one.refusal is not None for one in seen)
    return RETRY_SECONDS if tried else POLL_SECONDS
