"""What the processes of the race do. They are forked from a server that has imported all this once."""

import asyncio
import multiprocessing
import os
import random
from datetime import UTC, datetime, timedelta

from skerry.billing.errors import CreditExhausted
from skerry.billing.model import ReservedPrice
from skerry.capacity.asking import QuoteAsk
from skerry.capacity.errors import OfferLapsed, OfferTaken
from skerry.capacity.live import KnownSupply
from skerry.capacity.model import Leg, OfferEnergy, Reservation, ReservationStatus, Scope
from skerry.capacity.service import NewReservation
from skerry.capacity.store.reservations import Admission, LeafTaken, ReservationStore
from skerry.db.database import Database
from skerry.fleet.model import LeafSupply, Step
from skerry.kernel.ids import new_id
from skerry.kernel.windows import Window
from tests.capacity.race.desk import SKU, Desk

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([__name__, "tests.capacity.race.keepers", "tests.capacity.race.warmed"])

START = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=30)
LEAVES, SIZE, DAYS = 5, 4, 10
SLOTS = [(leaf, day) for day in range(DAYS) for leaf in range(LEAVES)]
"""A whole leaf for a day: whoever has it has all of it."""
MOST = 4
"""So many are asked for in one transaction."""
CUSTOMERS = 3
"""Of a process that sells: what they ask for at once is admitted together."""


def race(url, number, barrier, winners):
    """Try to get every slot, several at a time, beside the others; puts the slots it got."""
    winners.put(asyncio.run(_race(url, random.Random(number), barrier)))


async def _race(url, rng, barrier):
    database, store, won = Database(url, pool_size=1), ReservationStore(), []
    rest = rng.sample(SLOTS, len(SLOTS))
    try:
        async with database.reading():
            barrier.wait()
        while rest:
            lot, rest = rest[:MOST], rest[MOST:]
            wanted = {slot: Admission(whole_leaf(*slot), offer=None, by="race") for slot in lot}
            known = [supply(leaf) for leaf in {leaf for leaf, _ in lot}]
            async with database.transaction() as tx:
                now = datetime.now(UTC)
                refused = await store.admit(tx, list(wanted.values()), now=now, supply=known, limits=None)
            assert all(isinstance(why, LeafTaken) for why in refused.values())
            won += [slot for slot, one in wanted.items() if one.reservation.id not in refused]
    finally:
        await database.close()
    return won


def supply(leaf):
    steps = (Step(START - timedelta(days=1), SIZE),)
    known = LeafSupply(f"leaf_{leaf}", f"leaf-{leaf}", "hall", "site", None, SKU, SIZE, 0, steps, steps)
    return KnownSupply(known, 0)


def whole_leaf(leaf, day):
    window = Window(START + timedelta(days=day), START + timedelta(days=day + 1))
    leg = Leg(f"leaf_{leaf}", f"leaf-{leaf}", "hall", "site", SIZE, window, id=new_id("leg"))
    now = datetime.now(UTC)
    return Reservation(
        id=new_id("res"),
        project="proj_1",
        organization="org_1",
        name="race",
        sku=SKU,
        status=ReservationStatus.CONFIRMED,
        reason_code="bought",
        reason="",
        scope=Scope.ANY,
        scope_required=False,
        legs=(leg,),
        price=ReservedPrice.from_json(NO_PRICE),
        energy=OfferEnergy(0, 0),
        created_at=now,
        updated_at=now,
        expires_at=None,
    )


NO_PRICE = {
    "total": "0",
    "hourly": "0",
    "currency": "EUR",
    "lines": [],
    "rates": [],
    "books": [],
    "contract": None,
    "unpriced": [],
}


def buy(url, key, seed, told):
    """Buy and hold at random until killed. What was answered is written to the file `told`, a line each."""
    asyncio.run(_buy(url, key, random.Random(seed), told))


async def _buy(url, key, rng, told):
    desk = Desk.over(Database(url, pool_size=4))
    principal = await desk.identity.authenticate(key)
    out = os.open(told, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    await asyncio.gather(*(_customer(desk, principal, rng, out) for _ in range(CUSTOMERS)))


async def _customer(desk, principal, rng, out):
    while True:
        quote = await desk.capacity.quotes.create(principal, ask(rng))
        for offer in quote.offers[:1]:
            try:
                made = await desk.capacity.reservations.reserve(
                    principal, NewReservation(offer.id, confirm=rng.random() < 0.3)
                )
                if made.status is ReservationStatus.HELD and rng.random() < 0.5:
                    made = await desk.capacity.reservations.confirm(principal, made.id)
            except (OfferTaken, OfferLapsed, CreditExhausted):
                continue
            os.write(out, f"{made.id} {made.status}\n".encode())


def ask(rng):
    start = START + timedelta(hours=rng.randrange(240))
    return QuoteAsk(SKU, nodes=rng.randint(1, 6), duration_seconds=3600 * rng.randint(1, 48), start_at=start)
