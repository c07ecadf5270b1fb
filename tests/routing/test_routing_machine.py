"""Replicas come, go, fail and recover while requests begin and end: what a policy must never do."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skerry.inference.gateway.routing.base import Policy, Server
from skerry.inference.gateway.routing.choosing import policy_of
from skerry.inference.gateway.routing.prefix_affinity import BOUND, LIGHT, PrefixAffinity
from skerry.inference.model import RoutingPolicy

LIMIT = 600
DOWN_SECONDS = 10.0
MOST_TURNS = 12
"""Fewer than make a beginning hot, and with all conversations fewer beginnings than LIMIT."""


@dataclass
class Conversation:
    text: bytes
    turns: int = 0
    held_by: list[Server] = field(default_factory=list)


@dataclass
class Request:
    server: Server
    size: int
    reading: bool = True


class Routing(RuleBasedStateMachine):
    @initialize(kind=st.sampled_from(list(RoutingPolicy)), mixed=st.booleans(), seed=st.integers(0, 5))
    def start(self, kind: RoutingPolicy, mixed: bool, seed: int) -> None:
        self.policy: Policy = (
            PrefixAffinity(limit=LIMIT) if kind is RoutingPolicy.PREFIX_AFFINITY else policy_of(kind, seed)
        )
        self.kind, self.mixed = kind, mixed
        self.now = 100.0
        self.servers: list[Server] = []
        self.requests: list[Request] = []
        self.count = 0
        self.conversations = [self.opening() for _ in range(6)]

    def opening(self) -> Conversation:
        self.count += 1
        return Conversation(b"project\0" + f"conversation {self.count} ".encode() * 40)

    # --- servers
    @precondition(lambda self: len(self.servers) < 8)
    @rule(slots=st.integers(1, 12), weight=st.sampled_from([0, 5, 50, 100]))
    def join(self, slots: int, weight: int) -> None:
        self.count += 1
        server = Server(f"replica-{self.count}", slots, weight if self.mixed else 100)
        self.servers.append(server)
        self.policy.joined(server)

    @precondition(lambda self: self.servers)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        server = data.draw(st.sampled_from(self.servers))
        self.servers.remove(server)
        self.policy.left(server)
        self.requests = [request for request in self.requests if request.server is not server]
        for conversation in self.conversations:
            conversation.held_by = [holder for holder in conversation.held_by if holder is not server]

    @precondition(lambda self: self.servers)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.servers)).down_until = self.now + DOWN_SECONDS

    @rule(seconds=st.sampled_from([0.1, 5.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    # --- requests
    @rule(number=st.integers(0, 5), data=st.data())
    def begin(self, number: int, data: st.DataObject) -> None:
        conversation = self.conversations[number]
        avoid = data.draw(st.sampled_from([None, *self.servers]))
        able = [server for server in self.servers if self.can(server) and server is not avoid]
        before = [(server, server.in_flight) for server in self.servers]
        chosen = self.policy.pick(self.servers, conversation.text, "tenant", self.now, avoid)
        assert before == [(server, server.in_flight) for server in self.servers], "the gateway counts, not the policy"
        if not able:
            assert chosen is None or (chosen is avoid and self.can(chosen))
        else:
            assert chosen in able
            assert chosen is not None
            if len(self.servers) > 1:
                self.check_load(able, chosen)
                self.check_stays(conversation, able, chosen)
        if chosen is None:
            return
        chosen.in_flight += 1
        chosen.unread += len(conversation.text)
        self.requests.append(Request(chosen, len(conversation.text)))
        if chosen not in conversation.held_by and len(self.servers) > 1:
            conversation.held_by.append(chosen)
        conversation.turns += 1
        conversation.text += f" and then {conversation.turns}".encode() * 20
        if conversation.turns > MOST_TURNS:
            self.conversations[number] = self.opening()

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def answer_begins(self, data: st.DataObject) -> None:
        self.read(data.draw(st.sampled_from(self.requests)))

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.requests))
        self.read(request)
        request.server.in_flight -= 1
        self.requests.remove(request)

    @precondition(lambda self: len(self.servers) > 1)
    @rule(number=st.integers(0, 10_000))
    def two_gateways_meet_a_new_prompt(self, number: int) -> None:
        text = f"nobody knows {number} ".encode() * 30
        one, other = PrefixAffinity(), PrefixAffinity()
        first = one.pick(self.servers, text, "tenant", self.now)
        assert other.pick(self.servers[::-1], text, "tenant", self.now) is first

    # --- what always holds
    @invariant()
    def memory_is_bounded(self) -> None:
        if isinstance(getattr(self, "policy", None), PrefixAffinity):
            assert len(self.policy) <= LIMIT

    @invariant()
    def no_server_has_more_than_its_slots(self) -> None:
        for server in getattr(self, "servers", []):
            assert 0 <= server.in_flight <= server.slots
            assert server.unread >= 0

    def can(self, server: Server) -> bool:
        return server.in_flight < server.slots and server.down_until <= self.now and server.weight > 0

    def read(self, request: Request) -> None:
        if request.reading:
            request.reading = False
            request.server.unread -= request.size

    def check_load(self, able: list[Server], chosen: Server) -> None:
        """Nobody much busier than the others is chosen. Where weights differ, shares come first."""
        if len({server.weight for server in able}) > 1:
            return
        load = chosen.in_flight / chosen.slots
        if self.kind is RoutingPolicy.LEAST_LOAD:
            assert load == min(server.in_flight / server.slots for server in able)
        elif self.kind is RoutingPolicy.PREFIX_AFFINITY:
            mean = (sum(server.in_flight for server in able) + 1) / sum(server.slots for server in able)
            assert load <= BOUND * mean + 1e-9 or load < 1 / LIGHT

    def check_stays(self, conversation: Conversation, able: list[Server], chosen: Server) -> None:
        if self.kind is not RoutingPolicy.PREFIX_AFFINITY or len({server.weight for server in able}) > 1:
            return
        last = conversation.held_by[-1] if conversation.held_by else None
        if last in able and last.in_flight == 0:
            assert chosen in conversation.held_by, "an idle server that holds the conversation was passed over"


Routing.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestRouting = Routing.TestCase
