"""A reservation from the quote to the bill: what was promised, delivered and charged are the same node-seconds."""

from datetime import timedelta
from decimal import Decimal

from skerry.capacity.asking import ChangeAsk, QuoteAsk, SplitPart
from skerry.capacity.binding.model import BindingReason
from skerry.capacity.model import ReservationStatus, Scope
from skerry.capacity.service import NewReservation
from skerry.kernel.paging import PageRequest
from skerry.kernel.windows import Window
from tests.billing.selling import costs
from tests.capacity.market import SKU, START

HOUR = 3600
NODE_HOUR = Decimal(9)


def at(hours):
    return START + timedelta(hours=hours)


async def bought(days, nodes, start, hours):
    sales = days.services.capacity
    ask = QuoteAsk(SKU, nodes=nodes, duration_seconds=hours * HOUR, start_at=at(start), scope=Scope.LEAF)
    quote = await sales.quotes.create(days.principal, ask)
    return await sales.reservations.reserve(days.principal, NewReservation(quote.offers[0].id, confirm=True))


async def changed(days, id, **ask):
    changes = days.services.capacity.changes
    quote = await changes.quote(days.principal, id, ChangeAsk(**ask))
    return (await changes.apply(days.principal, id, quote.id)).reservation


async def charged(days):
    services = days.services
    found = await costs(services.billing, services.metering, days.principal.project_id, Window(at(0), at(48)))
    return found.get("node_seconds_reserved", Decimal(0))


async def status(days, id):
    return (await days.services.capacity.reservations.get(days.principal.project_id, id)).status


async def test_what_is_bought_is_delivered_and_charged_to_the_last_digit(days):
    one = await bought(days, 8, 1, 10)
    await days.until(at(11))
    assert await status(days, one.id) is ReservationStatus.ENDED
    assert await days.facts(one.id) == (80 * HOUR, 80 * HOUR)
    assert await charged(days) == one.price.total == 80 * NODE_HOUR


async def test_changes_are_charged_as_they_were_made_and_what_was_used_stays(days):
    one = await bought(days, 8, 1, 10)
    await days.until(at(4.5))
    await changed(days, one.id, kind="extend", end_at=at(13))
    await days.until(at(6.25))
    await changed(days, one.id, kind="shrink", nodes=4)
    await days.until(at(9))
    await changed(days, one.id, kind="cancel")
    await days.until(at(10))
    assert await status(days, one.id) is ReservationStatus.ENDED
    used = int((8 * 5.25 + 4 * 2.75) * HOUR)
    assert await days.facts(one.id) == (used, used)
    assert await charged(days) == used * NODE_HOUR / HOUR


async def test_what_is_not_delivered_is_not_charged(days):
    one = await bought(days, 8, 1, 4)
    days.engines.missing["no-1-3"] = days.engines.missing["pt-1-3"] = BindingReason.NO_ENGINE
    days.engines.missing["no-2-3"] = days.engines.missing["no-3-3"] = BindingReason.NO_ENGINE
    await days.until(at(2))
    assert await status(days, one.id) is ReservationStatus.LATE
    days.engines.missing.clear()
    await days.until(at(5))
    assert await status(days, one.id) is ReservationStatus.ENDED
    promised, delivered = await days.facts(one.id)
    assert promised == 32 * HOUR
    assert 8 * 2 * HOUR < delivered <= 24 * HOUR
    assert await charged(days) == delivered * NODE_HOUR / HOUR


async def test_one_that_is_cancelled_before_its_start_has_no_record(days):
    one = await bought(days, 8, 1, 4)
    await days.until(at(0.9))
    assert await status(days, one.id) is ReservationStatus.DELIVERING
    await changed(days, one.id, kind="cancel")
    await days.until(at(6))
    assert await status(days, one.id) is ReservationStatus.CANCELLED
    assert await days.facts(one.id) == (0, 0)
    assert await charged(days) == 0


async def test_parts_of_one_that_was_split_live_on_their_own(days):
    one = await bought(days, 8, 1, 2)
    async with days.services.db.transaction() as tx:
        other = await days.services.identity.visible_project(tx, days.principal, days.principal.project_id)
    changes, ask = days.services.capacity.changes, ChangeAsk("split", parts=(SplitPart(other.id, 3),))
    quote = await changes.quote(days.principal, one.id, ask)
    done = await changes.apply(days.principal, one.id, quote.id)
    await days.until(at(3))
    assert await days.facts(one.id) == (10 * HOUR, 10 * HOUR)
    assert await days.facts(done.created[0].id) == (6 * HOUR, 6 * HOUR)


async def test_the_record_is_read_a_page_at_a_time(days):
    one = await bought(days, 2, 1, 3)
    await days.until(at(4))
    seen, page, deliveries = [], PageRequest(1), days.services.capacity.deliveries
    while page is not None:
        async with days.services.db.reading() as tx:
            found = await deliveries.record(tx, days.principal.project_id, one.id, page)
        seen += found.data
        page = PageRequest.parse(1, found.next_cursor) if found.next_cursor else None
    assert [(row.start, row.promised, row.delivered) for row in seen] == [
        (at(hour), 2 * HOUR, 2 * HOUR) for hour in (1, 2, 3)
    ]
