"""Working on nodes: what takes capacity away says whom it leaves short, first."""

from datetime import timedelta

import pytest

from skerry.fleet.errors import BadFleetField, BreaksReservations, UnknownFleetThing
from skerry.fleet.model import NodeStatus
from skerry.fleet.rules.nodes import NodeVerb, actions, why_not
from skerry.fleet.service import Fleet
from skerry.fleet.upkeep import MaintenanceWish, NodeWish
from skerry.kernel.clock import FakeClock
from skerry.kernel.paging import PageRequest
from skerry.kernel.states import IllegalTransition
from tests.fleet.conftest import Sale, Sales, events_of
from tests.fleet.fleets import SMALL

NOW = FakeClock().now()
DAY = timedelta(days=1)


@pytest.fixture
async def small(fleet: Fleet) -> Fleet:
    await fleet.declared.apply(SMALL)
    return fleet


@pytest.fixture
async def sold_out(small: Fleet, sales: Sales) -> Fleet:
    sales.sales.append(Sale("res_1", "a-1", 4, NOW + DAY, NOW + 2 * DAY))
    return small


async def move(fleet, verb, host="a-1-1", **more):
    return await fleet.upkeep.move(host, NodeWish(verb, "because", **more))


@pytest.mark.parametrize(
    ("verb", "status"),
    [
        (NodeVerb.CORDON, NodeStatus.CORDONED),
        (NodeVerb.DRAIN, NodeStatus.DRAINING),
        (NodeVerb.FAIL, NodeStatus.FAILED),
    ],
)
async def test_a_verb_leaves_its_mark_and_an_event(small: Fleet, verb, status):
    node, late = await move(small, verb)
    assert (node.status, node.status_reason, late) == (status, {"code": "by_operator", "message": "because"}, [])
    (event,) = await events_of(small, node.id)
    assert (event.type, event.data["before"], event.data["hostname"]) == (f"node.{status}", "ready", "a-1-1")


async def test_the_whole_way_of_a_repair(small: Fleet):
    for verb in (NodeVerb.FAIL, NodeVerb.MAINTAIN, NodeVerb.RESUME, NodeVerb.CORDON, NodeVerb.DRAIN, NodeVerb.MAINTAIN):
        node, _ = await move(small, verb)
    node, _ = await move(small, NodeVerb.RETIRE)
    assert node.status is NodeStatus.RETIRED
    assert len(await events_of(small, node.id)) == 7


async def test_what_the_table_does_not_know_is_refused(small: Fleet):
    with pytest.raises(IllegalTransition, match=r"resume of a-1-1: It is ready; it can be made: cordon, drain, fail"):
        await move(small, NodeVerb.RESUME)
    with pytest.raises(UnknownFleetThing):
        await move(small, NodeVerb.FAIL, "a-9-9")


def test_actions_say_why_not():
    told = actions(NodeStatus.RETIRED)
    assert told[NodeVerb.RESUME] == "It is retired; that is final."
    assert actions(NodeStatus.READY)[NodeVerb.DRAIN] == ""
    assert why_not(NodeStatus.DRAINING, NodeVerb.DRAIN) == ""  # until when may change


@pytest.mark.parametrize("verb", [NodeVerb.CORDON, NodeVerb.DRAIN])
async def test_a_drain_that_breaks_a_promise_says_so_first(sold_out: Fleet, verb):
    with pytest.raises(BreaksReservations) as refused:
        await move(sold_out, verb)
    assert refused.value.extra["reservations"] == [
        {
            "reservation": "res_1",
            "project": "proj_platform",
            "starts": "2026-01-02T00:00:00Z",
            "leaf": "a-1",
            "nodes_short": 1,
        }
    ]
    assert (await sold_out.node("a-1-1")).status is NodeStatus.READY
    node, late = await move(sold_out, verb, force=True)
    assert node.status is not NodeStatus.READY and [one.reservation for one in late] == ["res_1"]
    assert [event.type for event in await events_of(sold_out, node.id)][-1] == "node.makes_late"


async def test_a_drain_that_is_over_in_time_breaks_nothing(sold_out: Fleet):
    _, late = await move(sold_out, NodeVerb.DRAIN, until=NOW + DAY)
    assert late == []
    with pytest.raises(BreaksReservations):
        await move(sold_out, NodeVerb.DRAIN, until=NOW + DAY + timedelta(seconds=1))


async def test_a_failure_is_a_fact(sold_out: Fleet):
    node, late = await move(sold_out, NodeVerb.FAIL)
    assert node.status is NodeStatus.FAILED and [one.nodes_short for one in late] == [1]


async def test_who_was_short_already_is_no_reason(sold_out: Fleet):
    await move(sold_out, NodeVerb.FAIL)
    _, late = await move(sold_out, NodeVerb.DRAIN, "a-2-1")
    assert late == []


