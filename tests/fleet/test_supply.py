"""Counts over time: what a leaf can sell, and what it can deliver."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.db.notify import FLEET, Listener
from skerry.fleet.deliveries import DeliveryChange, NewDelivery
from skerry.fleet.model import Milestone, MilestoneDates, NodeStatus, Step
from skerry.fleet.rules.nodes import NodeVerb
from skerry.fleet.rules.supply import LeafCounts, supply_of
from skerry.fleet.service import Fleet
from skerry.fleet.upkeep import MaintenanceWish, NodeWish
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import LeafId
from tests.fleet.conftest import supplies
from tests.fleet.fleets import SMALL
from tests.waiting import eventually

NOW = FakeClock().now()
DAY = timedelta(days=1)


def counts(**more):
    return LeafCounts(LeafId("leaf_1"), "l", "h", "s", "NO", "k", **{"spares": 0, **more})


def test_spares_are_not_sold_but_deliver():
    supply = supply_of(counts(size=4, ready=4, spares=1), NOW)
    assert (supply.sellable, supply.deliverable) == ((Step(NOW, 3),), (Step(NOW, 4),))


def test_what_is_away_until_then_counts_from_then_on():
    supply = supply_of(counts(size=4, ready=3, returning=[(NOW + DAY, 1)]), NOW)
    assert supply.deliverable == (Step(NOW, 3), Step(NOW + DAY, 4))


def test_what_should_be_back_already_counts_now():
    assert supply_of(counts(size=4, ready=3, returning=[(NOW - DAY, 1)]), NOW).deliverable == (Step(NOW, 4),)


def test_an_overdue_delivery_counts_for_nothing():
    supply = supply_of(counts(size=4, ready=4, planned=[(NOW, 8)]), NOW)
    assert (supply.size, supply.deliverable) == (4, (Step(NOW, 4),))


def test_a_window_takes_its_count_away_and_gives_it_back():
    supply = supply_of(counts(size=4, ready=4, spares=1, closed=[(NOW + DAY, NOW + 2 * DAY, 4)]), NOW)
    assert supply.sellable == (Step(NOW, 3), Step(NOW + DAY, 0), Step(NOW + 2 * DAY, 3))


times = st.integers(-5, 20).map(lambda days: NOW + days * DAY)


@given(
    st.integers(0, 8),
    st.integers(0, 3),
    st.lists(st.tuples(times, st.integers(1, 4)), max_size=4),
    st.lists(st.tuples(times, st.integers(1, 4)), max_size=4),
    st.lists(st.tuples(times, st.integers(1, 5), st.integers(1, 4)), max_size=4),
)
def test_steps_say_what_counting_at_each_moment_says(ready, spares, returning, planned, closed):
    windows = [(start, start + length * DAY, nodes) for start, length, nodes in closed]
    away = sum(nodes for _, nodes in returning)
    supply = supply_of(
        counts(
            size=ready + away, ready=ready, spares=spares, returning=returning, planned=list(planned), closed=windows
        ),
        NOW,
    )
    assert supply.deliverable[0].start == NOW
    assert [step.start for step in supply.deliverable] == sorted({step.start for step in supply.deliverable})
    for day in range(30):
        at = NOW + day * DAY
        healthy = ready + sum(nodes for back, nodes in returning if back <= at)
        healthy += sum(nodes for there, nodes in planned if NOW < there <= at)
        healthy -= sum(nodes for start, end, nodes in windows if start <= at < end)
        assert read(supply.deliverable, at) == max(0, healthy) <= supply.size
        assert read(supply.sellable, at) == max(0, healthy - spares)


def read(steps, at):
    return [step.nodes for step in steps if step.start <= at][-1]


@pytest.fixture
async def small(fleet: Fleet) -> Fleet:
    await fleet.declared.apply(SMALL)
    return fleet


async def test_supplies_of_a_fleet_that_is_ready(small: Fleet):
    found = await supplies(small)
    one = found["a-1"]
    assert (one.hall, one.site, one.country, one.sku, one.size, one.spares) == ("a", "no-x", "NO", "h100-sxm.8x", 4, 1)
    assert (one.sellable, one.deliverable) == ((Step(NOW, 3),), (Step(NOW, 4),))
    assert found["a-2"].sellable == (Step(NOW, 4),)


async def test_supplies_of_some_leaves(small: Fleet):
    leaf = (await small.leaf("a-2")).id
    async with small.db.reading() as tx:
        assert [one.leaf for one in await small.supplies(tx, [leaf])] == [leaf]
        assert await small.supplies(tx, []) == []


async def move(fleet, host, verb, **more):
    return await fleet.upkeep.move(host, NodeWish(verb, "because", **more))


@pytest.mark.parametrize("verb", [NodeVerb.CORDON, NodeVerb.DRAIN, NodeVerb.FAIL])
async def test_a_node_that_is_out_does_not_count(small: Fleet, verb):
    await move(small, "a-1-1", verb)
    assert (await supplies(small))["a-1"].deliverable == (Step(NOW, 3),)


async def test_a_node_counts_again_when_its_time_is_over_by_time_alone(small: Fleet, clock: FakeClock):
    await move(small, "a-1-1", NodeVerb.DRAIN, until=NOW + DAY)
    assert (await supplies(small))["a-1"].deliverable == (Step(NOW, 3), Step(NOW + DAY, 4))
    leaf = (await small.leaf("a-1")).id
    async with small.db.reading() as tx:
        assert len(await small.ready_nodes(tx, leaf, "h100-sxm.8x")) == 3
    clock.advance(days=1)
    async with small.db.reading() as tx:
        assert len(await small.ready_nodes(tx, leaf, "h100-sxm.8x")) == 4
    assert (await supplies(small))["a-1"].deliverable == (Step(clock.now(), 4),)
    assert await small.upkeep.bring_back() == 1 and await small.upkeep.bring_back() == 0
    node = await small.node("a-1-1")
    assert (node.status, node.until, node.status_reason["code"]) == (NodeStatus.READY, None, "until_reached")


async def test_a_node_drained_for_a_window_is_not_counted_twice(small: Fleet, clock: FakeClock):
    wish = MaintenanceWish("a-1", None, 2, NOW + DAY, NOW + 2 * DAY, "pumps")
    window, _ = await small.upkeep.plan(wish)
    clock.advance(days=1)
    at = clock.now()
    node, _ = await move(small, "a-1-1", NodeVerb.DRAIN, maintenance=window.id)
    assert (node.until, node.maintenance) == (NOW + 2 * DAY, window.id)
    assert (await supplies(small))["a-1"].deliverable == (Step(at, 2), Step(NOW + 2 * DAY, 4))
    await move(small, "a-1-1", NodeVerb.FAIL)
    assert (await supplies(small))["a-1"].deliverable == (Step(at, 2), Step(NOW + 2 * DAY, 3))


async def test_maintenance_that_is_called_off_gives_its_nodes_back(small: Fleet, clock: FakeClock):
    window, _ = await small.upkeep.plan(MaintenanceWish("a-1", None, 2, NOW + DAY, NOW + 2 * DAY, "pumps"))
    clock.advance(days=1, hours=1)
    ended = await small.upkeep.call_off(window.id)
    assert ended.end == clock.now()
    assert (await supplies(small))["a-1"].deliverable == (Step(clock.now(), 4),)
    assert await small.upkeep.call_off(window.id) == ended


def delivery(**more):
    fields = {"site": "no-x", "sku": "h100-sxm.8x", "nodes": 70, "service_at": NOW + DAY, "hall": "a"}
    return NewDelivery(**{"name": "d", "leaf_size": 32, "leaf_prefix": "n", "confidence": Decimal(1), **fields, **more})


@pytest.mark.parametrize(("confidence", "ahead", "sold"), [("1", "1", [32, 32, 6]), ("0.9", "0.5", [31, 0, 0])])
async def test_planned_nodes_are_sold_as_far_as_policy_allows(small: Fleet, confidence, ahead, sold):
    small.basis.ahead = Decimal(ahead)
    await small.deliveries.plan(delivery(confidence=Decimal(confidence)))
    found = await supplies(small)
    assert [found[f"n-{n}"].size for n in (1, 2, 3)] == sold
    assert found["n-1"].deliverable == (Step(NOW, 0), Step(NOW + DAY, sold[0]))


async def test_nodes_that_have_come_are_not_counted_twice(small: Fleet, clock: FakeClock):
    await small.deliveries.plan(delivery())
    await small.declared.apply(SMALL + '- {hostname: "n-1-[1-10]", sku: h100-sxm.8x, leaf: n-1, delivery: d}\n')
    assert (await supplies(small))["n-1"].deliverable == (Step(NOW, 10), Step(NOW + DAY, 32))
    dates = {name: MilestoneDates(None, NOW) for name in Milestone}
    found, _ = await small.deliveries.change("d", DeliveryChange(milestones=dates))
    assert (found.accepted, found.arrived) == (True, 10)
    assert (await supplies(small))["n-1"].deliverable == (Step(NOW, 10),)


async def test_those_who_listen_hear_which_leaf_has_changed(small: Fleet):
    heard = []
    ready = []
    listener = Listener(small.db.url, [FLEET], lambda _, leaf: heard.append(leaf), lambda: ready.append(1))
    task = asyncio.create_task(listener.run())
    try:
        await eventually(lambda: bool(ready))
        await move(small, "a-2-1", NodeVerb.CORDON)
        leaf = (await small.leaf("a-2")).id
        await eventually(lambda: heard == [leaf])
    finally:
        task.cancel()
