"""What is offered: what was asked, the earliest, cheaper and greener ones; or why there is nothing."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from skerry.capacity.asking import AskedWindow, QuoteAsk
from skerry.capacity.errors import NoPrice, ScopeTooLarge
from skerry.capacity.model import OfferKind, Scope
from skerry.capacity.service import NewReservation
from skerry.kernel.windows import Window
from tests.capacity.market import DAY, PRICES, SKU, START, later, reserved_price

FOUR = QuoteAsk(SKU, nodes=4, duration_seconds=DAY)


@pytest.fixture
def capacity(cloud):
    return cloud.services.capacity


@pytest.fixture
def ask(capacity, principal):
    async def asked(wish):
        return await capacity.quotes.create(principal, wish)

    return asked


@pytest.fixture
def buy(capacity, ask, principal):
    async def bought(wish):
        new = NewReservation((await ask(wish)).offers[0].id, confirm=True)
        return await capacity.reservations.reserve(principal, new)

    return bought


@pytest.fixture
def publish(cloud):
    async def published(prices, since=None):
        owner = await cloud.services.identity.authenticate(cloud.operator_key)
        await cloud.services.billing.prices.publish_price_book(owner, prices, "USD", since)

    return published


def kinds(quote):
    return [offer.kind for offer in quote.offers]


async def test_a_start_that_is_free_is_offered_as_requested(ask):
    quote = await ask(replace(FOUR, start_at=later(days=3), sites=("norway",)))
    assert kinds(quote) == [OfferKind.AS_REQUESTED]
    assert (quote.offers[0].start, quote.offers[0].end) == (later(days=3), later(days=4))
    assert quote.offers[0].expires_at == START + timedelta(minutes=5)


async def test_a_start_that_is_taken_brings_the_earliest_after_it(ask, buy):
    await buy(replace(FOUR, nodes=32, start_at=later(days=3), duration_seconds=2 * DAY))
    quote = await ask(replace(FOUR, start_at=later(days=3)))
    assert kinds(quote)[0] is OfferKind.EARLIEST
    assert quote.offers[0].start == later(days=5)


async def test_a_preferred_scope_brings_what_is_sooner_and_what_is_nearer(ask, buy):
    for name in ("norway", "portugal"):
        await buy(replace(FOUR, nodes=4, sites=(name,), duration_seconds=2 * DAY))
    await buy(replace(FOUR, nodes=12, scope=Scope.SITE, sites=("norway",), duration_seconds=2 * DAY))
    quote = await ask(replace(FOUR, nodes=8, scope=Scope.LEAF))
    near = [offer for offer in quote.offers if offer.kind is OfferKind.EARLIEST]
    assert len({leg.leaf for leg in near[-1].legs}) == 1
    assert near[0].start <= near[-1].start


async def test_a_required_scope_waits(ask, buy):
    await buy(replace(FOUR, nodes=29, duration_seconds=2 * DAY))
    quote = await ask(replace(FOUR, nodes=8, scope=Scope.LEAF, scope_required=True))
    assert quote.offers[0].start == later(days=2)
    assert len(quote.offers[0].legs) == 1


async def test_more_than_a_leaf_ever_has_names_the_largest(ask):
    with pytest.raises(ScopeTooLarge) as refusal:
        await ask(replace(FOUR, nodes=9, scope=Scope.LEAF, scope_required=True))
    assert refusal.value.extra == {"largest": 8}
    assert "without scope_required" in refusal.value.suggestion


async def test_whole_leaves_are_not_fragmented(ask):
    assert (await ask(replace(FOUR, nodes=8))).offers[0].fragmentation == 0
    assert (await ask(replace(FOUR, nodes=4))).offers[0].fragmentation == 1
    mixed = (await ask(replace(FOUR, nodes=12))).offers[0]
    assert mixed.fragmentation == Decimal("0.3333")


async def test_a_cheaper_site_is_offered_beside_the_earliest(ask, buy, publish):
    await publish([reserved_price("9"), reserved_price("18", site="norway"), reserved_price("3.6", site="portugal")])
    await buy(replace(FOUR, nodes=8, sites=("portugal",)))
    quote = await ask(FOUR)
    cheaper = next(offer for offer in quote.offers if offer.kind is OfferKind.CHEAPER)
    assert (quote.offers[0].site, quote.offers[0].price.total) == ("norway", Decimal(1728))
    assert (cheaper.site, cheaper.start, cheaper.price.total) == ("portugal", later(days=1), Decimal("345.6"))


async def test_a_later_start_is_cheaper_where_a_price_book_says_so(ask, publish):
    await publish([reserved_price("4.5"), *PRICES[1:]], later(days=10))
    quote = await ask(FOUR)
    cheaper = next(offer for offer in quote.offers if offer.kind is OfferKind.CHEAPER)
    assert (cheaper.start, cheaper.price.total) == (later(days=10), Decimal(432))


async def test_a_price_that_changes_within_the_window_is_the_sum_of_both(ask, publish):
    await publish([reserved_price("4.5"), *PRICES[1:]], later(days=10))
    quote = await ask(replace(FOUR, start_at=later(days=9), duration_seconds=2 * DAY))
    assert quote.offers[0].price.total == Decimal(864 + 432)


async def test_a_greener_site_is_offered_beside_the_earliest(ask, buy):
    await buy(replace(FOUR, nodes=24, sites=("norway",)))
    quote = await ask(replace(FOUR, duration_seconds=20 * DAY))
    assert quote.offers[0].site == "portugal"
    quote = await ask(replace(FOUR, duration_seconds=2 * DAY, start_at=later(hours=1)))
    assert quote.offers[0].site == "portugal"
    greener = [offer for offer in quote.offers if offer.kind is OfferKind.GREENER]
    assert [offer.site for offer in greener] == ["norway"]
    assert greener[0].energy.gco2e * 10 == quote.offers[0].energy.gco2e


async def test_a_ramp_keeps_its_first_nodes(ask, capacity, principal):
    ramp = (AskedWindow(later(days=1), later(days=5), 8), AskedWindow(later(days=5), later(days=9), 16))
    quote = await ask(QuoteAsk(SKU, schedule=ramp))
    (offer,) = [own for own in quote.offers if own.kind is OfferKind.AS_REQUESTED]
    assert (offer.start, offer.end) == (later(days=1), later(days=9))
    by_window = sorted((leg.window, leg.nodes) for leg in offer.legs)
    assert by_window == [(Window(later(days=1), later(days=9)), 8), (Window(later(days=5), later(days=9)), 8)]
    assert offer.price.total == (8 * 8 + 4 * 8) * 24 * 9
    own = await capacity.reservations.reserve(principal, NewReservation(offer.id, confirm=True))
    assert own.node_seconds == (8 * 8 + 4 * 8) * DAY


async def test_a_ramp_that_does_not_fit_is_moved_by_whole_days(ask, buy):
    await buy(replace(FOUR, nodes=20, start_at=later(days=2), duration_seconds=DAY))
    ramp = (AskedWindow(later(days=1), later(days=2), 8), AskedWindow(later(days=2), later(days=3), 16))
    quote = await ask(QuoteAsk(SKU, schedule=ramp))
    assert kinds(quote)[0] is OfferKind.EARLIEST
    assert quote.offers[0].start == later(days=2)


async def test_a_full_fleet_says_when_and_how_many(ask, buy, capacity):
    horizon = int(timedelta(days=1096).total_seconds())
    await buy(replace(FOUR, nodes=30, start_at=START, duration_seconds=horizon))
    quote = await ask(FOUR)
    assert quote.offers == ()
    assert (quote.no_offer.code, quote.no_offer.nodes, quote.no_offer.earliest) == ("no_capacity", 2, None)


async def test_what_has_no_price_is_not_sold(ask, publish):
    await publish([reserved_price("9", site="norway")])
    with pytest.raises(NoPrice) as refusal:
        await ask(replace(FOUR, sites=("portugal",)))
    assert refusal.value.extra == {"skus": [SKU]}
