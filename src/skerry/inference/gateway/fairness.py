"""Who is next when more wait than there is room for: fair between tenants, paying tiers first. Pure; time comes in.

`FairQueue`, one per endpoint, is start-time fair queueing (Goyal, Vin, Cheng 1996): each tenant has a virtual time that
advances by the cost of what it was given, and the tenant that is behind goes next. A burst runs ahead in virtual time
and waits for itself; a tenant that comes with one request is behind and goes next. How to use it:

- `push(item, tenant, tier, cost, now)` when no replica has room. `cost` is the work that is *expected*, in tokens. The
  ceiling of a request without `max_tokens` is the whole context and would put its sender far behind those who set it.
  So bound the answer's part (a few hundred tokens), and say `correct(tenant, tier, used - cost)` when it has ended.
- False: there is no place. `has_room(tier)` tells whose fault that is: True, the tenant has its share of places already
  (429); False, the queue is full (503).
- `pop(now)` as long as a replica has room, `remove(item)` when the client has gone, `expire(now, seconds)` now and
  then. Whoever was popped and could not go is pushed again with the `now` of its first push: its deadline stays.

`Surge`, one per endpoint too, slows the lower tiers before the queue is full of them: `observe` the load, then `admit`.
"""

import heapq
from enum import IntEnum
from typing import Final, Generic, TypeVar

from skerry.inference.gateway.lanes import Lane, Place

T = TypeVar("T")

FREE_SHARE: Final = 0.1
"""Of the work, while both wait, that is the free tier's: it is slowed, not starved."""
CROWDING: Final = 4
"""A tenant may hold so many times the places that are left: alone 4/5 of the queue, so that there is always a place for
who comes next (the dynamic thresholds of Choudhury and Hahne 1998)."""
ROOM: Final[tuple[float, ...]] = (1.0, 0.75, 0.5)
"""By tier, the part of the queue it may fill: the lower ones leave places for the upper ones."""

_EARNS: Final = FREE_SHARE / (1.0 - FREE_SHARE)


class Tier(IntEnum):
    """Who goes first, and who is slowed first."""

    PAYING = 0
    FREE = 1
    BATCH = 2
    """Rows of batches: only while nothing else waits."""


class FairQueue(Generic[T]):
    """Requests that wait for a replica of one endpoint. All in O(log n), except where it says otherwise."""

    def __init__(self, limit: int) -> None:
        """`limit`: places in all."""
        self._limit = limit
        self._lanes: list[Lane[T]] = [Lane(), Lane(), Lane()]
        self._places: dict[T, Place[T]] = {}
        self._numbers: dict[int, Place[T]] = {}
        self._ages: list[tuple[float, int]] = []
        """A heap: when each began to wait, and its number. Numbers that have left meanwhile are skipped."""
        self._number = 0
        self._credit = 0.0
        """Work the free tier may do although paying ones wait; below 0, what it did in advance."""

    def __len__(self) -> int:
        return len(self._places)

    def push(self, item: T, tenant: str, tier: Tier, cost: float, now: float) -> bool:
        """`cost`: the work it probably is, in any unit; `now`: seconds at which it began to wait. False: no place."""
        if item in self._places:
            raise ValueError("it waits already")
        lane = self._lanes[int(tier)]
        left = self._left(tier)
        if left <= 0 or lane.held(tenant) >= CROWDING * left:
            return False
        self._number += 1
        place = lane.add(item, tenant, max(cost, 1.0), self._number)
        self._places[item] = self._numbers[place.number] = place
        heapq.heappush(self._ages, (now, place.number))
        return True

    def has_room(self, tier: Tier) -> bool:
        """For somebody of this tier who does not wait yet."""
        return self._left(tier) > 0

    def pop(self, now: float) -> T | None:
        """The next one, if any."""
        paying, free, batch = self._lanes
        if paying.waiting and not (free.waiting and self._credit > 0.0):
            place = paying.take()
            self._credit += place.cost * _EARNS
            if not free.waiting and self._credit > 0.0:
                self._credit = 0.0  # nothing is saved up by those who are not there
        elif free.waiting:
            place = free.take()
            self._credit = self._credit - place.cost if paying.waiting else 0.0
        elif batch.waiting:
            place = batch.take()
        else:
            return None
        self._forget(place)
        return place.item

    def remove(self, item: T) -> bool:
        """Its place is given up, as if it had never come. False: it does not wait."""
        place = self._places.get(item)
        if place is None:
            return False
        place.flow.lane.drop(place)
        self._forget(place)
        return True

    def expire(self, now: float, seconds: float) -> list[T]:
        """Those that have waited for longer, taken out; the first comer first."""
        late: list[T] = []
        while self._numbers and self.oldest(now) > seconds:
            item = self._numbers[self._ages[0][1]].item
            self.remove(item)
            late.append(item)
        return late

    def oldest(self, now: float) -> float:
        """Seconds that the first comer has waited; 0 where nobody waits."""
        ages = self._ages
        while ages and ages[0][1] not in self._numbers:
            heapq.heappop(ages)
        return max(now - ages[0][0], 0.0) if ages else 0.0

    def correct(self, tenant: str, tier: Tier, difference: float) -> None:
        """What a request that had waited here really took, less the `cost` it was pushed with."""
        self._lanes[int(tier)].correct(tenant, difference)

    def waiting_by_tier(self) -> tuple[int, int, int]:
        paying, free, batch = self._lanes
        return paying.waiting, free.waiting, batch.waiting

    def position(self, item: T) -> int:
        """How many go before it if nobody else comes, but for the free tier's share. -1: it does not wait. O(n)."""
        place = self._places.get(item)
        if place is None:
            return -1
        ahead = 0
        for lane in self._lanes:
            if lane is place.flow.lane:
                return ahead + lane.ahead_of(place)
            ahead += lane.waiting
        raise AssertionError("a place of no lane")

    def _left(self, tier: Tier) -> int:
        """Places that this tier can still fill. The smallest queue has one for everybody."""
        return min(self._limit, max(1, int(self._limit * ROOM[int(tier)]))) - len(self._places)

    def _forget(self, place: Place[T]) -> None:
        del self._places[place.item]
        del self._numbers[place.number]
        if not self._places:
            # Nobody waits, so there is room for all, and what was is of no account.
            self._ages = []
            self._credit = 0.0
            for lane in self._lanes:
                lane.reset()
        elif len(self._ages) > 2 * len(self._places) + 64:
            self._ages = [age for age in self._ages if age[1] in self._numbers]
            heapq.heapify(self._ages)


