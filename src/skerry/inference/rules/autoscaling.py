"""How many replicas an endpoint should have: what is demanded in, a number with its reason out. Pure.

Up at once, down slowly. The level that demand calls for is absolute (requests over what one replica takes), so looking
twice never asks for more than looking once; only the rule for queue time adds one to what there is, and only when all
that was asked for has come. Down goes a step at a time, to no less than the highest level of a whole window, and a
replica is taken away only where the rest has room to spare: what came down does not go up again by itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil
from typing import Any, Final

from skerry.inference.model import Demand
from skerry.kernel.clock import rfc3339

FRESH: Final = timedelta(seconds=15)
"""What a gateway said longer ago counts as gone: so may the gateway be."""
STABLE: Final = timedelta(seconds=60)
"""Demand has to be lower for so long before a replica is taken away."""
ROOM: Final = 0.75
"""Share of what they take to which the replicas that stay may be filled when others are taken away."""
QUEUE_SECONDS: Final = 2.0
"""A longer wait calls for one more replica, although there seem to be enough."""
IDLE_SECONDS: Final = 900
"""`idle_timeout_seconds` of an endpoint that may go to zero and does not say."""
HOLD: Final = timedelta(minutes=10)
"""A replica that was added for waiting times stays so long: without it the same waits would come back."""
_MINUTE: Final = 60.0
_LOOK_SECONDS: Final = 2.0
_REST_SECONDS: Final = 10.0


class ScaleReason(StrEnum):
    """Why an endpoint is to have the replicas it is to have."""

    STEADY = "steady"
    """Demand is met."""
    DEMAND = "demand"
    """More requests at once than the replicas take."""
    QUEUE_TIME = "queue_time"
    """Requests wait longer than they should."""
    WOKEN = "woken"
    """There was no replica, and a request came."""
    QUIET = "quiet"
    """Fewer requests for a whole window."""
    IDLE = "idle"
    """No request for `idle_timeout_seconds`."""
    LIMITS = "limits"
    """`min_replicas` or `max_replicas` was changed."""
    AT_MOST = "at_most"
    """Demand calls for more, `max_replicas` does not allow it."""
    BLIND = "blind"
    """No gateway has said anything lately, so nothing is taken away."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`target`: requests that one replica is to work on at once, at least 1. `idle` None: it never goes to zero."""

    least: int
    most: int
    target: int
    idle: timedelta | None


