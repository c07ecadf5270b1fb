"""Which price applies, which meters carry money, and that costs are exact."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.billing.model import SELECTORS, ChargeBy, Contract, Price, PriceBook, PriceTarget, Timeline, exact_sum
from skerry.billing.rules.books import default_prices, require_valid
from skerry.billing.rules.prices import Tariff, TokenTariffs, carries_money, exact_cost, rate, timeline
from skerry.kernel.windows import Window
from skerry.metering.model import Meter, MeterFamily, UsageSum

HOUR = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=UTC))
PRICED_FAMILIES = {MeterFamily.TIME, MeterFamily.TOKENS, MeterFamily.RESERVATION}


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _usage(meter: Meter, quantity: int, segment: int = 0, **dims: str) -> UsageSum:
    return UsageSum(HOUR, meter, quantity, {**dict.fromkeys(SELECTORS), **dims}, segment)


def _book(*prices: Price, version: int = 1, since: datetime = HOUR.start) -> PriceBook:
    return PriceBook(version, "USD", since, prices)


@pytest.mark.parametrize("charge_by", list(ChargeBy))
def test_exactly_one_family_carries_money(charge_by: ChargeBy) -> None:
    carrying = {meter.family for meter in Meter if carries_money(meter, charge_by.value)}
    assert len(carrying & PRICED_FAMILIES) == 1
    assert carrying - PRICED_FAMILIES == {MeterFamily.BESIDE}
    for meter in Meter:
        if meter.family in carrying:
            assert carries_money(meter, charge_by.value), "a family carries money as a whole"


@pytest.mark.parametrize("charge_by", [None, "", "requests", "beside", "never"])
def test_without_a_known_charge_by_only_storage_and_egress_carry_money(charge_by: str | None) -> None:
    charged = {meter for meter in Meter if carries_money(meter, charge_by)}
    assert charged <= {Meter.STORAGE_BYTE_SECONDS, Meter.EGRESS_BYTES}


everything = [Price(meter, 1, Decimal(1)) for meter in Meter]


@given(st.sampled_from([*ChargeBy]), st.lists(st.tuples(st.sampled_from(Meter), st.integers(0, 10**12)), max_size=20))
def test_even_a_book_that_prices_everything_charges_one_family(charge_by: ChargeBy, used: list[tuple]) -> None:
    pieces = [_usage(meter, quantity, charge_by=charge_by.value) for meter, quantity in used]
    charges = rate(pieces, Timeline((), (_book(*everything),)))
    families = {charge.usage.meter.family for charge in charges if charge.billed_cost}
    assert len(families & PRICED_FAMILIES) <= 1
    assert all(family.value == charge_by.value for family in families & PRICED_FAMILIES)
    assert MeterFamily.NEVER not in families


values: dict[str, list[str | None]] = {name: [None, f"{name}-a", f"{name}-b"] for name in SELECTORS}
selectors = st.fixed_dictionaries({name: st.sampled_from(options) for name, options in values.items()})


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in SELECTORS)


@given(st.lists(selectors, unique_by=_key, max_size=30), selectors)
def test_the_most_specific_row_wins(rows: list[dict], dims: dict) -> None:
    prices = [Price(Meter.EGRESS_BYTES, 1, Decimal(n), **row) for n, row in enumerate(rows)]
    used = _key(dims)
    matching = [row for row in prices if all(own in (None, it) for own, it in zip(row.selectors, used, strict=True))]
    expected = max(matching, key=lambda row: [own is not None for own in row.selectors], default=None)
    assert Tariff(prices).find(Meter.EGRESS_BYTES, dims) == expected


def test_a_price_for_the_model_beats_all_that_do_not_name_it() -> None:
    general = Price(Meter.TOKENS_PROMPT, 1, Decimal(1), site="no", capacity_class="spot", charge_by="tokens")
    own = Price(Meter.TOKENS_PROMPT, 1, Decimal(2), model="smol")
    dims = {"model": "smol", "site": "no", "capacity_class": "spot", "charge_by": "tokens"}
    assert Tariff([general, own]).find(Meter.TOKENS_PROMPT, dims) == own
    assert Tariff([general, own]).find(Meter.TOKENS_PROMPT, {**dims, "model": "big"}) == general


def test_usage_without_a_price_costs_nothing() -> None:
    (charge,) = rate([_usage(Meter.TOKENS_TRAINED, 5, charge_by="tokens")], Timeline((), (_book(),)))
    assert charge.list_cost == charge.contracted_cost == charge.billed_cost == 0


def test_the_default_prices_are_charged_to_the_last_digit() -> None:
    prices = Timeline((), (_book(*default_prices()),))
    used = [
        _usage(Meter.TOKENS_PROMPT, 7, model="smol", charge_by="tokens"),
        _usage(Meter.TOKENS_CACHED, 3, model="smol", charge_by="tokens"),
        _usage(Meter.TOKENS_COMPLETION, 1, model="smol", charge_by="tokens"),
        _usage(Meter.ACCELERATOR_SECONDS, 3600, sku="h100-sxm.8x", charge_by="time"),
        _usage(Meter.REQUESTS, 10**9, charge_by="tokens"),
    ]
    costs = [charge.billed_cost for charge in rate(used, prices)]
    assert costs == [Decimal("0.00000035"), Decimal("0.000000075"), Decimal("0.0000001"), Decimal("3.60"), 0]


@given(st.lists(st.integers(-(10**18), 10**18), max_size=10), st.integers(0, 10**20))
def test_the_sum_of_costs_is_the_cost_of_the_sum(quantities: list[int], atto: int) -> None:
    assert exact_sum(exact_cost(quantity, atto) for quantity in quantities) == exact_cost(sum(quantities), atto)


def test_costs_of_more_than_28_digits_are_not_rounded() -> None:
    assert exact_sum([exact_cost(10**18, 10**18), exact_cost(1, 1)]) == Decimal(
        "1000000000000000000.000000000000000001"
    )


def test_a_contract_s_prices_come_before_the_book_s() -> None:
    book = _book(Price(Meter.TOKENS_PROMPT, 1, Decimal(4)), Price(Meter.TOKENS_COMPLETION, 1, Decimal(8)))
    contract = Contract((Price(Meter.TOKENS_PROMPT, 1, Decimal(3)),))
    used = [_usage(meter, 1, charge_by="tokens") for meter in (Meter.TOKENS_PROMPT, Meter.TOKENS_COMPLETION)]
    charges = rate(used, Timeline((), (book,)), contract)
    assert [(charge.list_cost, charge.contracted_cost, charge.billed_cost) for charge in charges] == [
        (4, 3, 3),
        (8, 8, 8),
    ]


def test_a_timeline_cuts_where_one_book_follows_another() -> None:
    first = _book(since=_at("2026-01-01"))
    second = _book(version=2, since=_at("2026-01-10T10:30:00"))
    replaced = _book(version=3, since=_at("2026-01-20"))
    third = _book(version=4, since=_at("2026-01-20"))
    books = [third, first, replaced, second]
    month = Window(_at("2026-01-01"), _at("2026-02-01"))
    assert timeline(books, month) == Timeline((second.effective_from, third.effective_from), (first, second, third))
    assert timeline(books, Window(_at("2026-01-20"), _at("2026-01-21"))) == Timeline((), (third,))
    assert timeline(books, Window(_at("2025-01-01"), _at("2025-02-01"))) == Timeline((), (first,))


moments = st.integers(0, 500).map(lambda minutes: HOUR.start + timedelta(minutes=minutes))
publications = st.lists(st.tuples(moments, st.integers(0, 5), st.sampled_from([None, "smol"])), min_size=1, max_size=6)


@given(publications, moments, moments)
def test_a_gateway_s_schedule_and_rating_agree(published: list[tuple], now: datetime, later: datetime) -> None:
    """The price that a gateway shows for an answer is the price that its usage is charged."""
    books = [
        _book(Price(Meter.TOKENS_PROMPT, 1, Decimal(amount), model=model), version=n, since=since)
        for n, (since, amount, model) in enumerate(published, 1)
    ]
    end = max(now, later) + timedelta(microseconds=1)  # the answer's t1: its last instant is one microsecond before
    schedule = TokenTariffs(books, now).of(PriceTarget("smol"))
    shown = [schedule[0], *(price for price in schedule if price.since < end)][-1]
    assert [price.since for price in schedule] == sorted(price.since for price in schedule)

    window = Window(HOUR.start - timedelta(hours=1), HOUR.start + timedelta(days=1))
    prices = timeline(books, window)
    segment = sum(cut < end for cut in prices.cuts)
    (charge,) = rate([_usage(Meter.TOKENS_PROMPT, 1, segment, model="smol", charge_by="tokens")], prices)
    assert charge.list_cost == exact_cost(1, shown.prompt)


def test_the_default_prices_are_valid() -> None:
    require_valid(default_prices(), "USD", None)
