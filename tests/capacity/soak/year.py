"""A year of a fleet in memory: people reserve, change and cancel, nodes fail, leaves are drained; the clock is ours.

Beside the calendar, which answers, stands a ledger of its own, which knows each node: who had it when, and when it was
down. Nodes are bound when a leg starts, never before.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from skerry.capacity.calendar.calendar import Calendar
from skerry.capacity.calendar.model import Booking, Demand, LeafKey
from skerry.capacity.model import Scope

SKU = "h100"
HOUR, DAY = 3_600, 86_400
SPARES = 1
HOLD = 900


@dataclass
class Leg:
    """`bound` nodes of `nodes` are there since `since`; `delivered` node-seconds until then."""

    id: str
    place: "Place"
    nodes: int
    start: int
    end: int
    expires_at: int | None
    bound: set[int] = field(default_factory=set)
    running: bool = False
    since: int = 0
    delivered: int = 0
    missing: int = 0

    def account(self, now: int) -> None:
        if self.running:
            self.delivered += len(self.bound) * (now - self.since)
            self.missing += (self.nodes - len(self.bound)) * (now - self.since)
        self.since = now


@dataclass
class Place:
    """A leaf. Each node is in one of the sets, or idle."""

    key: LeafKey
    hall: str
    site: str
    size: int
    down: set[int] = field(default_factory=set)
    drained: set[int] = field(default_factory=set)
    busy: dict[int, Leg] = field(default_factory=dict)
    legs: dict[str, Leg] = field(default_factory=dict)
    drains: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """Planned: nodes, start, end."""
    since: int = 0
    seconds: Counter[str] = field(default_factory=Counter)

    def account(self, now: int) -> None:
        for state, count in (
            ("busy", len(self.busy)),
            ("down", len(self.down)),
            ("drained", len(self.drained)),
            ("idle", len(self.idle())),
        ):
            self.seconds[state] += count * (now - self.since)
        self.since = now

    def idle(self) -> list[int]:
        return [n for n in range(self.size) if n not in self.busy and n not in self.down and n not in self.drained]

    def supply(self, now: int) -> list[tuple[int, int]]:
        for_sale = max(0, self.size - SPARES - len(self.down))
        changes: Counter[int] = Counter()
        for nodes, start, end in self.drains.values():
            changes[max(start, now)] -= nodes
            changes[end] += nodes
        steps, count = {now - 1: for_sale}, for_sale
        for moment in sorted(changes):
            count += changes[moment]
            steps[moment] = max(0, count)
        return sorted(steps.items())

    def free(self, start: int, end: int, now: int) -> int:
        """The least that is for sale and not promised in a window, counted without the calendar."""
        live = [leg for leg in self.legs.values() if leg.expires_at is None or leg.expires_at > now]
        steps = self.supply(now)
        moments = {start} | {m for m in (*(leg.start for leg in live), *(m for m, _ in steps)) if start < m < end}
        return min(
            next(count for begins, count in reversed(steps) if begins <= m)
            - sum(leg.nodes for leg in live if leg.start <= m < leg.end)
            for m in moments
        )


class Year:
    """Run it with `run`; then `promised`, `counts` and the places tell."""

    def __init__(
        self, seed: int, *, nodes: int, leaf: int = 32, halls: int = 16, days: int, a_day: float, failures: float
    ) -> None:
        """`a_day`: requests; `failures`: nodes that fail in a day."""
        self.rng, self.now, self.end = random.Random(seed), 0, days * DAY
        self.calendar, self.a_day, self.failures = Calendar(), a_day, failures
        self.places: dict[str, Place] = {}
        self.counts: Counter[str] = Counter()
        self.promised = self.delivered = self.missing = 0
        self.unexplained = 0
        """Most nodes of a leaf that legs lacked although failures took no more than its spares."""
        self._agenda: list[tuple[int, bool, int, Callable[[], None]]] = []
        self._made = 0
        leaves = -(-nodes // leaf)
        for n in range(leaves):
            hall = n * halls // leaves
            size = min(leaf, nodes - n * leaf)
            place = Place(LeafKey(f"leaf-{n:03}", SKU), f"hall-{hall:02}", f"site-{hall // 4}", size)
            self.places[place.key.leaf] = place
            self._put(place)

    def run(self) -> None:
        self._at(0, self._somebody_asks)
        self._at(HOUR, self._a_node_fails)
        self._at(DAY, self._a_leaf_is_to_be_drained)
        while self._agenda and self._agenda[0][0] <= self.end:
            self.now, _, _, act = heapq.heappop(self._agenda)
            act()
        self.now = self.end
        for place in self.places.values():
            place.account(self.end)
            for leg in list(place.legs.values()):
                if leg.running:
                    self._cut(leg, self.end)

    # People

    def _somebody_asks(self) -> None:
        self._at(self.now + 1 + int(self.rng.expovariate(self.a_day / DAY)), self._somebody_asks)
        self.counts["asked"] += 1
        nodes = 2 ** self.rng.randint(0, 7) if self.rng.random() < 0.7 else self.rng.randint(1, 256)
        seconds = int(DAY * 120 ** self.rng.random())
        earliest = self.now + self.rng.randrange(120 * DAY)
        scope = self.rng.choice(list(Scope))
        demand = Demand(SKU, nodes, seconds, earliest, earliest + seconds + 30 * DAY, scope, self.rng.random() < 0.7)
        demand = replace(demand, whole_leaves=nodes >= 32 and self.rng.random() < 0.3)
        found = self.calendar.earliest(demand, self.now)
        if found is None:
            self.counts["refused"] += 1
            return
        hold = None if self.rng.random() < 0.5 or found.start < self.now + HOLD else self.now + HOLD
        legs = [self._promise(leg.leaf, leg.nodes, leg.start, leg.end, hold) for leg in found.placements]
        if hold is not None and self.rng.random() < 0.7:
            self._at(self.now + self.rng.randrange(1, HOLD), lambda: self._confirm(legs))
        elif hold is not None:
            self._at(hold, lambda: self._lapse(legs), ends=True)
        elif self.rng.random() < 0.3:
            change = self.rng.choice((self._cancel, self._shrink, self._extend))
            self._at(self.rng.randrange(self.now, legs[0].end), lambda: change(legs))

    def _promise(self, leaf: str, nodes: int, start: int, end: int, expires_at: int | None) -> Leg:
        place = self.places[leaf]
        assert nodes <= place.free(start, end, self.now), f"{leaf} is sold twice at {start}"
        self._made += 1
        leg = Leg(f"leg-{self._made}", place, nodes, start, end, expires_at)
        place.legs[leg.id] = leg
        self.calendar.book(place.key, Booking(leg.id, nodes, start, end, expires_at))
        self.counts["legs"] += 1
        self._at(start, lambda: self._begin(leg))
        return leg

    def _confirm(self, legs: list[Leg]) -> None:
        self.counts["confirmed"] += 1
        for leg in legs:
            leg.expires_at = None
            self._put(leg.place)

    def _lapse(self, legs: list[Leg]) -> None:
        """By time alone: the calendar is told nothing."""
        self.counts["lapsed"] += 1
        for leg in legs:
            self._stop(leg)
            del leg.place.legs[leg.id]

    def _cancel(self, legs: list[Leg]) -> None:
        self.counts["cancelled"] += 1
        for leg in legs:
            if leg.id in leg.place.legs:
                self._cut(leg, max(self.now, leg.start))

    def _shrink(self, legs: list[Leg]) -> None:
        leg = legs[0]
        if leg.nodes > 1 and not leg.running and leg.start > self.now and leg.id in leg.place.legs:
            self.counts["shrunk"] += 1
            self.calendar.unbook(leg.place.key, leg.id)
            leg.nodes -= leg.nodes // 2
            self.calendar.book(leg.place.key, Booking(leg.id, leg.nodes, leg.start, leg.end))

    def _extend(self, legs: list[Leg]) -> None:
        if any(leg.id not in leg.place.legs for leg in legs):
            return
        end = legs[0].end + self.rng.randrange(HOUR, 10 * DAY)
        if all(self.calendar.min_free(leg.place.key, leg.end, end, self.now) >= leg.nodes for leg in legs):
            self.counts["extended"] += 1
            for leg in legs:
                self.calendar.unbook(leg.place.key, leg.id)
                leg.end = end
                self.calendar.book(leg.place.key, Booking(leg.id, leg.nodes, leg.start, leg.end))
                if leg.running:
                    self._at(end, lambda leg=leg: self._finish(leg), ends=True)

    # Delivery

    def _begin(self, leg: Leg) -> None:
        if leg.id not in leg.place.legs or leg.start != self.now:
            return
        leg.running, leg.since = True, self.now
        self._serve(leg.place)
        self._at(leg.end, lambda: self._finish(leg), ends=True)

    def _finish(self, leg: Leg) -> None:
        if leg.running and leg.end <= self.now:
            self._cut(leg, self.now)

    def _cut(self, leg: Leg, end: int) -> None:
        """It ends now (or never begins): what was promised up to here is what was delivered, and what was missing."""
        if leg.running:
            self._stop(leg)
            self.promised += leg.nodes * (end - leg.start)
            self.delivered += leg.delivered
            self.missing += leg.missing
            self.counts["delivered legs"] += 1
        del leg.place.legs[leg.id]
        if any(booking.id == leg.id for booking in self.calendar.bookings(leg.place.key, self.now)):
            self.calendar.unbook(leg.place.key, leg.id)
        self._serve(leg.place)

    def _stop(self, leg: Leg) -> None:
        leg.account(self.now)
        leg.place.account(self.now)
        for node in leg.bound:
            del leg.place.busy[node]
        leg.bound, leg.running = set(), False

    def _serve(self, place: Place) -> None:
        """Idle nodes go to legs that run short, those that began first first."""
        place.account(self.now)
        idle = place.idle()
        short = 0
        for leg in sorted((leg for leg in place.legs.values() if leg.running), key=lambda leg: (leg.start, leg.id)):
            leg.account(self.now)
            while len(leg.bound) < leg.nodes and idle:
                node = idle.pop(0)
                leg.bound.add(node)
                place.busy[node] = leg
            short += leg.nodes - len(leg.bound)
        self.unexplained = max(self.unexplained, short - max(0, len(place.down) - SPARES))

    # Nodes

    def _a_node_fails(self) -> None:
        self._at(self.now + 1 + int(self.rng.expovariate(self.failures / DAY)), self._a_node_fails)
        place = self.rng.choice(list(self.places.values()))
        up = [node for node in range(place.size) if node not in place.down and node not in place.drained]
        if not up:
            return
        self.counts["failures"] += 1
        node = self.rng.choice(up)
        place.account(self.now)
        place.down.add(node)
        leg = place.busy.pop(node, None)
        if leg is not None:
            leg.account(self.now)
            leg.bound.discard(node)
        self._serve(place)
        self._put(place)
        self._at(self.now + self.rng.randrange(HOUR, 6 * DAY), lambda: self._is_mended(place, node))

    def _is_mended(self, place: Place, node: int) -> None:
        place.account(self.now)
        place.down.discard(node)
        self._serve(place)
        self._put(place)

    def _a_leaf_is_to_be_drained(self) -> None:
        """Planned with the calendar: a drain that would break a promise is not made."""
        self._at(self.now + 1 + int(self.rng.expovariate(1 / DAY)), self._a_leaf_is_to_be_drained)
        place = self.rng.choice(list(self.places.values()))
        start = self.now + self.rng.randrange(30 * DAY)
        end, nodes = start + self.rng.randrange(HOUR, 3 * DAY), self.rng.randint(1, 4)
        if self.calendar.min_free(place.key, start, end, self.now) < nodes:
            self.counts["drains refused"] += 1
            return
        self.counts["drains"] += 1
        self._made += 1
        number = self._made
        place.drains[number] = (nodes, start, end)
        self._put(place)
        self._at(start, lambda: self._drain(place, number))

    def _drain(self, place: Place, number: int) -> None:
        place.account(self.now)
        nodes, _, end = place.drains[number]
        taken = set(place.idle()[-nodes:])
        place.drained |= taken
        self._at(end, lambda: self._is_back(place, number, taken), ends=True)

    def _is_back(self, place: Place, number: int, taken: set[int]) -> None:
        place.account(self.now)
        place.drained -= taken
        del place.drains[number]
        self._serve(place)
        self._put(place)

    # Helpers

    def _at(self, moment: int, act: Callable[[], None], *, ends: bool = False) -> None:
        """What ends goes before what begins at the same moment: windows are half-open."""
        self._made += 1
        heapq.heappush(self._agenda, (moment, not ends, self._made, act))

    def _put(self, place: Place) -> None:
        """As a server does after news: the leaf anew, from what is written down."""
        self.calendar.put_leaf(
            place.key,
            name=place.key.leaf,
            hall=place.hall,
            site=place.site,
            size=place.size - SPARES,
            supply=place.supply(self.now),
            bookings=[Booking(leg.id, leg.nodes, leg.start, leg.end, leg.expires_at) for leg in place.legs.values()],
        )
