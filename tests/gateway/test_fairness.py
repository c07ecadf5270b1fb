"""Fair queueing: who goes next, and who is refused a place."""

import gc
import heapq
import tracemalloc
import weakref
from dataclasses import dataclass, field
from random import Random
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skerry.inference.gateway.fairness import FREE_SHARE, FairQueue, Tier

PAYING, FREE, BATCH = Tier.PAYING, Tier.FREE, Tier.BATCH
tiers = st.sampled_from(list(Tier))
costs = st.floats(1.0, 1000.0)
unhurried = settings(deadline=None)
"""The machine may be busy with other things."""


class Item:
    """Something that waits; told by identity, as requests are."""

    def __init__(self, tenant: str, tier: Tier = PAYING, cost: float = 1.0) -> None:
        self.tenant, self.tier, self.cost = tenant, tier, cost


def filled(queue: FairQueue[Item], *items: Item) -> FairQueue[Item]:
    for item in items:
        assert queue.push(item, item.tenant, item.tier, item.cost, 0.0)
    return queue


def drained(queue: FairQueue[Item]) -> list[Item]:
    order = []
    while (item := queue.pop(0.0)) is not None:
        order.append(item)
    return order


def tenants(items: list[Item]) -> str:
    return "".join(item.tenant for item in items)


# --- order
def test_a_burst_waits_for_itself() -> None:
    queue = filled(FairQueue(100), *(Item("a") for _ in range(10)), *(Item("b") for _ in range(2)))
    assert tenants(drained(queue)) == "ab" * 2 + "a" * 8


def test_a_latecomer_is_next_however_many_wait() -> None:
    queue = filled(FairQueue(1000), *(Item("a") for _ in range(100)))
    for _ in range(20):
        queue.pop(0.0)
    late = Item("b")
    filled(queue, late)
    assert queue.position(late) <= 1


def test_a_tenant_cannot_save_up_while_it_is_away() -> None:
    queue = filled(FairQueue(1000), Item("b"), *(Item("a") for _ in range(100)))
    for _ in range(50):
        queue.pop(0.0)
    filled(queue, *(Item("b") for _ in range(10)))
    # Half of what comes next, not all of it.
    assert 4 <= sum(queue.pop(0.0).tenant == "b" for _ in range(10)) <= 6


def test_leaving_an_empty_line_and_coming_back_is_no_way_to_the_front() -> None:
    queue = filled(FairQueue(1000), Item("b"), *(Item("a") for _ in range(100)))
    taken = []
    for _ in range(40):
        taken.append(queue.pop(0.0))
        if taken[-1].tenant == "b":
            filled(queue, Item("b"))
    assert 19 <= tenants(taken).count("b") <= 20


def test_cost_counts_not_the_number_of_requests() -> None:
    queue = filled(FairQueue(1000), *(Item("a", cost=10) for _ in range(20)), *(Item("b", cost=1) for _ in range(100)))
    first = [queue.pop(0.0) for _ in range(55)]
    assert 45 <= tenants(first).count("b") <= 55