@dataclass(frozen=True, slots=True)
class Pressure:
    """What all gateways that are alive have of an endpoint now."""

    in_flight: int = 0
    waiting: int = 0
    batch_waiting: int = 0
    """Of `waiting`."""
    longest_wait_seconds: float = 0.0
    requests_per_minute: float = 0.0
    gateways: int = 1
    """That are alive, whether they have requests or not."""

    @property
    def busy(self) -> bool:
        return self.in_flight > 0 or self.waiting > 0


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of an endpoint between two looks; kept in its row."""

    wanted: int
    busy_at: datetime
    """When there was a request last, as far as is known."""
    low_since: datetime | None = None
    """Since when fewer replicas would do."""
    low_peak: int = 0
    """The most that were called for since then."""
    seen_rate: float = 0.0
    """Requests a minute at the last look: more at the next one means that one has come."""
    held_until: datetime | None = None
    """Until when nothing is taken away but to zero."""

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        return {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in values.items()}

    @classmethod
    def of(cls, value: Mapping[str, Any] | None, wanted: int, since: datetime) -> "Memory":
        """From its row; `since` is when the endpoint began, where nothing is remembered yet."""
        if not value:
            return cls(wanted, since)
        return cls(
            wanted=wanted,
            busy_at=datetime.fromisoformat(value["busy_at"]),
            low_since=_moment(value.get("low_since")),
            low_peak=int(value.get("low_peak", 0)),
            seen_rate=float(value.get("seen_rate", 0.0)),
            held_until=_moment(value.get("held_until")),
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """`look_in`: seconds until this may come out differently although nothing is heard."""

    wanted: int
    reason: ScaleReason
    memory: Memory
    look_in: float


def total(demands: Iterable[Demand], gateways: int) -> Pressure:
    """The demand of several gateways as one. Those that are too old are not to be among them."""
    known = list(demands)
    return Pressure(
        in_flight=sum(one.in_flight for one in known),
        waiting=sum(one.waiting for one in known),
        batch_waiting=sum(min(one.batch_waiting, one.waiting) for one in known),
        longest_wait_seconds=max((one.longest_wait_seconds for one in known), default=0.0),
        requests_per_minute=sum(one.requests_per_minute for one in known),
        gateways=gateways,
    )


def scale(limits: Limits, pressure: Pressure, ready: int, memory: Memory, now: datetime) -> Decision:
    """`ready`: replicas that take requests now, of the `memory.wanted` that were wanted at the last look."""
    memory = replace(memory, busy_at=_busy_at(pressure, memory, now), seen_rate=pressure.requests_per_minute)
    before = memory.wanted
    least = max(limits.least, 1 if pressure.busy else 0)
    inside = min(max(before, least), limits.most)
    called = _called_for(limits, pressure, limits.target)
    if called <= inside and _is_slow(pressure) and 0 < before <= ready:
        # While replicas are on their way a long wait says nothing new.
        called = before + 1
        if called <= limits.most:
            held = replace(memory, held_until=now + HOLD)
            return _settle(held, called, ScaleReason.QUEUE_TIME)
    if called > inside and inside < limits.most:
        # At once, to at most twice as many; two more where there are few.
        wanted = min(called, max(2 * before, before + 2), limits.most)
        return _settle(memory, max(wanted, least), ScaleReason.DEMAND if before else ScaleReason.WOKEN)
    if inside != before:
        return _settle(memory, inside, ScaleReason.WOKEN if not before and pressure.busy else ScaleReason.LIMITS)
    if called > limits.most:
        return _settle(memory, inside, ScaleReason.AT_MOST)
    return _perhaps_down(limits, pressure, memory, now)


def _called_for(limits: Limits, pressure: Pressure, each: float) -> int:
    """Replicas that the requests of this moment call for, `each` for one. Rows of batches that wait alone: one."""
    requests = pressure.in_flight + pressure.waiting - pressure.batch_waiting
    return max(ceil(requests / each), 1 if pressure.busy else 0)


def _is_slow(pressure: Pressure) -> bool:
    return pressure.waiting > pressure.batch_waiting and pressure.longest_wait_seconds >= QUEUE_SECONDS


def _perhaps_down(limits: Limits, pressure: Pressure, memory: Memory, now: datetime) -> Decision:
    wanted = memory.wanted
    if not pressure.gateways:
        return _settle(memory, wanted, ScaleReason.BLIND)
    idle_left = _idle_left(limits, pressure, memory, now)
    if idle_left is not None and idle_left <= 0 and wanted:
        return _settle(memory, 0, ScaleReason.IDLE)
    would_do = max(limits.least, min(wanted, 1), _called_for(limits, pressure, limits.target * ROOM))
    held = memory.held_until is not None and now < memory.held_until
    if would_do >= wanted or held:
        calm = replace(memory, low_since=None, low_peak=0)
        return Decision(wanted, ScaleReason.STEADY, calm, _soonest(pressure, idle_left))
    since, peak = memory.low_since or now, max(memory.low_peak, would_do)
    left = (since + STABLE - now).total_seconds()
    if left > 0:
        lower = replace(memory, low_since=since, low_peak=peak)
        return Decision(wanted, ScaleReason.STEADY, lower, min(left, _soonest(pressure, idle_left)))
    return _settle(memory, max(peak, wanted - max(1, wanted // 2)), ScaleReason.QUIET)


def _settle(memory: Memory, wanted: int, reason: ScaleReason) -> Decision:
    """A new number, or one that nothing can be done about: the window begins anew."""
    return Decision(wanted, reason, replace(memory, wanted=wanted, low_since=None, low_peak=0), _LOOK_SECONDS)


def _busy_at(pressure: Pressure, memory: Memory, now: datetime) -> datetime:
    """Requests shorter than the pause between two reports are seen in the rate alone: when it rises one has come now,
    and of n requests in the last minute the last one most likely came within the last n-th of it."""
    rate = pressure.requests_per_minute
    if pressure.busy or rate > memory.seen_rate:
        return max(memory.busy_at, now)
    if rate >= 1:
        return max(memory.busy_at, now - timedelta(seconds=_MINUTE / rate))
    return memory.busy_at


def _idle_left(limits: Limits, pressure: Pressure, memory: Memory, now: datetime) -> float | None:
    """Seconds until it is taken to zero; None where it is not."""
    if limits.least or limits.idle is None or pressure.busy:
        return None
    return (memory.busy_at + limits.idle - now).total_seconds()


def _soonest(pressure: Pressure, idle_left: float | None) -> float:
    rest = _LOOK_SECONDS if pressure.busy or pressure.requests_per_minute else _REST_SECONDS
    return rest if idle_left is None else max(0.05, min(rest, idle_left))


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
