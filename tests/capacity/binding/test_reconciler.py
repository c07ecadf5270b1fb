"""From confirmed to ended: nodes at start less the lead time, hand-over, spares, lateness, the record, the end."""

from dataclasses import replace

from skerry.capacity.binding.model import BindingReason
from skerry.capacity.model import ReservationStatus as S
from skerry.fleet.model import NodeStatus
from tests.capacity.binding.scene import Scene, at
from tests.capacity.claims.test_claims import claim


async def test_nodes_are_chosen_only_when_the_start_is_near(scene):
    one = await scene.reserve((0, 2, 60, 120))
    await scene.until(44)
    assert await scene.bound(one) == []
    assert (await scene.status(one))[0] == S.CONFIRMED
    await scene.until(45)
    assert await scene.bound(one) == ["a0-1", "a0-2"]
    assert await scene.status(one) == (S.DELIVERING, "waiting_for_start")


async def test_it_is_active_from_its_start_and_ends_with_its_window(scene):
    one = await scene.reserve((0, 2, 60, 150))
    await scene.until(60)
    assert await scene.status(one) == (S.ACTIVE, "delivered")
    await scene.until(149)
    assert await scene.status(one) == (S.ACTIVE, "delivered")
    await scene.until(150)
    assert await scene.status(one) == (S.ENDED, "window_over")
    assert await scene.bound(one) == []
    assert scene.settled == [one]
    assert await scene.facts(one) == [(60, 7200), (120, 3600)]
    assert await scene.timeline(one) == [
        "reservation.nodes_bound",
        "reservation.delivering",
        "reservation.reason",
        "reservation.active",
        "reservation.ended",
    ]


async def test_one_that_is_confirmed_for_now_is_there_at_once(scene):
    one = await scene.reserve((0, 2, 0, 60))
    await scene.settle()
    assert await scene.status(one) == (S.ACTIVE, "delivered")


async def test_what_a_late_look_finds_ready_was_there_from_the_start(scene):
    one = await scene.reserve((0, 1, 30, 60))
    await scene.until(20)
    scene.clock.advance(minutes=11)
    await scene.until(60)
    assert await scene.facts(one) == [(30, 1800)]


async def test_without_an_engine_it_is_late_at_its_start_and_active_when_there_is_one(scene):
    scene.engines.missing["a0-1"] = BindingReason.NO_ENGINE
    one = await scene.reserve((0, 1, 60, 120))
    await scene.until(59)
    assert await scene.status(one) == (S.DELIVERING, "no_engine")
    await scene.until(60)
    assert await scene.status(one) == (S.LATE, "no_engine")
    scene.engines.missing.clear()
    await scene.until(70)
    assert await scene.status(one) == (S.ACTIVE, "delivered")
    await scene.until(120)
    assert await scene.status(one) == (S.ENDED, "window_over")
    (promised, correction) = await scene.facts(one)
    assert promised == (60, 3600)
    assert correction[1] in range(-60, 0)


async def test_what_was_never_there_is_cancelled_at_its_end_and_not_charged(scene):
    scene.engines.missing["a0-1"] = BindingReason.NO_ENGINE
    one = await scene.reserve((0, 1, 60, 70))
    await scene.until(70)
    assert await scene.status(one) == (S.CANCELLED, "never_delivered")
    assert await scene.facts(one) == [(60, 600), (60, -600)]
    assert scene.settled == [one]


async def test_an_engine_that_goes_before_the_start_makes_it_late(scene):
    one = await scene.reserve((0, 1, 60, 120))
    await scene.until(50)
    assert await scene.status(one) == (S.DELIVERING, "waiting_for_start")
    scene.engines.missing["a0-1"] = BindingReason.ENGINE_UNAVAILABLE
    await scene.until(60)
    assert await scene.status(one) == (S.LATE, "engine_unavailable")


async def test_too_few_nodes_make_it_late_until_one_is_mended(scene):
    await scene.set_node("a0-4", NodeStatus.FAILED)
    one = await scene.reserve((0, 4, 60, 120))
    await scene.until(60)
    assert await scene.status(one) == (S.LATE, "short_of_nodes")
    assert await scene.bound(one) == ["a0-1", "a0-2", "a0-3"]
    await scene.set_node("a0-4", NodeStatus.READY)
    await scene.settle()
    assert await scene.status(one) == (S.ACTIVE, "delivered")