@pytest.mark.parametrize(
    ("verb", "until", "path"),
    [
        (NodeVerb.FAIL, NOW + DAY, "until"),
        (NodeVerb.DRAIN, NOW, "until"),
        (NodeVerb.DRAIN, NOW + timedelta(microseconds=1), "until"),
    ],
)
async def test_an_until_that_cannot_be(small: Fleet, verb, until, path):
    with pytest.raises(BadFleetField) as refused:
        await move(small, verb, until=until)
    assert refused.value.errors[0].path == path


def wish(**more):
    fields = {"leaf": "a-1", "sku": None, "nodes": 2, "start": NOW + DAY, "end": NOW + 2 * DAY, "reason": "pumps"}
    return MaintenanceWish(**{**fields, **more})


async def test_maintenance_says_whom_it_leaves_short(sold_out: Fleet):
    with pytest.raises(BreaksReservations):
        await sold_out.upkeep.plan(wish())
    window, late = await sold_out.upkeep.plan(wish(force=True))
    assert (window.sku, [one.nodes_short for one in late]) == ("h100-sxm.8x", [2])
    assert (await sold_out.upkeep.windows(PageRequest(), "a-1")).data == (window,)
    assert (await sold_out.upkeep.windows(PageRequest(), "a-2")).data == ()


async def test_maintenance_beside_a_reservation_is_fine(sold_out: Fleet):
    _, late = await sold_out.upkeep.plan(wish(start=NOW + 2 * DAY, end=NOW + 3 * DAY))
    assert late == []


@pytest.mark.parametrize(
    ("more", "path", "code"),
    [
        ({"nodes": 0}, "nodes", "out_of_range"),
        ({"nodes": 5}, "nodes", "too_many_nodes"),
        ({"leaf": "a-9"}, "leaf", "unknown_leaf"),
        ({"sku": "other"}, "sku", "unknown_sku"),
        ({"end": NOW + DAY}, "end", "end_before_start"),
        ({"start": NOW - 2 * DAY, "end": NOW}, "end", "in_the_past"),
        ({"start": NOW + timedelta(microseconds=5)}, "start", "sub_second"),
    ],
)
async def test_maintenance_that_cannot_be(small: Fleet, more, path, code):
    with pytest.raises(BadFleetField) as refused:
        await small.upkeep.plan(wish(**more))
    assert (refused.value.code, refused.value.errors[0].path) == (code, path)


async def test_a_leaf_of_two_skus_wants_to_know_which(small: Fleet):
    await small.declared.apply(
        SMALL.replace("skus: [", "skus: [{name: l40s.8x}, ") + "- {hostname: x, sku: l40s.8x, leaf: a-1}"
    )
    with pytest.raises(BadFleetField) as refused:
        await small.upkeep.plan(wish())
    assert refused.value.code == "sku_required"
    window, _ = await small.upkeep.plan(wish(sku="l40s.8x", nodes=1))
    assert window.sku == "l40s.8x"
    with pytest.raises(BadFleetField):
        await move(small, NodeVerb.DRAIN, "a-1-1", maintenance=window.id)
    with pytest.raises(UnknownFleetThing):
        await small.upkeep.window("mnt_none")


async def check(fleet, name="dcgm", at=None, **more):
    return await fleet.upkeep.check("a-1-1", name, at, **{"ok": True, "detail": "", **more})


async def test_checks_are_kept_and_the_last_of_each_is_the_health(small: Fleet, clock: FakeClock):
    await check(small)
    clock.advance(hours=1)
    await check(small, ok=False, detail="xid 79")
    await check(small, "ib", ok=True)
    await check(small, at=NOW + timedelta(minutes=5))  # an old one that comes late
    node = await small.node("a-1-1")
    assert node.health["dcgm"] == {"ok": False, "at": "2026-01-01T01:00:00Z", "detail": "xid 79"}
    assert (node.health["ib"]["ok"], node.status) == (True, NodeStatus.READY)
    page = await small.upkeep.checks("a-1-1", PageRequest(3))
    assert page.has_more and [one.check for one in page.data] == ["dcgm", "ib", "dcgm"]
    assert [event.type for event in await events_of(small, node.id)] == [
        "node.check_passed",
        "node.check_failed",
        "node.check_passed",
    ]


async def test_checks_are_forgotten_after_a_month(small: Fleet, clock: FakeClock):
    await check(small)
    clock.advance(days=31)
    await small.upkeep.keep_house()
    assert not (await small.upkeep.checks("a-1-1", PageRequest())).data


async def test_a_check_of_the_future_is_refused(small: Fleet):
    with pytest.raises(BadFleetField):
        await check(small, at=NOW + DAY)
