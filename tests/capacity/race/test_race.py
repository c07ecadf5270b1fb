"""Many processes at one calendar: one winner for each slot, and nothing lost or sold twice when some are killed."""

import asyncio
import random
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import select

from skerry.billing.tables import reserved_terms
from skerry.capacity.asking import QuoteAsk
from skerry.capacity.errors import OfferTaken
from skerry.capacity.model import ReservationStatus
from skerry.capacity.service import NewReservation
from skerry.capacity.tables import reservation_legs, reservations
from skerry.runtime.tables import events
from tests.capacity.race.conftest import rounds
from tests.capacity.race.desk import SKU, Desk
from tests.capacity.race.racers import LEAVES, SIZE, SLOTS, START, buy, processes, race
from tests.waiting import eventually

RACERS, BUYERS = 8, 4
LEAVES_FOR_SALE, NODES = 2, 8


async def test_of_eight_that_want_a_slot_one_gets_it(database):
    barrier, winners = processes.Barrier(RACERS), processes.Queue()
    racers = [processes.Process(target=race, args=(database.url, n, barrier, winners)) for n in range(RACERS)]
    for racer in racers:
        racer.start()
    won = [slot for _ in racers for slot in await asyncio.to_thread(winners.get, True, 120)]
    for racer in racers:
        await asyncio.to_thread(racer.join, 60)
        assert racer.exitcode == 0
    assert Counter(won) == Counter(SLOTS)
    sold = await legs(database)
    assert Counter((leg.leaf, leg.start_at) for leg in sold) == Counter(
        (f"leaf_{leaf}", START + timedelta(days=day)) for leaf, day in SLOTS
    )
    check_never_oversold(sold, {f"leaf_{leaf}": SIZE for leaf in range(LEAVES)})


@pytest.mark.parametrize("seed", rounds())
async def test_nothing_is_lost_or_sold_twice_when_buyers_are_killed(database, tmp_path, seed):
    rng = random.Random(seed)
    desk = Desk.over(database)
    key = await desk.open(LEAVES_FOR_SALE, NODES)
    told = [tmp_path / f"told-{number}" for number in range(BUYERS)]
    buyers = [
        processes.Process(target=buy, args=(database.url, key, f"{seed}/{number}", str(path)), daemon=True)
        for number, path in enumerate(told)
    ]
    for buyer in buyers:
        buyer.start()
    try:
        for buyer, path in zip(buyers, told, strict=True):
            enough = rng.randint(1, 12)
            await eventually(lambda path=path, enough=enough: len(lines(path)) >= enough, 60)
            await asyncio.sleep(rng.uniform(0, 0.03))  # so that it dies anywhere in what it is doing
            buyer.kill()
    finally:
        for buyer in buyers:
            buyer.kill()
            await asyncio.to_thread(buyer.join, 30)
    answered = dict(line.split() for path in told for line in lines(path))
    print(f"seed {seed}: {len(answered)} reservations answered")
    assert answered
    await check_books(database, answered)
    check_never_oversold(await legs(database), {f"leaf_{leaf}": NODES for leaf in range(LEAVES_FOR_SALE)})
    await check_it_goes_on(desk, key)


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


async def legs(database):
    async with database.reading() as tx:
        return (await tx.execute(select(reservation_legs).where(reservation_legs.c.live))).all()


def check_never_oversold(sold, sizes):
    """The counts, derived once more from nothing but the legs."""
    for leaf, size in sizes.items():
        own = [leg for leg in sold if leg.leaf == leaf]
        for moment in {leg.start_at for leg in own}:
            assert sum(leg.nodes for leg in own if leg.start_at <= moment < leg.end_at) <= size


async def check_books(database, answered):
    """What was answered is there as it was answered; and of everything that is there, all of it."""
    async with database.reading() as tx:
        rows = {row.id: row for row in await tx.execute(select(reservations))}
        sold = (await tx.execute(select(reservation_legs))).all()
        terms = set((await tx.execute(select(reserved_terms.c.reservation))).scalars())
        told = {(row.resource, row.type) for row in await tx.execute(select(events))}
    for id, status in answered.items():
        assert rows[id].status == status or (status == ReservationStatus.HELD and rows[id].status == "confirmed")
    for id, row in rows.items():
        own = [leg for leg in sold if leg.reservation == id]
        assert sum(leg.nodes * (leg.end_at - leg.start_at) // timedelta(seconds=1) for leg in own) == row.node_seconds
        assert (row.status == ReservationStatus.CONFIRMED) == (id in terms)
        assert (id, f"reservation.{row.status}") in told


async def check_it_goes_on(desk, key):
    """The dead hold no lock: the next customer is served at once."""
    principal = await desk.identity.authenticate(key)
    start = START + timedelta(days=400)
    quote = await desk.capacity.quotes.create(principal, QuoteAsk(SKU, nodes=16, duration_seconds=3600, start_at=start))
    new = NewReservation(quote.offers[0].id, confirm=True)
    async with asyncio.timeout(20):
        assert (await desk.capacity.reservations.reserve(principal, new)).status is ReservationStatus.CONFIRMED
        with pytest.raises(OfferTaken):
            await desk.capacity.reservations.reserve(principal, new)
