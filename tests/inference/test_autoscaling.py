"""The rules of autoscaling: single looks by table, whole lives by a state machine on a fake clock."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import ceil

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skerry.inference.model import Demand
from skerry.inference.rules.autoscaling import (
    FRESH,
    ROOM,
    STABLE,
    Decision,
    Limits,
    Memory,
    Pressure,
    ScaleReason,
    scale,
    total,
)
from skerry.kernel.ids import EndpointId

T0 = datetime(2026, 1, 1, tzinfo=UTC)
IDLE = timedelta(seconds=120)
FREE = Limits(least=0, most=10, target=4, idle=IDLE)


def look(
    wanted: int, pressure: Pressure, limits: Limits = FREE, ready: int | None = None, **memory: object
) -> Decision:
    known = replace(Memory(wanted, T0), **memory)
    return scale(limits, pressure, wanted if ready is None else ready, known, T0)


@pytest.mark.parametrize(
    ("wanted", "pressure", "after", "reason"),
    [
        (0, Pressure(waiting=1), 1, ScaleReason.WOKEN),
        (0, Pressure(waiting=100), 2, ScaleReason.WOKEN),
        (0, Pressure(waiting=3, batch_waiting=3), 1, ScaleReason.WOKEN),
        (0, Pressure(), 0, ScaleReason.STEADY),
        (1, Pressure(in_flight=4), 1, ScaleReason.STEADY),
        (1, Pressure(in_flight=4, waiting=1), 2, ScaleReason.DEMAND),
        (1, Pressure(in_flight=4, waiting=100), 3, ScaleReason.DEMAND),
        (4, Pressure(in_flight=16, waiting=100), 8, ScaleReason.DEMAND),
        (8, Pressure(in_flight=32, waiting=100), 10, ScaleReason.DEMAND),
        (10, Pressure(in_flight=40, waiting=100), 10, ScaleReason.AT_MOST),
        (1, Pressure(in_flight=4, waiting=90, batch_waiting=90), 1, ScaleReason.STEADY),
        (2, Pressure(in_flight=3, waiting=1, longest_wait_seconds=3), 3, ScaleReason.QUEUE_TIME),
        (12, Pressure(in_flight=40), 10, ScaleReason.LIMITS),
        (3, Pressure(gateways=0), 3, ScaleReason.BLIND),
    ],
)
def test_one_look(wanted, pressure, after, reason):
    found = look(wanted, pressure)
    assert (found.wanted, found.reason) == (after, reason)


def test_a_long_wait_asks_for_nothing_more_while_a_replica_is_on_its_way():
    slow = Pressure(in_flight=3, waiting=1, longest_wait_seconds=3)
    assert look(2, slow, ready=1).wanted == 2


def test_a_replica_added_for_waiting_times_is_not_taken_away_a_window_later():
    added = look(2, Pressure(in_flight=3, waiting=1, longest_wait_seconds=3)).memory
    later = T0 + 2 * STABLE
    for seconds in range(0, 300, 5):
        found = scale(FREE, Pressure(in_flight=1), 3, added, later + timedelta(seconds=seconds))
        added = found.memory
        assert found.wanted == 3


def test_raised_minimum_holds_at_once():
    assert look(1, Pressure(), replace(FREE, least=3)).wanted == 3


def test_it_never_goes_to_zero_where_a_minimum_is_kept():
    keeps = replace(FREE, least=1)
    found = scale(keeps, Pressure(), 1, Memory(1, T0), T0 + timedelta(days=1))
    assert found.wanted == 1


def test_it_goes_to_zero_when_it_has_been_idle_and_not_before():
    memory = Memory(1, T0)
    assert scale(FREE, Pressure(), 1, memory, T0 + IDLE - timedelta(seconds=1)).wanted == 1
    assert scale(FREE, Pressure(), 1, memory, T0 + IDLE).wanted == 0


def test_requests_too_short_to_be_seen_in_flight_keep_it_from_idling():
    memory, now = Memory(1, T0), T0
    for _ in range(200):
        now += timedelta(seconds=2)
        found = scale(FREE, Pressure(requests_per_minute=60.0), 1, memory, now)
        memory = found.memory
        assert found.wanted == 1


def test_one_short_request_postpones_the_idle_time_by_itself():
    now = T0 + timedelta(seconds=100)
    memory = scale(FREE, Pressure(requests_per_minute=1.0), 1, Memory(1, T0), now).memory
    for _ in range(59):
        now += timedelta(seconds=1)
        memory = scale(FREE, Pressure(requests_per_minute=1.0), 1, memory, now).memory
    assert memory.busy_at == T0 + timedelta(seconds=100)


def test_looks_come_when_something_is_due():
    found = scale(FREE, Pressure(), 1, Memory(1, T0), T0 + IDLE - timedelta(seconds=3))
    assert found.look_in == pytest.approx(3)


def test_what_is_remembered_survives_the_database():
    memory = Memory(3, T0, T0 + STABLE, 2, 1.5, T0 + IDLE)
    assert Memory.of(memory.to_json(), 3, T0) == memory
    assert Memory.of(None, 2, T0) == Memory(2, T0)


def test_gateways_add_up():
    one = Demand(EndpointId("ep_1"), 2, 3, 1.0, 10.0, 5.0, 100.0, batch_waiting=1)
    assert total([one, replace(one, longest_wait_seconds=4.0)], 2) == Pressure(4, 6, 2, 4.0, 20.0, 2)


@dataclass
class Gateway:
    """Reports what it has; a dead one has said its last."""

    waiting: int = 0
    in_flight: int = 0
    waits_since: datetime | None = None
    alive: bool = True
    reported_at: datetime = T0
    said: tuple[int, int, float] = (0, 0, 0.0)

    def report(self, now: datetime) -> None:
        wait = (now - self.waits_since).total_seconds() if self.waiting and self.waits_since else 0.0
        self.said, self.reported_at = (self.in_flight, self.waiting, wait), now


class Life(RuleBasedStateMachine):
    """An endpoint whose replicas take a while to start and die, gateways that come and go, and a controller that is
    killed between deciding and writing."""

    STEP = timedelta(seconds=1)
    START = timedelta(seconds=3)

    @initialize(
        least=st.integers(0, 3), more=st.integers(0, 9), each=st.integers(1, 8), idle=st.sampled_from([5, 60, 300])
    )
    def begin(self, least: int, more: int, each: int, idle: int) -> None:
        self.limits = Limits(least, max(1, least + more), each, timedelta(seconds=idle))
        self.now = T0
        self.memory = Memory(self.limits.least, T0)
        self.replicas: list[datetime] = []
        self.gateways = [Gateway()]

    # What happens

    @rule(requests=st.integers(1, 60), which=st.integers(0, 2))
    def burst(self, requests: int, which: int) -> None:
        gateway = self.gateways[which % len(self.gateways)]
        if gateway.alive:
            gateway.waits_since = gateway.waits_since or self.now
            gateway.waiting += requests
            gateway.report(self.now)
            self.look()
            assert self.memory.wanted >= 1, "a waiting request always gets a replica wanted"

    @rule(seconds=st.integers(1, 40))
    def time_passes(self, seconds: int) -> None:
        self.run(seconds, finish=0.3)

    @rule()
    def all_is_answered(self) -> None:
        for gateway in self.gateways:
            gateway.waiting = gateway.in_flight = 0
            gateway.waits_since = None

    @precondition(lambda self: self.replicas)
    @rule()
    def a_replica_dies(self) -> None:
        self.replicas.pop(0)

    @rule()
    def a_gateway_comes(self) -> None:
        if len(self.gateways) < 3:
            self.gateways.append(Gateway(reported_at=self.now))

    @rule()
    def a_gateway_vanishes(self) -> None:
        if len(self.gateways) > 1:
            self.gateways[-1].alive = False

    @rule()
    def the_controller_dies_before_it_writes(self) -> None:
        self.decide()

    @rule(least=st.integers(0, 2))
    def limits_change(self, least: int) -> None:
        self.limits = replace(self.limits, least=min(least, self.limits.most))

    @rule(load=st.integers(0, 40))
    def steady_load_settles(self, load: int) -> None:
        """Whatever was before: it comes to rest at a number that fits, and stays there."""
        for gateway in self.gateways[1:]:
            gateway.alive = False
        only = self.gateways[0]
        for _ in range(240):
            self.tick(only, load)
        rest = self.memory.wanted
        for _ in range(60):
            self.tick(only, load)
            assert self.memory.wanted == rest, "it flaps"
        most, target = self.limits.most, self.limits.target
        enough = min(most, max(self.limits.least, ceil(load / target)))
        assert rest >= enough
        assert rest <= min(most, max(self.limits.least, 1, ceil(load / (target * ROOM))))
        if not load:
            assert rest == self.limits.least

    # How it goes on

    def tick(self, gateway: Gateway, load: int) -> None:
        """A few seconds of a load that the replicas there are work on as far as they can."""
        self.now += 5 * self.STEP
        slots = self.ready * self.limits.target
        gateway.in_flight, gateway.waiting = min(load, slots), max(0, load - slots)
        full = self.memory.wanted >= self.limits.most
        gateway.waits_since = (gateway.waits_since or self.now) if gateway.waiting and not full else None
        gateway.report(self.now)
        self.look()

    def run(self, seconds: int, finish: float) -> None:
        for _ in range(seconds):
            self.now += self.STEP
            slots = self.ready * self.limits.target
            for gateway in self.gateways:
                if not gateway.alive:
                    continue
                gateway.in_flight -= ceil(gateway.in_flight * finish)
                taken = min(gateway.waiting, max(0, slots - gateway.in_flight))
                gateway.in_flight += taken
                gateway.waiting -= taken
                slots -= taken
                gateway.waits_since = gateway.waits_since if gateway.waiting else None
                gateway.report(self.now)
            self.look()

    @property
    def ready(self) -> int:
        return sum(at <= self.now for at in self.replicas)

    def decide(self) -> Decision:
        fresh = [one for one in self.gateways if one.reported_at > self.now - FRESH]
        demands = [Demand(EndpointId("ep_1"), *one.said, 0.0, 0.0, 0.0) for one in fresh]
        pressure = total(demands, len(fresh))
        decision = scale(self.limits, pressure, self.ready, self.memory, self.now)
        if pressure.waiting or pressure.in_flight:
            assert decision.wanted >= 1, "never to zero while somebody waits"
        assert decision.look_in > 0
        step = abs(decision.wanted - self.memory.wanted)
        inside = self.limits.least <= self.memory.wanted <= self.limits.most
        if inside and decision.wanted > self.memory.wanted:
            assert step <= max(2, self.memory.wanted)
        if inside and 0 < decision.wanted < self.memory.wanted:
            assert step <= max(1, self.memory.wanted // 2)
        return decision

    def look(self) -> None:
        """The controller decides, writes, and makes or ends replicas."""
        decision = self.decide()
        self.memory = Memory.of(decision.memory.to_json(), decision.wanted, self.now)
        del self.replicas[self.memory.wanted :]
        self.replicas += [self.now + self.START] * (self.memory.wanted - len(self.replicas))

    @invariant()
    def within_limits(self) -> None:
        if hasattr(self, "memory"):
            assert self.memory.wanted <= self.limits.most
            assert self.decide().wanted >= self.limits.least


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=30, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
