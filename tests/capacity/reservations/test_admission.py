"""Nothing is sold twice, whoever comes when; what is promised is in the database."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text, update

from skerry.capacity.asking import QuoteAsk
from skerry.capacity.claims.model import Claim, HolderKind
from skerry.capacity.claims.store import ClaimStore
from skerry.capacity.errors import HeldTooOften, HoldExpired, HoldTooLarge, OfferLapsed, OfferTaken, TooManyHolds
from skerry.capacity.model import ReservationStatus
from skerry.capacity.promises import Promises
from skerry.capacity.service import NewReservation
from skerry.capacity.store.reservations import HoldLimits
from skerry.fleet import tables as fleet_tables
from skerry.kernel.classes import CapacityClass
from skerry.kernel.ids import new_id
from skerry.kernel.windows import Window
from tests.capacity.market import DAY, SKU, START

LEAF_DAY = QuoteAsk(SKU, nodes=8, duration_seconds=DAY, start_at=START + timedelta(days=1))


@pytest.fixture
def capacity(cloud):
    return cloud.services.capacity


async def offer(capacity, principal, ask=LEAF_DAY):
    return (await capacity.quotes.create(principal, ask)).offers[0]


async def sold(capacity):
    """The most nodes that are promised at one moment, by leaf."""
    async with capacity.db.reading() as tx:
        legs = await Promises().legs(tx, None, capacity.clock.now())
    most = {}
    for one in legs:
        same = (leg.nodes for leg in legs if leg.leaf == one.leaf and leg.window.contains(one.window.start))
        most[one.leaf_name] = max(most.get(one.leaf_name, 0), sum(same))
    return most


async def test_of_many_who_want_the_last_leaf_one_gets_it(capacity, principal):
    ask = replace(LEAF_DAY, sites=("portugal",))
    offers = [await offer(capacity, principal, ask) for _ in range(6)]
    answers = await asyncio.gather(
        *(capacity.reservations.reserve(principal, NewReservation(one.id, confirm=True)) for one in offers),
        return_exceptions=True,
    )
    won = [one for one in answers if not isinstance(one, BaseException)]
    lost = [one for one in answers if isinstance(one, OfferTaken)]
    assert (len(won), len(lost)) == (1, 5)
    assert await sold(capacity) == {"pt-1": 8}
    assert all(one.extra["quote"].offers[0].start >= won[0].end for one in lost)


async def test_an_offer_is_good_for_one_reservation(capacity, principal):
    taken = await offer(capacity, principal, replace(LEAF_DAY, nodes=1))
    await capacity.reservations.reserve(principal, NewReservation(taken.id))
    with pytest.raises(OfferTaken, match="reserved already"):
        await capacity.reservations.reserve(principal, NewReservation(taken.id))


async def test_a_pool_that_changes_is_another_supply(cloud, capacity, principal, fleet):
    """Whoever admits by what reservations could buy before is made to look again."""
    await capacity.reservations.reserve(principal, NewReservation((await offer(capacity, principal)).id))
    shape = "accelerator: H100, accelerators_per_node: 8, cpu: 192, memory: 2048GiB, nvlink: true"
    for pool in (4, 6):
        before = await supply_versions(capacity)
        row = f"{{name: {SKU}, {shape}, tdp_w: 10000, idle_w: 2000, on_demand_nodes: {pool}}}"
        await cloud.services.fleet.declared.apply(f"skus: [{row}]")
        after = await supply_versions(capacity)
        assert after.keys() >= before.keys()
        assert all(after[key] > version for key, version in before.items())


async def supply_versions(capacity):
    async with capacity.db.reading() as tx:
        return {key: version.supply for key, version in (await Promises().versions(tx)).items()}


async def test_of_two_confirmations_both_see_one_purchase(capacity, principal):
    hold = await capacity.reservations.reserve(principal, NewReservation((await offer(capacity, principal)).id))
    both = await asyncio.gather(*(capacity.reservations.confirm(principal, hold.id) for _ in range(2)))
    assert {one.status for one in both} == {ReservationStatus.CONFIRMED}
    async with capacity.db.reading() as tx:
        opened = await tx.execute(text("SELECT count(*) FROM reserved_terms"))
        events = await tx.execute(text("SELECT count(*) FROM events WHERE type = 'reservation.confirmed'"))
        assert (opened.scalar_one(), events.scalar_one()) == (1, 1)


async def test_a_confirmation_and_a_drop_never_both_win(capacity, principal):
    hold = await capacity.reservations.reserve(principal, NewReservation((await offer(capacity, principal)).id))
    await asyncio.gather(
        capacity.reservations.confirm(principal, hold.id),
        capacity.reservations.drop(principal.project_id, hold.id),
        return_exceptions=True,
    )
    after = await capacity.reservations.get(principal.project_id, hold.id)
    counted = await sold(capacity)
    assert (after.status, bool(counted)) in (
        (ReservationStatus.CONFIRMED, True),
        (ReservationStatus.CANCELLED, False),
    )


async def test_a_hold_that_a_faster_clock_gave_away_is_not_confirmed(capacity, principal, clock):
    """A server whose clock is ahead counts the hold as lapsed and sells its nodes; ours still sees it alive."""
    ask = replace(LEAF_DAY, sites=("portugal",))
    hold = await capacity.reservations.reserve(principal, NewReservation((await offer(capacity, principal, ask)).id))
    clock.advance(minutes=15)
    other = await capacity.reservations.reserve(
        principal, NewReservation((await offer(capacity, principal, ask)).id, confirm=True)
    )
    clock.advance(minutes=-1)
    with pytest.raises(HoldExpired) as refusal:
        await capacity.reservations.confirm(principal, hold.id)
    assert refusal.value.extra["quote"].offers
    assert other.status is ReservationStatus.CONFIRMED
    assert await sold(capacity) == {"pt-1": 16}  # the hold is still there, and lapses; it is not bought
    clock.advance(minutes=1)
    assert await sold(capacity) == {"pt-1": 8}


async def test_nodes_that_failed_since_the_quote_are_not_sold(cloud, capacity, principal, fleet):
    ask = replace(LEAF_DAY, sites=("portugal",))
    taken = await offer(capacity, principal, ask)
    async with capacity.db.transaction() as tx:
        nodes = fleet_tables.nodes
        await tx.execute(update(nodes).where(nodes.c.hostname == "pt-1-0").values(status="failed"))
        await cloud.services.capacity.sold.made_late(tx, await cloud.services.fleet.supplies(tx, [fleet["pt-1"]]))
    with pytest.raises(OfferTaken):
        await capacity.reservations.reserve(principal, NewReservation(taken.id))
    assert await sold(capacity) == {}


async def test_who_would_be_short_is_named_the_latest_buyers_first(cloud, capacity, principal, fleet, clock):
    ask = QuoteAsk(SKU, nodes=4, duration_seconds=DAY, start_at=START + timedelta(days=1), sites=("portugal",))
    bought = []
    for _ in range(2):
        new = NewReservation((await offer(capacity, principal, ask)).id, confirm=True)
        bought.append(await capacity.reservations.reserve(principal, new))
        clock.advance(seconds=1)
    async with capacity.db.transaction() as tx:
        nodes = fleet_tables.nodes
        await tx.execute(update(nodes).where(nodes.c.hostname.in_(["pt-1-0", "pt-1-1"])).values(status="failed"))
        supplies = await cloud.services.fleet.supplies(tx, [fleet["pt-1"]])
        (late,) = await capacity.sold.made_late(tx, supplies)
        assert (late.reservation, late.nodes_short, late.leaf_name) == (bought[1].id, 2, "pt-1")
        (sentence,) = await capacity.sold.why_not(tx, supplies)
    assert bought[1].id in sentence
    assert "2 nodes in leaf pt-1" in sentence


async def test_nodes_that_on_demand_work_has_are_not_there_for_those_who_bought(cloud, capacity, principal, fleet):
    ask = QuoteAsk(SKU, nodes=6, duration_seconds=DAY, start_at=START + timedelta(days=1), sites=("portugal",))
    new = NewReservation((await offer(capacity, principal, ask)).id, confirm=True)
    bought = await capacity.reservations.reserve(principal, new)
    async with capacity.db.transaction() as tx:
        known = await cloud.services.fleet.find_nodes(tx, ["pt-1-2", "pt-1-0"])
        for host in ("pt-1-2", "pt-1-0"):
            await ClaimStore().insert(tx, [on_demand(fleet["pt-1"], known[host].id)])
        nodes = fleet_tables.nodes
        await tx.execute(update(nodes).where(nodes.c.hostname.in_(["pt-1-0", "pt-1-1"])).values(status="failed"))
        (late,) = await capacity.sold.made_late(tx, await cloud.services.fleet.supplies(tx, [fleet["pt-1"]]))
    assert (late.reservation, late.nodes_short) == (bought.id, 1), "the work on the node that failed takes nothing"


def on_demand(leaf, node):
    """An open-ended claim on a whole node."""
    return Claim(
        id=new_id("clm"),
        project="proj_1",
        holder_kind=HolderKind.WORKLOAD,
        holder=new_id("wl"),
        capacity_class=CapacityClass.ON_DEMAND,
        leaf=leaf,
        sku=SKU,
        node=node,
        accelerators=(0, 8),
        start=START,
        end=None,
        created_at=START,
    )


async def test_an_organization_holds_no_more_than_it_may(capacity, principal):
    capacity.reservations.admissions.limits = HoldLimits(holds=2, node_seconds=3 * 8 * DAY, repeats=10)
    for _ in range(2):
        await capacity.reservations.reserve(principal, NewReservation((await offer(capacity, principal)).id))
    with pytest.raises(TooManyHolds) as refusal:
        await capacity.reservations.reserve(principal, NewReservation((await offer(capacity, principal)).id))
    assert refusal.value.retry_after == 900
    new = NewReservation((await offer(capacity, principal)).id, confirm=True)
    assert (await capacity.reservations.reserve(principal, new)).status is ReservationStatus.CONFIRMED


async def test_at_once_it_holds_no_more_either(capacity, principal):
    capacity.reservations.admissions.limits = HoldLimits(holds=2)
    asks = [replace(LEAF_DAY, start_at=START + timedelta(days=day)) for day in range(1, 6)]
    offers = [await offer(capacity, principal, ask) for ask in asks]
    answers = await asyncio.gather(
        *(capacity.reservations.reserve(principal, NewReservation(one.id)) for one in offers), return_exceptions=True
    )
    assert sum(isinstance(one, TooManyHolds) for one in answers) == 3


async def test_it_holds_no_more_node_seconds_than_it_may(capacity, principal):
    capacity.reservations.admissions.limits = HoldLimits(node_seconds=8 * DAY)
    await capacity.reservations.reserve(principal, NewReservation((await offer(capacity, principal)).id))
    with pytest.raises(HoldTooLarge):
        await capacity.reservations.reserve(principal, NewReservation((await offer(capacity, principal)).id))


async def test_holding_the_same_side_by_side_is_no_repetition(capacity, principal):
    capacity.reservations.admissions.limits = HoldLimits(repeats=1)
    for _ in range(3):
        await capacity.reservations.reserve(principal, NewReservation((await offer(capacity, principal)).id))


async def test_a_hold_that_lapsed_counts_as_let_go_before_anybody_has_written_it_down(capacity, principal, clock):
    capacity.reservations.admissions.limits = HoldLimits(repeats=1)
    await capacity.reservations.reserve(principal, NewReservation((await offer(capacity, principal)).id))
    clock.advance(minutes=20)
    with pytest.raises(HeldTooOften):
        await capacity.reservations.reserve(principal, NewReservation((await offer(capacity, principal)).id))


async def test_holding_the_same_again_and_again_ends(capacity, principal, clock):
    for _ in range(3):
        hold = await capacity.reservations.reserve(principal, NewReservation((await offer(capacity, principal)).id))
        await capacity.reservations.drop(principal.project_id, hold.id)
    with pytest.raises(HeldTooOften):
        await capacity.reservations.reserve(principal, NewReservation((await offer(capacity, principal)).id))
    other = replace(LEAF_DAY, start_at=START + timedelta(days=40))
    await capacity.reservations.reserve(principal, NewReservation((await offer(capacity, principal, other)).id))


async def test_the_sweeper_writes_down_what_has_lapsed(capacity, principal, clock):
    hold = await capacity.reservations.reserve(principal, NewReservation((await offer(capacity, principal)).id))
    clock.advance(minutes=30)
    async with capacity.db.transaction() as tx:
        assert await capacity.reservations.expire_due(tx) == 1
        assert await capacity.reservations.expire_due(tx) == 0
        found, _ = await capacity.reservations.store.find(tx, principal.project_id, hold.id)
    assert (found.status, found.ended_at) == (ReservationStatus.EXPIRED, hold.expires_at)


async def test_the_database_counts_as_the_calendar_does(capacity, principal, fleet):
    for nodes, days in ((3, 2), (5, 1), (2, 4)):
        ask = QuoteAsk(SKU, nodes=nodes, duration_seconds=days * DAY, sites=("portugal",))
        new = NewReservation((await offer(capacity, principal, ask)).id, confirm=nodes != 5)
        await capacity.reservations.reserve(principal, new)
    await capacity.live.refresh()
    live = capacity.live
    (key,) = [key for key in live.leaves if key.leaf == fleet["pt-1"]]
    now = capacity.clock.now()
    async with capacity.db.reading() as tx:
        for first in range(0, 6):
            for length in (1, 2, 3):
                window = Window(START + timedelta(days=first), START + timedelta(days=first + length))
                free = await Promises().least_free(tx, key, window, now, live.leaves[key].sellable)
                start, end = (int(moment.timestamp()) for moment in (window.start, window.end))
                assert free == live.calendar.min_free(key, start, end, live.now)


async def test_nothing_is_sold_or_kept_for_a_window_that_is_over(capacity, principal, clock):
    ask = QuoteAsk(SKU, nodes=1, duration_seconds=60)
    first, second = await offer(capacity, principal, ask), await offer(capacity, principal, ask)
    assert first.expires_at == first.end
    hold = await capacity.reservations.reserve(principal, NewReservation(first.id))
    assert hold.expires_at == hold.end
    clock.advance(seconds=61)
    with pytest.raises(OfferLapsed) as late:
        await capacity.reservations.reserve(principal, NewReservation(second.id, confirm=True))
    with pytest.raises(HoldExpired) as lapsed:
        await capacity.reservations.confirm(principal, hold.id)
    for refusal in (late, lapsed):
        assert refusal.value.extra["quote"].offers[0].start >= clock.now()