async def test_a_spare_replaces_a_failed_node_and_the_gap_is_not_charged(scene):
    one = await scene.reserve((0, 3, 0, 60))
    await scene.settle()
    scene.clock.advance(minutes=22)
    await scene.set_node("a0-2", NodeStatus.FAILED)
    scene.clock.advance(minutes=1)
    await scene.settle()
    assert await scene.bound(one) == ["a0-1", "a0-3", "a0-4"]
    assert await scene.status(one) == (S.ACTIVE, "delivered")
    assert "reservation.nodes_replaced" in await scene.timeline(one)
    await scene.until(60)
    assert await scene.facts(one) == [(0, 3 * 3600), (0, -60)]


async def test_without_a_spare_an_active_one_is_short_and_pays_for_what_it_has(scene):
    one = await scene.reserve((0, 4, 0, 60))
    await scene.settle()
    scene.clock.advance(minutes=30)
    await scene.set_node("a0-2", NodeStatus.FAILED)
    await scene.settle()
    assert await scene.status(one) == (S.ACTIVE, "short_of_nodes")
    await scene.until(60)
    assert await scene.status(one) == (S.ENDED, "window_over")
    assert await scene.facts(one) == [(0, 4 * 3600), (0, -1800)]


async def test_a_drain_moves_what_has_not_begun_and_leaves_what_has(scene):
    begun, coming = await scene.reserve((0, 1, 0, 60)), await scene.reserve((0, 1, 14, 60))
    await scene.until(1)
    assert (await scene.bound(begun), await scene.bound(coming)) == (["a0-1"], ["a0-2"])
    await scene.set_node("a0-1", NodeStatus.DRAINING)
    await scene.set_node("a0-2", NodeStatus.DRAINING)
    await scene.settle()
    assert (await scene.bound(begun), await scene.bound(coming)) == (["a0-1"], ["a0-3"])
    await scene.set_node("a0-1", NodeStatus.MAINTENANCE)
    await scene.settle()
    assert await scene.bound(begun) == ["a0-4"]


async def test_a_ramp_keeps_its_nodes_and_gets_more(scene):
    await scene.reserve((0, 1, 0, 50))
    one = await scene.reserve((0, 2, 0, 60), (0, 3, 60, 120))
    await scene.until(1)
    first = set(await scene.bound(one))
    assert len(first) == 2
    await scene.until(61)
    assert first < set(await scene.bound(one))
    assert await scene.status(one) == (S.ACTIVE, "delivered")
    await scene.until(120)
    assert await scene.facts(one) == [(0, 7200), (60, 3 * 3600)]


async def test_an_extension_stays_where_it_is(scene):
    one = await scene.reserve((0, 2, 0, 60))
    await scene.until(30)
    before = await scene.bound(one)
    await scene.change(one, (0, 2, 0, 90))
    await scene.settle()
    assert await scene.bound(one) == before
    await scene.until(75)
    assert await scene.status(one) == (S.ACTIVE, "delivered")
    await scene.until(90)
    assert await scene.facts(one) == [(0, 7200), (60, 3600)]


async def test_a_smaller_one_gives_nodes_back_and_pays_for_what_it_used(scene):
    one = await scene.reserve((0, 4, 0, 60))
    await scene.until(20)
    await scene.change(one, (0, 4, 0, 20), (0, 1, 20, 60))
    await scene.settle()
    assert len(await scene.bound(one)) == 1
    await scene.until(60)
    assert await scene.facts(one) == [(0, 4 * 1200), (20, 2400)]


async def test_a_cancelled_one_gives_its_nodes_back_and_pays_for_what_it_used(scene):
    one = await scene.reserve((0, 4, 0, 600))
    await scene.until(90)
    await scene.change(one, (0, 4, 0, 90), status=S.ENDED, ended_at=scene.clock.now())
    await scene.settle()
    assert await scene.bound(one) == []
    assert await scene.facts(one) == [(0, 4 * 3600), (60, 4 * 1800)]
    assert scene.settled == [one]


