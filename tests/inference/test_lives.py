"""Whole lives of an endpoint on a fake clock: autoscaling, replicas and rollouts together, and everything goes wrong.

Rows are kept in memory and written as the reconciler writes them; compute is a list of processes that start, report,
crash and end. What the rules promise is asked after each step.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from skerry.inference.model import (
    ENDPOINT_TRANSITIONS,
    REPLICA_TRANSITIONS,
    Desired,
    Endpoint,
    EndpointKind,
    EndpointStatus,
    ReasonCode,
    Replica,
    ReplicaStatus,
    because,
)
from skerry.inference.rules.autoscaling import Limits, Memory, Pressure, scale
from skerry.inference.rules.endpoints import PARKED_AFTER, Look, decide
from skerry.inference.rules.replicas import DRAIN, LINGER, wanted_probe
from skerry.inference.rules.values import Change, Probe, Process, Seen
from skerry.kernel.ids import AttemptId, EndpointId, ModelId, ProjectId, ReplicaId, WorkloadId

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SLOTS = 4
IDLE = 60


@dataclass
class Server:
    """A workload of compute with its process."""

    attempts: int = 0
    failures: int = 0
    running: bool = False
    reported: bool = False
    stopping: bool = False
    ended: bool = False
    node_leaves: bool = False
    in_flight: int = 0

    @property
    def process(self) -> Process:
        return Process(
            ended=self.ended,
            stopping=self.stopping,
            failures=self.failures,
            words="Attempt: exit code 1; last lines of its log:\nno memory",
            attempt=AttemptId(f"att_{self.attempts}") if self.running else None,
            attempts=self.attempts,
            address=f"http://127.0.0.1:{4000 + self.attempts}" if self.reported else None,
            slots=SLOTS,
            node_leaves=self.node_leaves,
        )


@dataclass
class World:
    """The rows, and what runs."""

    endpoint: Endpoint
    now: datetime = T0
    replicas: dict[str, Replica] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)
    load: int = 0
    last_failure: datetime | None = None
    broken: set[int] = field(default_factory=set)
    """Versions whose program crashes at once."""
    cut: int = 0
    """Requests that were cut off."""

    def live(self) -> Iterator[Replica]:
        return (one for one in self.replicas.values() if one.ended_at is None)

    def routed(self) -> list[Replica]:
        """Where requests are sent, as `Inference.routes` has it."""
        if self.endpoint.desired is Desired.STOP:
            return []
        return [
            one
            for one in self.live()
            if one.status is ReplicaStatus.READY and one.base_url and one.model == self.endpoint.model
        ]

    def look(self) -> Change:
        state = self.endpoint
        seen = [self._see(one) for one in self.live()]
        ready = sum(one.status is ReplicaStatus.READY for one in self.live())
        limits = Limits(state.min_replicas, state.max_replicas, SLOTS, timedelta(seconds=IDLE))
        memory = Memory.of(state.scaling, state.wanted, state.created_at)
        in_flight = min(self.load, SLOTS * len(self.routed()))
        pressure = Pressure(in_flight, self.load - in_flight)
        scaling = scale(limits, pressure, ready, memory, self.now)
        if self.load:
            assert scaling.wanted >= 1
        assert scaling.wanted <= state.max_replicas
        return decide(Look(state, seen, scaling, self.last_failure, self.now))

    def write(self, change: Change) -> None:
        for one in change.replicas:
            row = self.replicas[one.replica.id]
            if one.status is not None and one.status is not row.status:
                REPLICA_TRANSITIONS.require(row.status, one.status)
            row = replace(row, status=one.after, reason=one.reason or row.reason, **one.values)
            self.replicas[row.id] = row
            if one.stop_workload:
                self.servers[row.id].stopping = True
            if row.ended_at is not None and row.status is ReplicaStatus.FAILED:
                self.last_failure = row.ended_at
        for _ in range(change.create):
            self._make()
        if change.status is not None:
            ENDPOINT_TRANSITIONS.require(self.endpoint.status, change.status)
        known = {name: value for name, value in change.values.items() if name != "takes"}
        status = change.status or self.endpoint.status
        self.endpoint = replace(self.endpoint, status=status, reason=change.reason or self.endpoint.reason, **known)

    def run(self) -> None:
        """One second: processes start, crash, serve and end."""
        self.now += timedelta(seconds=1)
        routed = self.routed()
        for one in self.live():
            server = self.servers[one.id]
            if server.stopping:
                self.cut += server.in_flight
                server.ended, server.running, server.reported = True, False, False
            elif not server.running:
                server.attempts, server.running = server.attempts + 1, True
            elif one.version in self.broken:
                server.running, server.reported, server.failures = False, False, server.failures + 1
            else:
                server.reported = True
        sent = {one.id for one in routed}
        for id, server in self.servers.items():
            # What is routed elsewhere by now still has what it was sent, for some seconds.
            server.in_flight = 0 if id in sent else max(0, server.in_flight - 1)
        for number in range(min(self.load, SLOTS * len(routed))):
            self.servers[routed[number % len(routed)].id].in_flight += 1

    def _see(self, replica: Replica) -> Seen:
        server = self.servers[replica.id]
        probe = wanted_probe(self.endpoint, replica, server.process, self.now)
        told = server.in_flight if probe is Probe.HEALTH else None
        return Seen(replica, server.process, probe, in_flight=told)

    def _make(self) -> None:
        id = ReplicaId(f"rep_{len(self.replicas):05}")
        self.servers[id] = Server()
        self.replicas[id] = Replica(
            id=id, project=self.endpoint.project, endpoint=self.endpoint.id, status=ReplicaStatus.STARTING,
            reason=because(ReasonCode.NEW), slots=SLOTS, created_at=self.now, updated_at=self.now,
            workload=WorkloadId(f"wl_{id}"), model=self.endpoint.coming_model, version=self.endpoint.version,
        )  # fmt: skip


class Life(RuleBasedStateMachine):
    @initialize(least=st.integers(0, 2), more=st.integers(0, 4))
    def begin(self, least: int, more: int) -> None:
        most = max(1, least + more)
        self.world = World(
            Endpoint(
                id=EndpointId("ep_1"), project=ProjectId("proj_1"), name="near", model=ModelId("model_1"),
                kind=EndpointKind.SHARED, shared=True, capacity_class="on_demand", charge_by="tokens",
                min_replicas=least, max_replicas=most, desired=Desired.RUN, status=EndpointStatus.STARTING,
                reason=because(ReasonCode.NEW), created_at=T0, updated_at=T0, wanted=max(1, least),
            )
        )  # fmt: skip

    @property
    def endpoint(self) -> Endpoint:
        return self.world.endpoint

    def step(self, seconds: int) -> None:
        for _ in range(seconds):
            before = bool(self.world.routed())
            self.world.write(self.world.look())
            running = sum(not one.ended and not one.stopping for one in self.world.servers.values())
            assert running <= 2 * self.endpoint.max_replicas + 1, "a rollout has a few more, never many"
            if before and self.endpoint.desired is Desired.RUN and self.world.load:
                assert self.world.routed(), "what serves is not taken away while somebody needs it"
            self.world.run()
            assert not self.world.cut, "a request was cut off"

    @rule(seconds=st.integers(1, 30))
    def time_passes(self, seconds: int) -> None:
        self.step(seconds)

    @rule(load=st.integers(0, 20))
    def demand_changes(self, load: int) -> None:
        self.world.load = load
        self.step(1)

    @precondition(lambda self: any(one.reported for one in self.world.servers.values()))
    @rule()
    def a_process_is_killed(self) -> None:
        server = next(one for one in self.world.servers.values() if one.reported)
        server.running, server.reported, server.failures, server.in_flight = False, False, server.failures + 1, 0
        self.world.write(self.world.look())

    @rule()
    def a_node_is_emptied(self) -> None:
        running = [one for one in self.world.servers.values() if one.running and not one.node_leaves]
        if running and not any(one.node_leaves and not one.ended for one in self.world.servers.values()):
            running[0].node_leaves = True
        self.step(1)

    @rule()
    def the_controller_dies_before_it_writes(self) -> None:
        self.world.look()

    @precondition(lambda self: self.endpoint.desired is Desired.RUN)
    @rule()
    def it_is_drained(self) -> None:
        self.world.endpoint = replace(self.endpoint, desired=Desired.STOP, stop_code="drained")
        self.step(1)

    @rule()
    def it_is_resumed(self) -> None:
        self.world.endpoint = replace(
            self.endpoint, desired=Desired.RUN, stop_code=None, parked_at=None, failures=0,
            wanted=max(1, self.endpoint.min_replicas), scaling=Memory(1, self.world.now).to_json(),
        )  # fmt: skip
        self.step(1)

    @rule(other=st.booleans(), broken=st.booleans())
    def it_is_rolled_out(self, other: bool, broken: bool) -> None:
        state = self.endpoint
        under_way = any(one.version != state.version for one in self.world.live())
        if state.desired is Desired.STOP or state.next_model or under_way:
            return
        coming = ModelId("model_2" if state.model == "model_1" else "model_1") if other else None
        if broken:
            self.world.broken.add(state.version + 1)
        self.world.endpoint = replace(state, version=state.version + 1, next_model=coming, parked_at=None, failures=0)
        self.step(1)

    @rule(least=st.integers(0, 2), most=st.integers(1, 5))
    def limits_change(self, least: int, most: int) -> None:
        again = {"parked_at": None, "failures": 0} if self.endpoint.parked_at else {}
        self.world.endpoint = replace(self.endpoint, min_replicas=min(least, most), max_replicas=most, **again)
        self.step(1)

    @rule(load=st.integers(0, 20))
    def it_comes_to_rest(self, load: int) -> None:
        """Left alone, it is what it should be: as many as needed, none too many, parked, or drained."""
        world = self.world
        world.load = load
        self.step(int(LINGER.total_seconds()) + 60)
        self.step(int(DRAIN.total_seconds()) // 2 + 200)
        state, live = self.endpoint, [one for one in world.live() if not world.servers[one.id].ended]
        if state.desired is Desired.STOP:
            assert (state.status, live) == (EndpointStatus.STOPPED, [])
        elif state.parked_at is not None:
            assert state.status is EndpointStatus.FAILED
            assert live == []
            assert state.failures >= PARKED_AFTER
            assert state.reason.code == ReasonCode.PARKED
        else:
            routed = world.routed()
            assert len(routed) == state.wanted
            assert len(routed) >= min(state.max_replicas, -(-load // SLOTS))
            assert len(live) == len(routed), "nothing is left over"
            assert not any(world.servers[one.id].node_leaves for one in live), "what is to be emptied is empty"
            assert state.next_model is None
            assert state.status is (EndpointStatus.READY if routed else EndpointStatus.STOPPED)
            if not load:
                assert len(routed) == state.min_replicas


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=25, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