SMOOTHING_SECONDS: Final = 5.0
RELIEF_SECONDS: Final = 10.0
"""A step down takes so long; a step up, as long as the smoothing."""
PRESSURES: Final[tuple[float, ...]] = (2.0, 3.0, 5.0)
"""Requests at the replicas and in the queue, per slot, from which each step begins. It ends at 0.6 of that."""
ENDS_AT: Final = 0.6
FACTORS: Final[tuple[tuple[float, ...], ...]] = ((1.0, 1.0, 1.0, 1.0), (1.0, 0.5, 0.25, 0.1), (1.0, 0.25, 0.1, 0.05))
"""By tier, then by step."""
TIER_NAMES: Final[tuple[str, ...]] = ("paying tier", "free tier", "batches")
MAX_TENANTS: Final = 10_000


class Surge:
    """How much of a tier's requests is let in while an endpoint has far more to do than it can.

    It rises at once with what presses, and falls step by step, so that it does not swing with what it lets in.
    """

    def __init__(self) -> None:
        self._pressure = 0.0
        self._seen = 0.0
        self._eased = 0.0
        """When it last pressed as hard as the step it is at."""
        self._step = 0
        self._credits: dict[tuple[int, str], float] = {}

    def observe(self, load: int, slots: int, now: float) -> None:
        """`load`: requests at replicas and waiting; `slots`: what they work on at once (0: a cold start, no surge)."""
        current = load / slots if slots else 0.0
        passed = max(now - self._seen, 0.0)
        self._seen = now
        self._pressure += (current - self._pressure) * min(1.0, passed / SMOOTHING_SECONDS)
        step = self._step
        while step < len(PRESSURES) and self._pressure >= PRESSURES[step]:
            step += 1
        if step > self._step or (step and self._pressure >= PRESSURES[step - 1] * ENDS_AT):
            self._eased = now
        elif step:
            steps = int((now - self._eased) / RELIEF_SECONDS)
            step = max(0, step - steps)
            self._eased += steps * RELIEF_SECONDS
        self._step = step
        if not step:
            self._credits.clear()

    def factor(self, tier: Tier) -> float:
        """The part of the tier's requests that is let in: above 0, so that nobody is starved."""
        return FACTORS[int(tier)][self._step]

    def admit(self, tier: Tier, tenant: str = "") -> bool:
        """May this one come in? Of each tenant the same part may, its first request always."""
        factor = self.factor(tier)
        if factor >= 1.0:
            return True
        if len(self._credits) >= MAX_TENANTS:
            self._credits.clear()
        whose = (int(tier), tenant)
        credit = self._credits.get(whose, 1.0 - factor) + factor
        admitted = credit > 1.0 - 1e-9
        self._credits[whose] = credit - 1.0 if admitted else credit
        return admitted

    def words(self, tier: Tier) -> str:
        """For the header `x-skerry-throttle`: `free tier, 25 %`; empty where the tier is not slowed."""
        factor = self.factor(tier)
        return f"{TIER_NAMES[int(tier)]}, {factor * 100:.0f} %" if factor < 1.0 else ""