@given(st.lists(st.tuples(st.sampled_from("abc"), costs), min_size=1, max_size=60), st.data())
@unhurried
def test_no_two_busy_tenants_are_further_apart_than_one_request_each(
    asks: list[tuple[str, float]], data: st.DataObject
) -> None:
    """The bound of start-time fair queueing, also where requests leave from anywhere."""
    items = [Item(tenant, cost=cost) for tenant, cost in asks]
    queue = filled(FairQueue(1000), *items)
    gone = data.draw(st.sets(st.sampled_from(items), max_size=len(items) // 3))
    for item in gone:
        assert queue.remove(item)
    left = [item for item in items if item not in gone]
    served = dict.fromkeys("abc", 0.0)
    most = {name: max((item.cost for item in items if item.tenant == name), default=0.0) for name in "abc"}
    for item in drained(queue):
        busy = {waiting.tenant for waiting in left}
        for one in busy:
            for other in busy:
                assert abs(served[one] - served[other]) <= most[one] + most[other] + 1e-6
        left.remove(item)
        served[item.tenant] += item.cost
    assert not left


@given(st.lists(st.tuples(st.sampled_from("abc"), st.just(PAYING), costs), max_size=40), st.integers(0, 40))
@unhurried
def test_a_position_is_the_number_that_go_before(asks: list[tuple[str, Tier, float]], taken: int) -> None:
    items = [Item(*ask) for ask in asks]
    queue = filled(FairQueue(1000), *items)
    for _ in range(taken):
        queue.pop(0.0)
    expected = {item: queue.position(item) for item in items}
    order = drained(queue)
    assert [expected[item] for item in order] == list(range(len(order)))
    assert all(expected[item] == -1 for item in items if item not in order)


def test_who_leaves_does_not_set_back_those_behind() -> None:
    queue: FairQueue[Item] = FairQueue(1000)
    dear, cheap = Item("b", cost=500), Item("b", cost=1)
    filled(queue, Item("a"), dear, cheap, *(Item("a") for _ in range(50)))
    queue.remove(dear)
    assert queue.position(cheap) <= 1


def test_what_was_used_less_is_given_back() -> None:
    queue = filled(FairQueue(1000), Item("b", cost=500), Item("b"), *(Item("a") for _ in range(100)))
    assert queue.pop(0.0).tenant == "b"
    waiting = queue.pop(0.0)
    assert waiting.tenant == "a"
    queue.correct("b", PAYING, 2 - 500)
    assert "b" in tenants([queue.pop(0.0) for _ in range(3)])


def test_what_was_used_more_is_waited_for() -> None:
    queue = filled(FairQueue(1000), *(Item("b") for _ in range(50)), *(Item("a") for _ in range(50)))
    assert queue.pop(0.0).tenant == "b"
    queue.correct("b", PAYING, 20)
    assert tenants([queue.pop(0.0) for _ in range(20)]) == "a" * 20


# --- time
@dataclass(eq=False)
class Client:
    """Sends its next request as soon as one of its `width` has been answered."""

    tenant: str
    width: int
    times: list[float] = field(default_factory=list)
    """What each answer took from being asked for."""


def simulate(clients: list[Client], slots: int, until: float, rng: Random) -> None:
    """Clients in a closed loop at one endpoint of `slots`; an answer takes 1 on average."""
    queue: FairQueue[tuple[Client, float, int]] = FairQueue(10_000)
    running: list[tuple[float, int, Client, float]] = []
    now, number = 0.0, 0

    def ask(client: Client) -> None:
        nonlocal number
        number += 1
        assert queue.push((client, now, number), client.tenant, PAYING, 1.0, now)

    for client in clients:
        for _ in range(client.width):
            ask(client)
    while now < until:
        while len(running) < slots and (taken := queue.pop(now)) is not None:
            heapq.heappush(running, (now + rng.uniform(0.5, 1.5), taken[2], taken[0], taken[1]))
        now, _, client, since = heapq.heappop(running)
        client.times.append(now - since)
        ask(client)


@given(st.integers(1, 8), st.integers(1, 2), st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_beside_a_tenfold_burst_answers_take_at_most_twice_as_long_as_alone(slots: int, deep: int, seed: int) -> None:
    width, rng = slots * deep, Random(seed)
    alone, small, burst = Client("small", width), Client("small", width), Client("burst", 10 * width)
    simulate([alone], slots, 200.0, rng)
    simulate([burst, small], slots, 200.0, rng)
    # Two tenants share the slots: each gets half of them, and a request in service is not cut short.
    assert steady(small) <= 2.0 * steady(alone) + 0.6
    assert steady(burst) >= 4.0 * steady(small)


def steady(client: Client) -> float:
    """The median of what its answers took, once all has settled."""
    return median(client.times[len(client.times) // 2 :])


# --- tiers
def test_paying_ones_go_first_and_the_free_tier_has_its_share() -> None:
    queue = filled(
        FairQueue(10_000),
        *(Item("free", FREE) for _ in range(200)),
        *(Item("paying") for _ in range(1800)),
    )
    order = drained(queue)
    free = sum(item.tier is FREE for item in order[:1000])
    assert 0.9 * FREE_SHARE * 1000 <= free <= 1.1 * FREE_SHARE * 1000
    assert order[0].tier is PAYING


def test_the_free_tiers_share_is_of_the_work() -> None:
    queue = filled(
        FairQueue(10_000),
        *(Item("free", FREE, 50.0) for _ in range(100)),
        *(Item("paying", PAYING, 1.0) for _ in range(2000)),
    )
    first = [queue.pop(0.0) for _ in range(1800)]
    work = sum(item.cost for item in first)
    assert sum(item.cost for item in first if item.tier is FREE) <= FREE_SHARE * work + 50.0


def test_the_free_tier_saves_up_nothing_while_it_is_away() -> None:
    queue = filled(FairQueue(10_000), *(Item("paying") for _ in range(1000)))
    for _ in range(500):
        queue.pop(0.0)
    filled(queue, *(Item("free", FREE) for _ in range(100)))
    assert sum(queue.pop(0.0).tier is FREE for _ in range(20)) <= 4


def test_what_the_free_tier_did_while_nobody_paid_is_forgiven() -> None:
    queue = filled(FairQueue(10_000), *(Item("free", FREE) for _ in range(600)))
    for _ in range(500):
        queue.pop(0.0)
    filled(queue, *(Item("paying") for _ in range(100)))
    assert any(queue.pop(0.0).tier is FREE for _ in range(12))


@given(st.lists(st.tuples(st.sampled_from("abc"), tiers, costs), max_size=50))
@unhurried
def test_batches_run_only_while_nothing_else_waits(asks: list[tuple[str, Tier, float]]) -> None:
    order = drained(filled(FairQueue(1000), *(Item(*ask) for ask in asks)))
    batches = [item.tier is BATCH for item in order]
    assert batches == sorted(batches)
    assert len(order) == len(asks)


@given(st.lists(costs, min_size=1, max_size=10), st.lists(costs, min_size=1, max_size=30))
@unhurried
def test_nobody_is_starved_by_those_who_keep_coming(free: list[float], paying: list[float]) -> None:
    """However the paying ones push on, the free tier gets its share of the work, less one request."""
    queue = filled(FairQueue(10_000), *(Item("free", FREE, cost) for cost in free))
    work = given = 0.0
    for turn in range(1000):
        cost = paying[turn % len(paying)]
        queue.push(Item("paying"), "paying", PAYING, cost, 0.0)
        if not queue.waiting_by_tier()[FREE]:
            return
        before = queue.waiting_by_tier()
        queue.pop(0.0)
        if queue.waiting_by_tier()[FREE] < before[FREE]:
            given += free[len(free) - before[FREE]]
        else:
            work += cost
        assert given >= FREE_SHARE / (1 - FREE_SHARE) * (work - max(paying) * 2) - max(free)
    assert work * FREE_SHARE < sum(free)


# --- places
def test_one_tenant_cannot_fill_the_queue_for_all() -> None:
    queue: FairQueue[Item] = FairQueue(100)
    burst = sum(queue.push(Item("burst"), "burst", PAYING, 1.0, 0.0) for _ in range(1000))
    assert burst == 80
    assert queue.has_room(PAYING)
    others = sum(queue.push(Item(f"t{n}"), f"t{n}", PAYING, 1.0, 0.0) for n in range(1000))
    assert others == 20
    assert not queue.has_room(PAYING)


def test_lower_tiers_leave_places_for_upper_ones() -> None:
    queue: FairQueue[Item] = FairQueue(100)
    many = [f"t{n}" for n in range(1000)]
    assert sum(queue.push(Item(name), name, BATCH, 1.0, 0.0) for name in many) == 50
    assert sum(queue.push(Item(name), name, FREE, 1.0, 0.0) for name in many) == 25
    assert not queue.has_room(FREE)
    assert sum(queue.push(Item(name), name, PAYING, 1.0, 0.0) for name in many) == 25
    assert len(queue) == 100


@pytest.mark.parametrize("tier", Tier)
def test_the_smallest_queue_has_one_place_for_each_tier(tier: Tier) -> None:
    queue: FairQueue[Item] = FairQueue(1)
    assert queue.push(Item("a"), "a", tier, 1.0, 0.0)
    assert not queue.push(Item("b"), "b", PAYING, 1.0, 0.0)


def test_a_queue_without_places_takes_nobody() -> None:
    assert not FairQueue(0).push(Item("a"), "a", PAYING, 1.0, 0.0)


def test_nobody_waits_twice() -> None:
    item = Item("a")
    queue = filled(FairQueue(10), item)
    with pytest.raises(ValueError, match="waits already"):
        queue.push(item, "a", PAYING, 1.0, 0.0)


# --- leaving
def test_who_has_waited_too_long_is_taken_out_first_comer_first() -> None:
    queue: FairQueue[str] = FairQueue(10)
    for name, since in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("d", 9.0)):
        queue.push(name, name, PAYING, 1.0, since)
    assert queue.oldest(10.0) == 9.0
    assert queue.expire(10.0, 5.0) == ["a", "b", "c"]
    assert queue.oldest(10.0) == 1.0
    assert drained(queue) == ["d"]
    assert queue.oldest(10.0) == 0.0


def test_who_has_left_is_let_go_of() -> None:
    queue = filled(FairQueue(100), Item("z"))
    gone = [Item("a") for _ in range(30)]
    filled(queue, *gone)
    traces = [weakref.ref(item) for item in gone]
    for item in gone:
        queue.remove(item)
    del item
    gone.clear()
    gc.collect()
    assert not any(trace() for trace in traces)


def test_memory_does_not_grow_with_those_who_come_and_go() -> None:
    queue = filled(FairQueue(100), Item("stays"))

    def held(turns: int) -> int:
        for turn in range(turns):
            item = Item(f"t{turn}")
            filled(queue, item)
            queue.correct("stays", PAYING, 1.0)
            assert queue.remove(item)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = held(500)
        assert held(5000) < before + 50_000
    finally:
        tracemalloc.stop()


# --- all at once, beside a plain list
class QueueBesideList(RuleBasedStateMachine):
    """Whatever is done to it, the queue holds what a list would, and each line keeps its order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[Item] = FairQueue(30)
        self.waiting: list[tuple[Item, float]] = []
        self.now = 0.0

    @rule(tenant=st.sampled_from("abcd"), tier=tiers, cost=costs, ago=st.floats(0, 20))
    def push(self, tenant: str, tier: Tier, cost: float, ago: float) -> None:
        item = Item(tenant, tier, cost)
        if self.queue.push(item, tenant, tier, cost, self.now - ago):
            self.waiting.append((item, self.now - ago))
        else:
            assert self.waiting

    @rule()
    def pop(self) -> None:
        item = self.queue.pop(self.now)
        assert (item is None) == (not self.waiting)
        if item is not None:
            line = [one for one, _ in self.waiting if (one.tenant, one.tier) == (item.tenant, item.tier)]
            assert line[0] is item
            self._leave(item)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from([item for item, _ in self.waiting]))
        assert self.queue.remove(item)
        assert not self.queue.remove(item)
        self._leave(item)

    @rule(seconds=st.floats(0, 30))
    def expire(self, seconds: float) -> None:
        late = self.queue.expire(self.now, seconds)
        assert set(late) == {item for item, since in self.waiting if self.now - since > seconds}
        for item in late:
            self._leave(item)

    @rule(tenant=st.sampled_from("abcd"), tier=tiers, difference=st.floats(-1000, 1000))
    def correct(self, tenant: str, tier: Tier, difference: float) -> None:
        self.queue.correct(tenant, tier, difference)

    @rule(seconds=st.floats(0, 10))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def holds_the_same(self) -> None:
        assert len(self.queue) == len(self.waiting) <= 30
        by_tier = tuple(sum(item.tier is tier for item, _ in self.waiting) for tier in Tier)
        assert self.queue.waiting_by_tier() == by_tier
        assert self.queue.oldest(self.now) == max((self.now - since for _, since in self.waiting), default=0.0)
        # Within a tier no two have the same position; upper tiers come before.
        positions = sorted(self.queue.position(item) for item, _ in self.waiting)
        assert positions == list(range(len(self.waiting)))

    def _leave(self, item: Item) -> None:
        self.waiting = [(one, since) for one, since in self.waiting if one is not item]


TestQueueBesideList = QueueBesideList.TestCase
TestQueueBesideList.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
