"""Many admitted in one transaction: each as if it had come alone."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from skerry.capacity.asking import QuoteAsk
from skerry.capacity.errors import HoldTooLarge, OfferTaken, UnknownOffer
from skerry.capacity.model import ReservationStatus
from skerry.capacity.service import NewReservation
from skerry.capacity.store.reservations import (
    Admission,
    HoldLimits,
    HoldRefused,
    LeafTaken,
    OfferSold,
    ReservationStore,
    SupplyChanged,
)
from skerry.capacity.tables import leaf_versions, reservation_legs, reservations
from skerry.kernel.windows import Window
from skerry.runtime.tables import events
from tests.capacity.market import SKU
from tests.capacity.race.racers import LEAVES, SIZE, supply, whole_leaf

STORE = ReservationStore()
NOW = datetime.now(UTC)


def wanted(leaf, nodes, first, days, *, offer=None, organization="org_1", status=ReservationStatus.HELD, event=None):
    """`nodes` of a leaf for some days."""
    made = whole_leaf(leaf, first)
    window = Window(made.start, made.start + timedelta(days=days))
    leg = replace(made.legs[0], nodes=nodes, window=window)
    made = replace(
        made, legs=(leg,), status=status, organization=organization, expires_at=NOW + timedelta(hours=1), created_at=NOW
    )
    return Admission(made, offer, "a test", event)


async def admit(database, lot, *, limits=None, known=None, now=NOW):
    """Why each was refused, None where it was not."""
    known = [supply(leaf) for leaf in range(LEAVES)] if known is None else known
    async with database.transaction() as tx:
        refused = await STORE.admit(tx, lot, now=now, supply=known, limits=limits)
    return [refused.get(one.reservation.id) for one in lot]


async def live_legs(database):
    async with database.reading() as tx:
        return (await tx.execute(select(reservation_legs).where(reservation_legs.c.live))).all()


def free(legs, leaf, window):
    own = [
        leg for leg in legs if leg.leaf == f"leaf_{leaf}" and leg.start_at < window.end and leg.end_at > window.start
    ]
    moments = {window.start, *(max(leg.start_at, window.start) for leg in own)}
    return SIZE - max(sum(leg.nodes for leg in own if leg.start_at <= at < leg.end_at) for at in moments)


@pytest.mark.parametrize("seed", range(3))
async def test_nobody_gets_too_much_and_nobody_is_refused_what_is_there(database, seed):
    rng = random.Random(seed)
    for _ in range(6):
        lot = [
            wanted(rng.randrange(2), rng.randint(1, SIZE), rng.randrange(6), rng.randint(1, 4))
            for _ in range(rng.randint(1, 12))
        ]
        answers = await admit(database, lot)
        legs = await live_legs(database)
        for one, why in zip(lot, answers, strict=True):
            (leg,) = one.reservation.legs
            left = free(legs, int(leg.leaf[-1]), leg.window)
            assert left >= 0
            assert (leg.id in {row.id for row in legs}) == (why is None)
            assert why is None or (isinstance(why, LeafTaken) and left < leg.nodes)
    async with database.reading() as tx:
        kept = set((await tx.execute(select(reservations.c.id))).scalars())
    assert kept == {leg.reservation for leg in legs}


async def test_of_those_that_want_the_same_the_first_get_it(database):
    lot = [wanted(0, SIZE - 1, 0, 1), wanted(0, 2, 0, 1), wanted(0, 1, 0, 1), wanted(1, SIZE, 0, 1)]
    assert [type(why) for why in await admit(database, lot)] == [type(None), LeafTaken, type(None), type(None)]


async def test_an_offer_is_sold_once_within_a_lot_and_after_it(database):
    assert [type(why) for why in await admit(database, [wanted(0, 1, 0, 1, offer="off_1") for _ in range(2)])] == [
        type(None),
        OfferSold,
    ]
    first, other = await admit(database, [wanted(0, 1, 0, 1, offer="off_1"), wanted(0, 1, 0, 1, offer="off_2")])
    assert isinstance(first, OfferSold)
    assert other is None


async def test_limits_are_an_organizations_own_and_only_what_is_admitted_counts(database):
    limits = HoldLimits(holds=2, node_seconds=3 * 86_400, repeats=3)
    lot = [
        wanted(0, 1, 0, 1),
        wanted(1, 4, 0, 1),
        wanted(2, 1, 0, 1, organization="org_2"),
        wanted(0, 1, 1, 1),
        wanted(0, 1, 2, 1),
    ]
    answers = await admit(database, lot, limits=limits)
    assert [why.limit if isinstance(why, HoldRefused) else why for why in answers] == [
        None, "node_seconds", None, None, "holds",
    ]  # fmt: skip
    (later,) = await admit(database, [wanted(3, 1, 0, 1)], limits=limits)
    assert isinstance(later, HoldRefused)


async def test_only_those_are_made_to_look_again_whose_leaf_has_another_supply(database):
    async with database.transaction() as tx:
        await tx.execute(leaf_versions.insert().values(leaf="leaf_1", sku=whole_leaf(0, 0).sku, version=5, supply=2))
    answers = await admit(database, [wanted(0, 1, 0, 1), wanted(1, 1, 0, 1)])
    assert answers[0] is None
    assert isinstance(answers[1], SupplyChanged)


async def test_a_leaf_that_nobody_knows_has_nothing(database):
    answers = await admit(database, [wanted(0, 1, 0, 1), wanted(1, 1, 0, 1)], known=[supply(0)])
    assert answers[0] is None
    assert isinstance(answers[1], LeafTaken)


async def test_a_bad_one_hurts_no_other(capacity, principal):
    """What only the database finds out: the lot is then admitted one by one."""
    offers = [await day_offer(capacity, principal, day) for day in (1, 3)]
    answers = await asyncio.gather(
        capacity.reservations.reserve(principal, NewReservation(offers[0], name="good")),
        capacity.reservations.reserve(principal, NewReservation(offers[1], name="a \x00")),
        capacity.reservations.reserve(principal, NewReservation("off_unknown")),
        return_exceptions=True,
    )
    assert answers[0].status is ReservationStatus.HELD
    assert isinstance(answers[1], Exception)
    assert isinstance(answers[2], UnknownOffer)
    again = await capacity.reservations.reserve(principal, NewReservation(offers[1], name="better"))
    assert again.status is ReservationStatus.HELD


async def test_each_of_many_customers_gets_the_answer_that_is_its_own(capacity, principal):
    """Holds asked for at once, by who may and who may not; events tell of those that were made, and of no other."""
    stranger = replace(principal, project_id="proj_other", organization_id="org_other")
    offers = [await day_offer(capacity, principal, day) for day in range(1, 9)]
    asked = [*offers[:4], *offers[:2]]
    answers = await asyncio.gather(
        *(capacity.reservations.reserve(principal, NewReservation(one)) for one in asked),
        *(capacity.reservations.reserve(stranger, NewReservation(one)) for one in offers[:2]),
        return_exceptions=True,
    )
    held = [one for one in answers if not isinstance(one, Exception)]
    assert [type(one) for one in answers[4:]] == [OfferTaken, OfferTaken, UnknownOffer, UnknownOffer]
    assert [one.start for one in answers[:4]] == sorted(one.start for one in answers[:4])
    async with capacity.db.reading() as tx:
        told = set((await tx.execute(select(events.c.resource).where(events.c.type == "reservation.held"))).scalars())
        count = (await tx.execute(select(func.count()).select_from(reservations))).scalar_one()
    assert told == {one.id for one in held}
    assert count == 4
    capacity.reservations.admissions.limits = HoldLimits(node_seconds=1)
    with pytest.raises(HoldTooLarge):
        await capacity.reservations.reserve(principal, NewReservation(offers[7]))


async def day_offer(capacity, principal, day):
    start = capacity.clock.now() + timedelta(days=day)
    quote = await capacity.quotes.create(principal, QuoteAsk(SKU, nodes=1, duration_seconds=86_400, start_at=start))
    return quote.offers[0].id


@pytest.fixture
def capacity(cloud, fleet):
    return cloud.services.capacity
