"""The gateway's prices: what it says on an answer is what is billed, to the last digit."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from skerry.billing.model import Price, PriceBook, PriceTarget
from skerry.billing.rules.prices import TokenTariffs, exact_cost, rate, timeline
from skerry.inference.gateway.pricing import PriceSchedule, TokenPrice, plain_atto
from skerry.kernel.money import atto_to_nano_ceil, decimal_from_atto, decimal_from_nano, plain
from skerry.kernel.windows import Window
from skerry.metering.model import Meter, UsageSum

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = Window(NOW, NOW + timedelta(hours=1))
TARGET = PriceTarget("smol", "local", "on_demand")
METERS = (Meter.TOKENS_PROMPT, Meter.TOKENS_CACHED, Meter.TOKENS_COMPLETION, Meter.EGRESS_BYTES)

per_million = st.decimals(0, 1000, places=6)
tokens = st.integers(0, 2**31)


def _us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


@given(st.integers(0, 10**27))
def test_an_amount_is_written_as_everywhere_else(atto: int) -> None:
    assert plain_atto(atto) == plain(decimal_from_atto(atto)) == plain(exact_cost(1, atto))


@given(st.integers(0, 10**60))
def test_even_absurd_amounts_are_exact(atto: int) -> None:
    assert Decimal(plain_atto(atto)) == Decimal(f"{atto}E-18")
    assert plain_atto(atto) == plain(Decimal(f"{atto}E-18"))


def _book(version: int, since: datetime, prices: list[Decimal]) -> PriceBook:
    return PriceBook(
        version, "USD", since,
        tuple(Price(meter, 1_000_000, price, model="smol") for meter, price in zip(METERS, prices, strict=True)),
    )  # fmt: skip


def _schedule(books: list[PriceBook], now: datetime) -> PriceSchedule:
    """As the gateway's `control` makes it."""
    found = TokenTariffs(books, now).of(TARGET)
    return PriceSchedule(
        "USD", tuple(TokenPrice(_us(p.since), p.prompt, p.cached, p.completion, p.egress) for p in found)
    )


four_prices = st.lists(per_million, min_size=4, max_size=4)


@given(four_prices, st.lists(tokens, min_size=4, max_size=4))
def test_the_cost_on_an_answer_is_the_bill_for_its_tokens(prices: list[Decimal], used: list[int]) -> None:
    book = _book(1, NOW, prices)
    cost = _schedule([book], NOW).at(_us(NOW)).cost(*used)
    groups = {**TARGET.dims(), "sku": None}
    pieces = [UsageSum(HOUR, meter, quantity, groups) for meter, quantity in zip(METERS, used, strict=True)]
    charges = rate(pieces, timeline([book], HOUR))
    billed = sum((charge.billed_cost for charge in charges), Decimal(0))
    assert Decimal(plain_atto(cost)) == billed
    assert 0 <= decimal_from_nano(atto_to_nano_ceil(cost)) - billed < Decimal("0.000000001")


@given(four_prices, tokens, tokens, tokens, st.integers(0, 100))
def test_no_answer_within_its_bounds_costs_more_than_its_ceiling(
    prices: list[Decimal], prompt: int, completion: int, spare: int, share: int
) -> None:
    price = _schedule([_book(1, NOW, prices)], NOW).at(_us(NOW))
    cached = prompt * share // 100
    assert price.cost(prompt - cached, cached, completion, 0) <= price.ceiling(prompt + spare, completion + spare)


@given(
    st.lists(st.tuples(st.integers(-5, 5), four_prices), min_size=1, max_size=4, unique_by=lambda book: book[0]),
    st.integers(1, 360),
)
def test_each_moment_has_the_price_of_the_book_in_force(starts: list[tuple[int, list[Decimal]]], minutes: int) -> None:
    """From `now` on; the hour decides, as on bills, and a moment before all books has the oldest."""
    books = [_book(n, NOW + timedelta(hours=hour), prices) for n, (hour, prices) in enumerate(starts, 1)]
    schedule = _schedule(books, NOW)
    end = NOW + timedelta(minutes=minutes)
    price = schedule.at(_us(end))
    piece = UsageSum(HOUR, Meter.TOKENS_PROMPT, 7, {**TARGET.dims(), "sku": None})
    (charge,) = rate([piece], timeline(books, Window(end - timedelta(seconds=1), end)))
    assert exact_cost(7, price.prompt) == charge.billed_cost
    early = schedule.at(0)
    assert (early.prompt, early.since) == (schedule.prices[0].prompt, schedule.prices[0].since), (
        "never free by accident"
    )
