"""Which replicas are made and which go: to the number wanted, and from an old version to a new one.

Replicas of a rollout come one at a time, each ready before an old one goes. To another model all of the new ones are
ready before any is used, since a route has one model, with its price and its limits; then all old ones go. Replicas on
a node that is being emptied are replaced like old ones.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from skerry.inference.model import Endpoint, ReasonCode
from skerry.inference.rules import replicas as one_replica
from skerry.inference.rules.values import News, ReplicaChange, Seen
from skerry.kernel.ids import ReplicaId


@dataclass(frozen=True, slots=True)
class Plan:
    """`create`: replicas to make, of the endpoint's newest version. `rolling`: old ones are still in use."""

    replicas: tuple[ReplicaChange, ...]
    create: int
    rolling: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)
    """Of the endpoint's row."""
    news: tuple[News, ...] = ()


def plan_rollout(
    endpoint: Endpoint,
    seen: Sequence[Seen],
    changes: Sequence[ReplicaChange],
    wanted: int,
    now: datetime,
    *,
    hopeless: bool = False,
) -> Plan:
    """`changes`: what becomes of each replica seen by itself. `hopeless`: new ones crash again and again."""
    leaving = {one.replica.id for one in seen if one.process is not None and one.process.node_leaves}
    before = [change for change in changes if change.serves and change.replica.version != endpoint.version]
    old = [*before, *(one for one in changes if one.serves and one.replica.id in leaving and one not in before)]
    if not old and endpoint.next_model is None:
        return _to_number(endpoint, seen, changes, wanted, now, leaving)
    new = [change for change in changes if change.serves and change not in old]
    ready = sum(change.ready for change in new)
    if hopeless and before and not ready and any(change.ready for change in before):
        return _called_off(endpoint, changes, new, old, now)
    if endpoint.next_model is not None:
        done = ready >= wanted
        gone = old if done else []
    else:
        useless = [change for change in old if not change.ready]
        serving = [change for change in old if change.ready]
        spare = max(0, len(serving) + ready - wanted)
        gone = useless + serving[: min(spare, len(serving))]
        done = len(gone) == len(old)
    excess = _least_needed(new, len(new) - wanted) if len(new) > wanted else []
    drained = {change.replica.id: ReasonCode.REPLACED for change in gone}
    drained |= {change.replica.id: ReasonCode.NODE_EMPTIED for change in gone if change not in before}
    drained |= {change.replica.id: ReasonCode.SCALED_DOWN for change in excess}
    after = tuple(
        one_replica.drain(change, drained[change.replica.id], now) if change.replica.id in drained else change
        for change in changes
    )
    alone = not any(change.ready for change in changes)
    missing = max(0, wanted - len(new))
    create = missing if alone else min(missing, 1 if len(new) == ready else 0)
    values, news = _finished(endpoint) if done and (before or endpoint.next_model) else ({}, ())
    return Plan(after, create, rolling=not done, values=values, news=news)


def _called_off(
    endpoint: Endpoint,
    changes: Sequence[ReplicaChange],
    new: Sequence[ReplicaChange],
    old: Sequence[ReplicaChange],
    now: datetime,
) -> Plan:
    """Back to what works."""
    failed = {change.replica.id for change in new}
    after = tuple(
        one_replica.drain(change, ReasonCode.CRASHING, now) if change.replica.id in failed else change
        for change in changes
    )
    words = next(((change.reason or change.replica.reason).message for change in new), "")
    values = {"version": max(change.replica.version for change in old), "next_model": None, "failures": 0}
    data = {"version": endpoint.version, "model": endpoint.coming_model, "message": words}
    return Plan(after, create=0, values=values, news=(News("endpoint.rollout_failed", data),))


def _finished(endpoint: Endpoint) -> tuple[Mapping[str, Any], tuple[News, ...]]:
    values = {} if endpoint.next_model is None else {"model": endpoint.next_model, "next_model": None}
    return values, (News("endpoint.rolled_out", {"version": endpoint.version, "model": endpoint.coming_model}),)


def _to_number(
    endpoint: Endpoint,
    seen: Sequence[Seen],
    changes: Sequence[ReplicaChange],
    wanted: int,
    now: datetime,
    leaving: Collection[ReplicaId],
) -> Plan:
    live = [change for change in changes if change.serves]
    missing = wanted - len(live)
    if missing < 0:
        gone = {change.replica.id for change in _least_needed(live, -missing)}
        after = tuple(
            one_replica.drain(change, ReasonCode.SCALED_DOWN, now) if change.replica.id in gone else change
            for change in changes
        )
        return Plan(after, create=0)
    back = {
        one.replica.id
        for one, change in zip(seen, changes, strict=True)
        if one.replica.version == endpoint.version
        and one.replica.id not in leaving
        and one_replica.revivable(one, change)
    }
    revived = set(sorted(back)[:missing])
    after = tuple(one_replica.revive(change) if change.replica.id in revived else change for change in changes)
    return Plan(after, create=missing - len(revived))


def _least_needed(live: Sequence[ReplicaChange], count: int) -> Sequence[ReplicaChange]:
    """Those that are not ready first, then those with the fewest requests, the newest of them."""
    ordered = sorted(live, key=lambda change: change.replica.id, reverse=True)
    ordered.sort(key=lambda change: (change.ready, change.replica.in_flight or 0))
    return ordered[:count]
