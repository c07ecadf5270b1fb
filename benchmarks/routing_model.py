"""Replicas with a prompt cache, simulated event by event; the gateway's real policies choose among them.

A replica reads prompts one after the other (`prefill` tokens/s, cached blocks for nothing) while it writes the answers
of all its requests at once. Its cache holds `cache` tokens in blocks of 512, dropped least recently used, deepest
first. What an engine does beyond that (chunked prefill, preemption, transfers of caches) is left out.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from skerry.inference.gateway.routing.base import Policy, Server

BLOCK = 512


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a trace. `at` in seconds."""

    at: float
    prompt: int
    answer: int
    blocks: tuple[int, ...]
    prefix: bytes
    size: int
    """Bytes of the whole prompt; `prefix` is cut."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What each replica can do."""

    prefill: float = 16_000.0
    """Tokens of prompts a second."""
    cache: int = 1_000_000
    """Tokens."""
    slots: int = 128
    step: float = 0.012
    """Seconds for a token of each answer, alone."""
    crowd: float = 0.0003
    """Seconds more for each other answer that is being written."""


@dataclass(slots=True, eq=False)
class Replica:
    servers: list[Server]
    """It as each gateway sees it: each counts what it sent itself."""
    machine: Machine
    cache: OrderedDict[int, None] = field(default_factory=OrderedDict)
    queue: deque["Flight"] = field(default_factory=deque)
    reading: "Flight | None" = None
    ready_at: float = 0.0
    """When it has read what it is reading."""
    work: float = 0.0
    """Seconds it has read."""
    writing: int = 0

    @classmethod
    def new(cls, number: int, machine: Machine, gateways: int) -> "Replica":
        return cls([Server(f"replica-{number}", machine.slots) for _ in range(gateways)], machine)

    @property
    def in_flight(self) -> int:
        return sum(server.in_flight for server in self.servers)

    def cached(self, call: Call) -> int:
        """Tokens of the prompt that need not be read. The last token always is."""
        count = 0
        for block in call.blocks:
            if block not in self.cache:
                break
            count += 1
        return min(count * BLOCK, call.prompt - 1)

    def keep(self, call: Call) -> None:
        for block in reversed(call.blocks):
            self.cache[block] = None
            self.cache.move_to_end(block)
        while len(self.cache) * BLOCK > self.machine.cache:
            self.cache.popitem(last=False)

    def backlog(self, now: float) -> float:
        """Seconds until it would begin to read one more prompt."""
        waiting = max(self.ready_at - now, 0.0) if self.reading else 0.0
        return waiting + sum(flight.expected for flight in self.queue)


@dataclass(slots=True, eq=False)
class Flight:
    call: Call
    replica: Replica
    server: Server
    expected: float = 0.0
    """Seconds of reading, as known when it was sent."""


@dataclass(slots=True)
class Outcome:
    cached: int = 0
    prompt: int = 0
    first: list[float] = field(default_factory=list)
    """Seconds to the first token of each request."""
    imbalance: float = 0.0
    """Requests of the busiest replica over the mean, averaged over arrivals."""
    busy: float = 0.0
    """Share of the time a replica was reading."""


Choice = Callable[[list[Replica], Call, float, int], "Replica | None"]
"""(replicas, call, now, gateway) → the chosen one, or None where all are full."""


class Simulation:
    def __init__(self, replicas: list[Replica], choose: Choice) -> None:
        self.replicas, self._choose = replicas, choose
        self._events: list[tuple[float, int, int, Flight]] = []
        self._count = 0
        self._waiting: list[deque[Call]] = []
        self.outcome = Outcome()

    def run(self, calls: list[Call], gateways: int = 1) -> Outcome:
        self._waiting = [deque() for _ in range(gateways)]
        samples, skew, now = 0, 0.0, 0.0
        for number, call in enumerate(calls):
            self._until(call.at)
            now = call.at
            # Clients keep no order among gateways; this is as good as chance, and the same for every policy.
            self._arrive(call, now, number * 7919 % 104729 % gateways)
            loads = [replica.in_flight for replica in self.replicas]
            if sum(loads) >= len(loads):
                samples += 1
                skew += max(loads) * len(loads) / sum(loads)
        self._until(float("inf"))
        self.outcome.imbalance = skew / max(samples, 1)
        self.outcome.busy = sum(replica.work for replica in self.replicas) / len(self.replicas) / max(now, 1e-9)
        return self.outcome

    def _until(self, time: float) -> None:
        while self._events and self._events[0][0] <= time:
            now, _, kind, flight = heapq.heappop(self._events)
            if kind == 0:
                self._read(flight, now)
            else:
                self._end(flight, now)

    def _arrive(self, call: Call, now: float, gateway: int) -> None:
        if self._waiting[gateway] or not self._send(call, now, gateway):
            self._waiting[gateway].append(call)

    def _send(self, call: Call, now: float, gateway: int) -> bool:
        replica = self._choose(self.replicas, call, now, gateway)
        if replica is None:
            return False
        server = replica.servers[gateway]
        flight = Flight(call, replica, server)
        flight.expected = (call.prompt - replica.cached(call)) / replica.machine.prefill
        server.in_flight += 1
        server.unread += call.size
        replica.queue.append(flight)
        if replica.reading is None:
            self._begin(replica, now)
        return True

    def _begin(self, replica: Replica, now: float) -> None:
        flight = replica.reading = replica.queue.popleft()
        cached = replica.cached(flight.call)
        self.outcome.cached += cached
        self.outcome.prompt += flight.call.prompt
        seconds = (flight.call.prompt - cached) / replica.machine.prefill
        replica.work += seconds
        replica.ready_at = now + seconds
        self._at(replica.ready_at, 0, flight)

    def _read(self, flight: Flight, now: float) -> None:
        """The prompt is read: the first token comes."""
        replica, machine = flight.replica, flight.replica.machine
        replica.keep(flight.call)
        token = machine.step + machine.crowd * replica.writing
        self.outcome.first.append(now + token - flight.call.at)
        replica.writing += 1
        flight.server.unread -= flight.call.size
        self._at(now + token * max(flight.call.answer, 1), 1, flight)
        replica.reading = None
        if replica.queue:
            self._begin(replica, now)

    def _end(self, flight: Flight, now: float) -> None:
        flight.replica.writing -= 1
        flight.server.in_flight -= 1
        for gateway, waiting in enumerate(self._waiting):
            while waiting and self._send(waiting[0], now, gateway):
                waiting.popleft()

    def _at(self, time: float, kind: int, flight: Flight) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, kind, flight))


def by_policy(policies: list[Policy], replicas: list[Replica]) -> Choice:
    """One policy for each gateway."""
    seen = [[replica.servers[gateway] for replica in replicas] for gateway in range(len(policies))]
    by_id = {replica.servers[0].id: replica for replica in replicas}
    for policy, servers in zip(policies, seen, strict=True):
        for server in servers:
            policy.joined(server)

    def choose(replicas: list[Replica], call: Call, now: float, gateway: int) -> Replica | None:
        server = policies[gateway].pick(seen[gateway], call.prefix, "tenant", now)
        return by_id[server.id] if server is not None else None

    return choose


def oracle(replicas: list[Replica], call: Call, now: float, gateway: int) -> Replica | None:
    """Where the first token would come first, knowing every cache and every queue as it is. Greedy: not a bound."""
    able = [replica for replica in replicas if replica.in_flight < replica.machine.slots]
    if not able:
        return None
    return min(
        able,
        key=lambda replica: (
            replica.backlog(now) + (call.prompt - replica.cached(call)) / replica.machine.prefill,
            replica.in_flight,
        ),
    )