async def test_one_that_ends_within_the_second_is_recorded_to_its_end(scene):
    one = await scene.reserve((0, 2, 0, 600))
    await scene.until(90)
    scene.clock.advance(seconds=-0.5)
    await scene.change(one, (0, 2, 0, 90), status=S.ENDED, ended_at=at(90))
    await scene.settle()
    assert scene.settled == []
    scene.clock.advance(seconds=0.5)
    await scene.settle()
    assert await scene.facts(one) == [(0, 7200), (60, 3600)]


async def test_one_that_shrinks_within_the_second_keeps_its_nodes_without_a_gap(scene):
    one = await scene.reserve((0, 4, 0, 60))
    await scene.until(20)
    before = set(await scene.bound(one))
    scene.clock.advance(seconds=-0.5)
    await scene.change(one, (0, 4, 0, 20), (0, 3, 20, 60))
    await scene.settle()
    scene.clock.advance(seconds=10)
    await scene.settle()
    assert set(await scene.bound(one)) < before
    await scene.until(60)
    assert await scene.facts(one) == [(0, 4 * 1200), (20, 3 * 2400)]


async def test_work_on_a_node_that_is_no_longer_the_reservations_is_told_to_leave(scene):
    one = await scene.reserve((0, 4, 0, 60))
    await scene.until(10)
    work = [
        replace(claim(0, 1, node=node, kind="reserved", reservation=one), leaf="leaf_0")
        for node in scene.nodes.values()
    ]
    async with scene.database.transaction() as tx:
        await scene.claims.insert(tx, work)
    await scene.change(one, (0, 4, 0, 20), (0, 3, 20, 60))
    await scene.until(20)
    kept = {scene.nodes[hostname] for hostname in await scene.bound(one)}
    async with scene.database.reading() as tx:
        told = await scene.claims.reclaimed(tx, at(60))
    assert {claim.node for claim in told} == set(scene.nodes.values()) - kept


async def test_one_that_is_moved_away_before_its_start_waits_again(scene):
    one = await scene.reserve((0, 2, 10, 60))
    await scene.settle()
    assert len(await scene.bound(one)) == 2
    await scene.change(one, (0, 2, 100, 160), status=S.CONFIRMED)
    await scene.settle()
    assert await scene.bound(one) == []
    await scene.until(100)
    assert await scene.status(one) == (S.ACTIVE, "delivered")


async def test_one_made_late_moves_what_was_bound_early(scene):
    first = await scene.reserve((0, 3, 0, 5))
    early = await scene.reserve((0, 3, 10, 60))
    await scene.until(1)
    late = await scene.reserve((0, 1, 1, 90))
    await scene.settle()
    assert await scene.status(late) == (S.ACTIVE, "delivered")
    await scene.until(10)
    assert await scene.status(early) == (S.ACTIVE, "delivered")
    assert not set(await scene.bound(early)) & set(await scene.bound(late))
    assert await scene.status(first) == (S.ENDED, "window_over")


async def test_leaves_are_bound_each_for_itself(database, clock):
    scene = await Scene(database, clock).build(leaves=3, nodes=4)
    one = await scene.reserve((0, 4, 0, 60), (1, 4, 0, 60), (2, 1, 0, 60))
    await scene.settle()
    assert await scene.bound(one) == [*(f"a0-{n}" for n in range(1, 5)), *(f"a1-{n}" for n in range(1, 5)), "a2-1"]


async def test_a_controller_that_was_away_for_hours_closes_them_all(scene):
    one = await scene.reserve((0, 1, 0, 400))
    await scene.settle()
    scene.clock.advance(minutes=130)
    await scene.set_node("a0-1", NodeStatus.FAILED)
    scene.clock.advance(minutes=70)
    await scene.settle()
    assert await scene.facts(one) == [(0, 3600), (60, 3600), (120, 3600), (120, -3000)]
    await scene.until(400)
    assert sum(quantity for _, quantity in await scene.facts(one)) == (400 - 70) * 60
