"""What others tell the binder and ask of it: engines, the fleet, and those who hand nodes over."""

from dataclasses import replace

import pytest

from skerry.capacity.binding.model import BindingReason
from skerry.capacity.binding.service import Deliveries
from skerry.capacity.binding.watching import FleetWatcher
from skerry.capacity.model import ReservationStatus as S
from skerry.compute.delivering import EngineDeliverer
from skerry.compute.engines.base import NodeCondition
from skerry.db.notify import FLEET
from skerry.fleet.model import NodeStatus
from tests.capacity.binding.scene import PROJECT, Scene
from tests.capacity.claims.test_claims import claim
from tests.compute.fake_engine import FakeEngine


@pytest.fixture
async def scene(database, clock):
    return await Scene(database, clock).build()


async def words(database, clock, *engines):
    """What the deliverer says of node `local-1`, which the fake engine has, and of `other-1`, which nobody has."""
    scene = await Scene(database, clock).build(nodes=1)
    async with database.transaction() as tx:
        await scene._add_node(tx, "leaf_0", "local-1")
        nodes = (await scene.fleet.leaf_nodes(tx, [("leaf_0", "h100.8x")]))["leaf_0", "h100.8x"]
    found = await EngineDeliverer({str(n): engine for n, engine in enumerate(engines)}).look(nodes)
    return {hostname: found[id] for hostname, id in scene.nodes.items()}


async def test_a_node_is_there_when_the_engine_that_has_it_is_ready(database, clock):
    found = await words(database, clock, FakeEngine(clock))
    assert found["local-1"].ready
    assert (found["a0-1"].ready, found["a0-1"].code) == (False, BindingReason.NO_ENGINE)
    assert "a0-1" in found["a0-1"].message


async def test_a_node_that_its_engine_has_drained_is_not_there(database, clock):
    engine = FakeEngine(clock)
    await engine.drain("local-1", "a fan")
    found = (await words(database, clock, engine))["local-1"]
    assert (found.ready, found.code) == (False, BindingReason.NODE_NOT_READY)
    assert NodeCondition.DRAINED in found.message and "a fan" in found.message


async def test_a_silent_engine_might_have_what_no_other_has(database, clock):
    here, away = FakeEngine(clock), FakeEngine(clock)
    away.away = True
    found = await words(database, clock, here, away)
    assert found["local-1"].ready
    assert found["a0-1"].code is BindingReason.ENGINE_UNAVAILABLE


async def test_the_fleets_news_has_the_reservations_of_a_leaf_looked_at(database, clock):
    scene = await Scene(database, clock).build(leaves=2)
    here, there = await scene.reserve((0, 1, 0, 60)), await scene.reserve((1, 1, 0, 60))
    await scene.settle()
    watcher = FleetWatcher(database, clock)
    assert await watcher.look() == 0
    watcher.notified(FLEET, "leaf_1")
    assert await watcher.look() == 1
    assert [row.id for row in await scene.reconciler.claim(8)] == [there]
    watcher.wake_all()
    assert await watcher.look() == 2
    assert [row.id for row in await scene.reconciler.claim(8)] == [here]  # the other is leased


async def test_who_hands_nodes_over_says_so_itself(scene):
    deliveries = Deliveries(scene.clock, scene.events)
    for hostname in scene.nodes:
        scene.engines.missing[hostname] = BindingReason.NO_ENGINE
    one = await scene.reserve((0, 2, 0, 60))
    await scene.settle()
    assert await scene.status(one) == (S.LATE, "no_engine")
    scene.engines.missing.clear()
    async with scene.database.transaction() as tx:
        await deliveries.delivered(tx, one)
    await scene.settle()
    assert await scene.status(one) == (S.ACTIVE, "delivered")
    async with scene.database.reading() as tx:
        assert len([node for node in await deliveries.bound(tx, one) if node.delivered_at]) == 2


async def test_a_delivery_that_fails_is_on_the_timeline(scene):
    deliveries = Deliveries(scene.clock, scene.events)
    one = await scene.reserve((0, 1, 10, 60))
    await scene.settle()
    async with scene.database.transaction() as tx:
        await deliveries.delivery_failed(tx, PROJECT, one, "Its nodes did not come up.")
    assert "reservation.delivery_failed" in await scene.timeline(one)
    async with scene.database.reading() as tx:
        assert [node.delivered_at for node in await deliveries.bound(tx, one)] == [None]


async def test_nodes_that_somebody_has_are_named_with_who_has_them(scene):
    one = await scene.reserve((0, 1, 0, 60))
    await scene.settle()
    async with scene.database.reading() as tx:
        held = await Deliveries(scene.clock, scene.events).held_nodes(tx, scene.nodes.values())
    assert held == {"node_a0-1": f"reservation {one} until 2026-01-01T01:00:00Z"}


async def test_spot_work_on_a_node_that_was_reserved_is_told_to_leave_by_the_start(scene):
    lent = [replace(claim(0, None, node=node, kind="spot"), leaf="leaf_0") for node in scene.nodes.values()]
    async with scene.database.transaction() as tx:
        await scene.claims.insert(tx, lent)
    one = await scene.reserve((0, 2, 10, 60))
    await scene.settle()
    bound = {scene.nodes[hostname] for hostname in await scene.bound(one)}
    async with scene.database.reading() as tx:
        told = await scene.claims.reclaimed(tx, scene.clock.now().replace(hour=23))
    assert {claim.node for claim in told} == bound
    assert {claim.reclaim_at for claim in told} == {scene.clock.now().replace(minute=10)}


async def test_a_lost_node_is_seen_from_the_moment_it_was_noted(scene):
    one = await scene.reserve((0, 1, 0, 60))
    await scene.settle()
    (before,) = await scene.bound(one)
    scene.clock.advance(minutes=10)
    noted = scene.clock.now()
    await scene.set_node(before, NodeStatus.FAILED)
    scene.clock.advance(minutes=5)
    await scene.settle()
    async with scene.database.reading() as tx:
        first, second = await scene.claims.of_holders(tx, [one])
    assert (first.end, second.start) == (noted, scene.clock.now())
