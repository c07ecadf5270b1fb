"""Planned capacity: what is ordered, how far it is, and whom a slip makes late."""

from datetime import timedelta
from decimal import Decimal

import pytest

from skerry.fleet.deliveries import DeliveryChange, NewDelivery
from skerry.fleet.errors import BadFleetField, BreaksReservations, NameTaken, UnknownFleetThing
from skerry.fleet.model import Milestone, MilestoneDates
from skerry.fleet.rules.deliveries import leaves_of_size
from skerry.fleet.service import Fleet
from skerry.kernel.clock import FakeClock
from skerry.kernel.errors import Invalid
from skerry.kernel.paging import PageRequest
from tests.fleet.conftest import Sale, Sales, events_of, supplies
from tests.fleet.fleets import SMALL

NOW = FakeClock().now()
DAY = timedelta(days=1)
JUNE = NOW.replace(month=6)


@pytest.fixture
async def small(fleet: Fleet) -> Fleet:
    await fleet.declared.apply(SMALL)
    return fleet


def new(**more):
    fields = {"name": "d", "site": "no-x", "sku": "h100-sxm.8x", "nodes": 8, "service_at": JUNE, "hall": "a"}
    return NewDelivery(**{"leaf_size": 4, "leaf_prefix": "n", "confidence": Decimal(1), **fields, **more})


def reached(*names):
    return {name: MilestoneDates(None, NOW) for name in names}


def test_leaves_are_full_but_the_last():
    assert leaves_of_size("n", 9, 4) == {"n-1": 4, "n-2": 4, "n-3": 1}
    assert next(iter(leaves_of_size("n", 40, 4))) == "n-01"


async def test_a_whole_hall_is_ordered_with_its_leaves(small: Fleet):
    made = await small.deliveries.plan(new())
    assert (made.nodes, dict(made.leaves), made.reached) == (8, {"n-1": 4, "n-2": 4}, None)
    assert await small.deliveries.get("d") == made and (await small.leaf("n-2")).hall == "a"
    assert (await small.deliveries.page(PageRequest())).data == (made,)
    assert [event.type for event in await events_of(small, made.id)] == ["delivery.planned"]


async def test_more_nodes_for_leaves_that_are_there(small: Fleet):
    made = await small.deliveries.plan(new(name=None, hall=None, leaf_size=None, leaves={"a-1": 6, "a-2": 2}))
    assert made.name == made.id
    assert (await supplies(small))["a-1"].deliverable[-1].nodes == 10


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"site": "no-z"}, "site"),
        ({"sku": "z"}, "sku"),
        ({"hall": "z"}, "hall"),
        ({"hall": None}, "leaves"),
        ({"leaf_size": 0}, "leaf_size"),
        ({"leaf_prefix": "a"}, "leaf_prefix"),
        ({"leaves": {"z": 8}}, "leaves.z"),
        ({"leaves": {"a-1": 0, "a-2": 8}}, "leaves.a-1"),
        ({"leaves": {"a-1": 1}}, "nodes"),
        ({"nodes": 0}, "nodes"),
        ({"service_at": NOW - DAY}, "service_at"),
        ({"service_at": JUNE + timedelta(microseconds=1)}, "service_at"),
        ({"confidence": Decimal("1.1")}, "confidence"),
        ({"milestones": reached(Milestone.DELIVERED)}, "milestones.delivered"),
        ({"milestones": {Milestone.ORDERED: MilestoneDates(None, NOW + DAY)}}, "milestones.ordered"),
    ],
)
async def test_a_delivery_that_cannot_be(small: Fleet, more, path):
    with pytest.raises((BadFleetField, Invalid)) as refused:
        await small.deliveries.plan(new(**more))
    assert refused.value.errors[0].path == path


async def test_names_are_taken_once(small: Fleet):
    await small.deliveries.plan(new())
    with pytest.raises(NameTaken):
        await small.deliveries.plan(new(leaf_prefix="m"))
    with pytest.raises(UnknownFleetThing):
        await small.deliveries.get("other")


async def test_a_slip_says_whom_it_makes_late(small: Fleet, sales: Sales):
    made = await small.deliveries.plan(new())
    sales.sales.append(Sale("res_1", "n-1", 3, JUNE, JUNE + DAY))
    found, late = await small.deliveries.change("d", DeliveryChange(service_at=JUNE + DAY))
    assert found.service_at == JUNE + DAY
    assert [(one.reservation, one.leaf_name, one.nodes_short) for one in late] == [("res_1", "n-1", 3)]
    event = (await events_of(small, made.id))[-1]
    assert (event.type, event.data["makes_late"][0]["reservation"]) == ("delivery.slipped", "res_1")
    _, late = await small.deliveries.change("d", DeliveryChange(service_at=JUNE))
    assert late == []


async def test_less_confidence_is_less_to_sell(small: Fleet):
    await small.deliveries.plan(new())
    await small.deliveries.change("d", DeliveryChange(confidence=Decimal("0.5")))
    found = await supplies(small)
    assert (found["n-1"].deliverable[-1].nodes, found["n-2"].deliverable[-1].nodes) == (4, 0)


async def test_milestones_are_reached_one_after_the_other(small: Fleet):
    made = await small.deliveries.plan(new(milestones=reached(Milestone.ORDERED)))
    assert made.reached is Milestone.ORDERED
    found, _ = await small.deliveries.change("d", DeliveryChange(milestones=reached(Milestone.DELIVERED)))
    assert found.reached is Milestone.DELIVERED
    with pytest.raises(Invalid) as refused:
        await small.deliveries.change("d", DeliveryChange(milestones=reached(Milestone.BURNT_IN)))
    assert refused.value.code == "milestone_out_of_order"
    assert [event.type for event in await events_of(small, made.id)] == ["delivery.planned", "delivery.delivered"]


async def test_accepting_before_the_nodes_are_there_breaks_promises(small: Fleet, sales: Sales):
    await small.deliveries.plan(new())
    sales.sales.append(Sale("res_1", "n-1", 3, JUNE, JUNE + DAY))
    with pytest.raises(BreaksReservations):
        await small.deliveries.change("d", DeliveryChange(milestones=reached(*Milestone)))
    _, late = await small.deliveries.change("d", DeliveryChange(milestones=reached(*Milestone), force=True))
    assert len(late) == 1 and "n-1" not in await supplies(small)


async def test_cancelling_breaks_promises_only_if_forced(small: Fleet, sales: Sales):
    made = await small.deliveries.plan(new())
    sales.sales.append(Sale("res_1", "n-1", 3, JUNE, JUNE + DAY))
    with pytest.raises(BreaksReservations):
        await small.deliveries.cancel("d", force=False)
    assert [one.reservation for one in await small.deliveries.cancel("d", force=True)] == ["res_1"]
    with pytest.raises(UnknownFleetThing):
        await small.deliveries.get("d")
    page = await small.deliveries.events(made.id, PageRequest())
    assert [event.type for event in page.data] == ["delivery.planned", "delivery.cancelled"]
