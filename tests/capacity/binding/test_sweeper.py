"""Holds lapse by time alone; somebody writes that down afterwards."""

from datetime import timedelta

from sqlalchemy import func, select

from skerry.capacity.asking import QuoteAsk
from skerry.capacity.binding.sweeper import A_PASS, HoldSweeper
from skerry.capacity.model import ReservationStatus
from skerry.capacity.service import NewReservation
from skerry.capacity.tables import reservation_legs, reservations
from tests.capacity.race.desk import SKU, Desk


async def test_what_has_lapsed_is_written_down_with_the_time_at_which_it_did(database, clock):
    desk = Desk.over(database, clock)
    principal = await desk.identity.authenticate(await desk.open(leaves=1, nodes=2))
    quote = await desk.capacity.quotes.create(principal, QuoteAsk(SKU, nodes=2, duration_seconds=3600))
    hold = await desk.capacity.reservations.reserve(principal, NewReservation(quote.offers[0].id))
    sweeper = HoldSweeper(database, desk.capacity.reservations)
    assert await sweeper.look() == 0
    clock.advance(minutes=20)
    assert await sweeper.look() == 1
    assert await sweeper.look() == 0
    async with database.reading() as tx:
        row = (await tx.execute(select(reservations))).one()
        live = (await tx.execute(select(func.count()).where(reservation_legs.c.live))).scalar()
    assert (row.status, row.ended_at) == (ReservationStatus.EXPIRED, hold.expires_at)
    assert row.ended_at < clock.now() - timedelta(minutes=4)
    assert live == 0


async def test_it_goes_on_until_nothing_is_left(database):
    class Holds:
        left = 2 * A_PASS + 1

        async def expire_due(self, tx, limit):
            done = min(limit, self.left)
            self.left -= done
            return done

    assert await HoldSweeper(database, Holds()).look() == 2 * A_PASS + 1
