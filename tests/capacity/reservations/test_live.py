"""The calendar in memory follows the database, and needs no news to be right again."""

import asyncio
from datetime import timedelta

import pytest

from skerry.capacity.asking import QuoteAsk
from skerry.capacity.live import LiveCalendar
from skerry.capacity.service import NewReservation
from skerry.db.notify import CAPACITY, FLEET, Listener
from tests.capacity.market import DAY, SKU, START
from tests.waiting import eventually

ALL = QuoteAsk(SKU, nodes=32, duration_seconds=DAY, start_at=START + timedelta(days=1))


class Ticks:
    """A monotonic clock that is moved by hand."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def ticks():
    return Ticks()


@pytest.fixture
async def watching(cloud, fleet, ticks):
    """A calendar of another process, which listens."""
    services = cloud.services
    live = LiveCalendar(services.db, services.clock, services.fleet, monotonic=ticks)
    listener = asyncio.create_task(Listener(services.db.url, [FLEET, CAPACITY], live.hear, live.missed).run())
    await eventually(lambda: live._listening)
    yield live
    listener.cancel()


def free(live):
    start = int((START + timedelta(days=1)).timestamp())
    return live.calendar.free_schedule(SKU, None, start, start + DAY, live.now)[0].nodes


async def reserve(cloud, principal, ask=ALL):
    capacity = cloud.services.capacity
    quote = await capacity.quotes.create(principal, ask)
    return await capacity.reservations.reserve(principal, NewReservation(quote.offers[0].id))


async def test_it_hears_of_what_was_sold_and_given_back_elsewhere(cloud, principal, watching):
    await watching.refresh()
    assert free(watching) == 32
    hold = await reserve(cloud, principal)
    await eventually(lambda: bool(watching._stale))
    await watching.refresh()
    assert free(watching) == 0
    await cloud.services.capacity.reservations.drop(principal.project_id, hold.id)
    await eventually(lambda: bool(watching._stale))
    await watching.refresh()
    assert free(watching) == 32


async def test_news_that_was_missed_is_found_by_version(cloud, principal, ticks):
    deaf = LiveCalendar(cloud.services.db, cloud.services.clock, cloud.services.fleet, monotonic=ticks)
    deaf.missed()
    await deaf.refresh()
    await reserve(cloud, principal)
    await deaf.refresh()
    assert free(deaf) == 32
    ticks.now += 20
    await deaf.refresh()
    assert free(deaf) == 0


async def test_rebuilt_from_scratch_it_is_the_same(cloud, principal, watching):
    await watching.refresh()
    for day, nodes in ((1, 3), (2, 11), (1, 8), (4, 20)):
        ask = QuoteAsk(SKU, nodes=nodes, duration_seconds=3 * DAY, start_at=START + timedelta(days=day))
        if (await cloud.services.capacity.quotes.create(principal, ask)).offers:
            await reserve(cloud, principal, ask)
            await eventually(lambda: bool(watching._stale))
            await watching.refresh()
    fresh = LiveCalendar(cloud.services.db, cloud.services.clock, cloud.services.fleet)
    await fresh.refresh()
    start = int(START.timestamp())
    for key in fresh.leaves:
        assert fresh.calendar.bookings(key, fresh.now) == watching.calendar.bookings(key, watching.now)
    for site in ("norway", "portugal"):
        assert fresh.calendar.free_schedule(
            SKU, site, start, start + 30 * DAY, fresh.now
        ) == watching.calendar.free_schedule(SKU, site, start, start + 30 * DAY, watching.now)


async def test_a_hold_that_lapses_frees_its_nodes_without_any_news(cloud, principal, watching, clock):
    await reserve(cloud, principal)
    await watching.refresh()
    assert free(watching) == 0
    clock.advance(minutes=15)
    assert free(watching) == 32
