"""The requests of one tier, in fair order: a line per tenant, and a heap of the lines by their virtual time."""

import heapq
from typing import Final, Generic, TypeVar

T = TypeVar("T")

IDLE_KEPT: Final = 64
"""Tenants without a request that are remembered in any case."""


class Place(Generic[T]):
    """One request in its tenant's line."""

    def __init__(self, item: T, flow: "Flow[T]", cost: float, number: int) -> None:
        self.item: T = item
        self.flow: Flow[T] = flow
        self.cost: float = cost
        self.number: int = number
        """Grows with each that comes."""
        self.before: Place[T] | None = None
        self.after: Place[T] | None = None


class Flow(Generic[T]):
    """What one tenant has waiting: first come, first served."""

    def __init__(self, lane: "Lane[T]", start: float) -> None:
        self.lane: Lane[T] = lane
        self.start: float = start
        """Virtual time at which its first request starts; of an empty line, at which the next one would."""
        self.first: Place[T] | None = None
        self.last: Place[T] | None = None
        self.count: int = 0
        self.ticket: int = -1
        """Of its entry in the heap; older entries count no more."""


class Lane(Generic[T]):
    """All lines of one tier. Removing a request anywhere leaves no gap: those behind it start that much earlier."""

    def __init__(self) -> None:
        self.waiting: int = 0
        self._clock: float = 0.0
        """Virtual time: the start of what was taken last."""
        self._flows: dict[str, Flow[T]] = {}
        self._heap: list[tuple[float, int, int, Flow[T]]] = []
        """Lines by start, then by arrival of their first request."""
        self._tickets: int = 0
        self._prune_at: int = IDLE_KEPT
        self._busy: int = 0
        """Lines that are not empty."""

    def held(self, tenant: str) -> int:
        flow = self._flows.get(tenant)
        return flow.count if flow is not None else 0

    def add(self, item: T, tenant: str, cost: float, number: int) -> Place[T]:
        flow = self._flows.get(tenant)
        if flow is None:
            if len(self._flows) >= self._prune_at:
                self._prune()
            flow = self._flows[tenant] = Flow(self, self._clock)
        place = Place(item, flow, cost, number)
        last = flow.last
        flow.last = place
        flow.count += 1
        self.waiting += 1
        if last is None:
            flow.first = place
            flow.start = max(flow.start, self._clock)
            self._busy += 1
            self._enter(flow, place)
        else:
            last.after = place
            place.before = last
        return place

    def take(self) -> Place[T]:
        """The first request of the line that is furthest behind. There must be one."""
        heap = self._heap
        start, _, ticket, flow = heapq.heappop(heap)
        while ticket != flow.ticket:
            start, _, ticket, flow = heapq.heappop(heap)
        place = flow.first
        assert place is not None
        self._clock = max(self._clock, start)
        flow.start = start + place.cost
        self._unlink(place)
        return place

    def drop(self, place: Place[T]) -> None:
        """Somebody left without having been taken."""
        self._unlink(place)

    def correct(self, tenant: str, difference: float) -> None:
        """The tenant was given so much more (or less) than was thought."""
        flow = self._flows.get(tenant)
        if flow is None:
            return
        flow.start = max(flow.start + difference, self._clock)
        if flow.first is not None:
            self._enter(flow, flow.first)

    def ahead_of(self, place: Place[T]) -> int:
        """How many of this lane are taken before it if nobody else comes. O(n)."""
        own, start = 0, place.flow.start
        earlier = place.before
        while earlier is not None:
            own += 1
            start += earlier.cost
            earlier = earlier.before
        ahead = own
        for flow in self._flows.values():
            if flow is not place.flow:
                ahead += self._before(flow, start, place.number)
        return ahead

    def reset(self) -> None:
        """Nobody waits: begin anew."""
        self._clock = 0.0
        self._flows = {}
        self._heap = []
        self._busy = 0
        self._prune_at = IDLE_KEPT

    def _before(self, flow: Flow[T], start: float, number: int) -> int:
        """Requests of another line that start before this virtual time, or at it and came first."""
        count, theirs = 0, flow.start
        place = flow.first
        while place is not None and (theirs < start or (theirs == start and place.number < number)):
            count += 1
            theirs += place.cost
            place = place.after
        return count

    def _unlink(self, place: Place[T]) -> None:
        flow, before, after = place.flow, place.before, place.after
        flow.count -= 1
        self.waiting -= 1
        place.before = place.after = None
        if after is None:
            flow.last = before
        else:
            after.before = before
        if before is not None:
            before.after = after
            return
        flow.first = after
        if after is not None:
            self._enter(flow, after)
        else:
            flow.ticket = -1
            self._busy -= 1

    def _enter(self, flow: Flow[T], first: Place[T]) -> None:
        """Into the heap, in place of its former entry."""
        self._tickets += 1
        flow.ticket = self._tickets
        heapq.heappush(self._heap, (flow.start, first.number, flow.ticket, flow))
        if len(self._heap) > 2 * self._busy + IDLE_KEPT:
            self._heap = [entry for entry in self._heap if entry[2] == entry[3].ticket]
            heapq.heapify(self._heap)

    def _prune(self) -> None:
        """Forget empty lines that are not ahead of the clock: as good as new ones."""
        idle = [name for name, flow in self._flows.items() if flow.first is None and flow.start <= self._clock]
        for name in idle:
            del self._flows[name]
        self._prune_at = 2 * len(self._flows) + IDLE_KEPT
