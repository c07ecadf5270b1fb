"""Prices of reservations: exact sums of lines, fixed by the hour, and fees for giving them up."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.billing.model import (
    DEFAULT_CANCELLATION,
    BudgetWindow,
    CancellationStep,
    CancellationTerms,
    ContractTerms,
    Line,
    Price,
    PriceBook,
    PricedLeg,
    Rate,
    Rates,
    ReservedPrice,
    Timeline,
    exact_sum,
)
from skerry.billing.rules.books import default_prices
from skerry.billing.rules.prices import rate, timeline, woven
from skerry.billing.rules.reserved import Pricer, after, before, by_period, cancellation_fee, cost, joined
from skerry.kernel.clock import hours
from skerry.kernel.ids import ContractId, OrganizationId
from skerry.kernel.windows import Window
from skerry.metering.model import Meter, UsageSum

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SKU, SITE = "h100-sxm.8x", "no-glomfjord"


def _row(amount: str, line: Line | None = None, **dims: str) -> Price:
    return Price(Meter.NODE_SECONDS_RESERVED, 3600, Decimal(amount), charge_by="reservation", line=line, **dims)


def _book(*prices: Price, since: datetime = START, version: int = 1) -> PriceBook:
    return PriceBook(version, "USD", since, prices)


def _leg(nodes: int, start: datetime, end: datetime, sku: str = SKU, site: str = SITE) -> PricedLeg:
    return PricedLeg(sku, site, nodes, Window(start, end))


def _contract(*prices: Price, start: datetime = START, end: datetime | None = None) -> ContractTerms:
    return ContractTerms(
        ContractId("ctr_1"), OrganizationId("org_1"), "frame", "USD", start, end, prices, DEFAULT_CANCELLATION, None,
        START,
    )  # fmt: skip


def test_a_node_hour_costs_the_sum_of_its_lines() -> None:
    book = _book(_row("18"), _row("0.9", Line.OPERATIONS), _row("1.08", Line.HOSTING))
    price = Pricer([book]).price([_leg(16, START, START + 14 * DAY)])
    assert price.hourly == 16 * Decimal("19.98")
    assert price.total == 14 * 24 * 16 * Decimal("19.98") == sum(own.amount for own in price.lines)
    assert [(own.line, own.node_hour) for own in price.lines] == [
        (Line.COMPUTE, 18), (Line.OPERATIONS, Decimal("0.9")), (Line.HOSTING, Decimal("1.08"))
    ]  # fmt: skip
    assert (price.books, price.contract, price.unpriced, price.currency) == ((1,), None, (), "USD")


def test_each_line_takes_its_own_most_specific_row() -> None:
    book = _book(
        _row("18"), _row("27", sku=SKU), _row("36", Line.COMPUTE, sku=SKU, site=SITE), _row("9", Line.OPERATIONS),
        _row("0.9", Line.OPERATIONS, site=SITE),
    )  # fmt: skip
    (compute, operations) = Pricer([book]).price([_leg(1, START, START + HOUR)]).lines
    assert (compute.node_hour, operations.node_hour) == (36, Decimal("0.9"))
    elsewhere = Pricer([book]).price([_leg(1, START, START + HOUR, site="uk")])
    assert elsewhere.total == 27 + 9


def test_a_contract_replaces_lines_and_leaves_the_others_to_the_book() -> None:
    book = _book(_row("18", sku=SKU), _row("0.9", Line.OPERATIONS))
    price = Pricer([book], [_contract(_row("9"))]).price([_leg(2, START, START + HOUR)])
    assert (price.total, price.contract) == (Decimal("19.8"), "ctr_1")


def test_a_price_change_counts_from_the_next_full_hour() -> None:
    later = _book(_row("90"), since=START + timedelta(minutes=90), version=2)
    price = Pricer([_book(_row("9")), later]).price([_leg(1, START + HOUR / 2, START + 3 * HOUR + HOUR / 2)])
    assert price.total == Decimal("4.5") + 9 + 90 + 45
    assert [(rate.start, rate.end, rate.total * 3600) for rate in price.rates.rates] == [
        (START, START + 2 * HOUR, 9 * 10**18), (START + 2 * HOUR, START + 4 * HOUR, 90 * 10**18)
    ]  # fmt: skip
    assert price.books == (1, 2)
    with localcontext(prec=60):
        assert price.lines[0].node_hour == (Decimal("148.5") / 3).quantize(Decimal(1).scaleb(-18))


def test_a_sku_without_a_price_is_named() -> None:
    price = Pricer([_book(_row("18", sku=SKU), _row("9", Line.HOSTING))]).price(
        [_leg(1, START, START + HOUR), _leg(1, START, START + HOUR, sku="mi300x.8x")]
    )
    assert price.unpriced == ("mi300x.8x",)


def test_the_hourly_price_is_that_of_the_fullest_moment() -> None:
    ramp = [_leg(64, START, START + 90 * DAY), _leg(64, START + 59 * DAY, START + 90 * DAY)]
    assert Pricer([_book(_row("18"))]).price(ramp).hourly == 128 * 18


def test_nothing_has_no_price() -> None:
    with pytest.raises(ValueError, match="nothing to price"):
        Pricer([_book(_row("18"))]).price([])


def test_hours_that_were_sold_keep_their_price() -> None:
    old = Pricer([_book(_row("9"))]).price([_leg(4, START, START + 10 * HOUR)])
    dearer = Pricer([_book(_row("18"))])
    longer = dearer.price([_leg(4, START, START + 12 * HOUR)], keep=old.rates)
    assert longer.total - old.total == 4 * 2 * 18
    fewer = dearer.price([_leg(4, START, START + HOUR), _leg(1, START + HOUR, START + 10 * HOUR)], keep=old.rates)
    assert fewer.total == 4 * 9 + 9 * 9
    elsewhere = dearer.price([_leg(4, START, START + 10 * HOUR, site="uk")], keep=old.rates)
    assert elsewhere.total == 4 * 10 * 18


def test_a_price_survives_its_json() -> None:
    price = Pricer([_book(*default_prices())], [_contract(_row("12.33"))]).price(
        [_leg(3, START, START + HOUR), _leg(1, START + HOUR, START + 5 * HOUR, "local", "local")]
    )
    assert ReservedPrice.from_json(price.to_json()) == price


def test_the_default_prices_have_all_lines() -> None:
    pricer = Pricer([_book(*default_prices())])
    for sku in ("local", SKU):
        price = pricer.price([_leg(1, START, START + HOUR, sku)])
        assert {own.line for own in price.lines} == set(Line)
        assert all(own.amount > 0 for own in price.lines)


# Any legs, any books, any contract

seconds = st.integers(0, 4 * 86_400)
moments = seconds.map(lambda n: START + timedelta(seconds=n))
skus = st.sampled_from(["a", "b"])
sites = st.sampled_from(["no", "uk"])
amounts = st.integers(0, 10**6).map(lambda n: Decimal(n * 36).scaleb(-3))
rows = st.builds(
    lambda amount, line, sku, site: Price(
        Meter.NODE_SECONDS_RESERVED, 3600, amount, sku=sku, site=site, charge_by="reservation", line=line
    ),
    amounts, st.sampled_from([None, *list(Line)[1:]]), st.none() | skus, st.none() | sites,
)  # fmt: skip
tables = st.lists(rows, max_size=8, unique_by=lambda row: (row.priced_line, row.selectors)).map(tuple)
books_ = st.lists(st.tuples(moments, tables), min_size=1, max_size=4).map(
    lambda made: [PriceBook(n, "USD", since, prices) for n, (since, prices) in enumerate(made, 1)]
)
spans = st.tuples(seconds, st.integers(1, 2 * 86_400)).map(
    lambda x: Window(START + timedelta(seconds=x[0]), START + timedelta(seconds=x[0] + x[1]))
)
legs_ = st.lists(st.builds(PricedLeg, skus, sites, st.integers(1, 10**4), spans), min_size=1, max_size=5)
contracts_ = st.none() | st.builds(
    lambda window, prices: _contract(*prices, start=window.start, end=window.end), spans, tables
)


@given(books_, contracts_, legs_)
def test_the_lines_add_up_to_the_total(books: list, contract: ContractTerms | None, legs: list) -> None:
    price = Pricer(books, [contract] if contract else []).price(legs)
    assert exact_sum(own.amount for own in price.lines) == price.total == cost(price.rates, legs)
    assert exact_sum(part for part, _ in by_period(price.rates, legs, BudgetWindow.DAY).values()) == price.total
    assert exact_sum(part for part, _ in by_period(price.rates, legs, BudgetWindow.TOTAL).values()) == price.total


@given(books_, contracts_, legs_)
def test_the_usage_of_a_whole_life_costs_what_was_agreed(
    books: list, contract: ContractTerms | None, legs: list
) -> None:
    """Facts by hour, SKU and site; rated by the timeline as /costs does. To the last digit."""
    contracts = [contract] if contract else []
    price = Pricer(books, contracts).price(legs)
    window = Window(START, START + 7 * DAY)
    prices = woven(timeline(books, window), window, contracts, {"res_1": price.rates})
    facts: dict[tuple[str, str, datetime, datetime], int] = {}
    for leg in legs:
        for begin, end in hours(leg.window.start, leg.window.end):
            key = (leg.sku, leg.site, begin, end)
            facts[key] = facts.get(key, 0) + leg.nodes * int((end - begin).total_seconds())
    pieces = []
    for (sku, site, begin, end), quantity in facts.items():
        hour = begin.replace(minute=0, second=0)
        segment = sum(cut < end for cut in prices.cuts)  # by the last instant, as metering has it
        groups = {"sku": sku, "site": site, "charge_by": "reservation", "capacity_class": "reserved", "model": None}
        pieces.append(
            UsageSum(Window(hour, hour + HOUR), Meter.NODE_SECONDS_RESERVED, quantity,
                     {**groups, "reservation": "res_1", "batched": None}, segment)
        )  # fmt: skip
    assert exact_sum(charge.billed_cost for charge in rate(pieces, prices)) == price.total


@given(books_, legs_, legs_)
def test_what_was_agreed_once_stays(books: list, first: list, second: list) -> None:
    old = Pricer(books[:1]).price(first)
    new = Pricer(books).price(second, keep=old.rates)
    assert cost(new.rates, first) == old.total
    assert joined(old.rates, new.rates) == new.rates
    ends: dict[tuple[str, str], datetime] = {}
    for own in new.rates.rates:
        assert ends.get((own.sku, own.site), own.start) <= own.start < own.end
        ends[own.sku, own.site] = own.end


@given(books_, legs_, moments)
def test_what_has_passed_and_what_comes_are_all(books: list, legs: list, now: datetime) -> None:
    price = Pricer(books).price(legs)
    parts = cost(price.rates, before(legs, now)), cost(price.rates, after(legs, now))
    assert exact_sum(parts) == price.total


# Cancelling

TERMS = CancellationTerms(14, (CancellationStep(7, Decimal("0.25")), CancellationStep(0, Decimal("0.5"))))
FLAT = Rates((Rate(SKU, SITE, START, START + 100 * DAY, ((Line.COMPUTE, 10**18 // 86_400 * 86_400),)),))


@pytest.mark.parametrize(
    ("days", "share"),
    [(20, "0"), (14, "0"), (13.99, "0.25"), (7, "0.25"), (6.99, "0.5"), (0.01, "0.5"), (0, "0.5"), (-1, "0.5")],
)
def test_cancelling_costs_more_the_nearer_it_comes(days: float, share: str) -> None:
    start = START + 30 * DAY
    leg = _leg(2, start, start + 10 * DAY)
    fee = cancellation_fee(TERMS, [leg], FLAT, start - timedelta(days=days))
    unused = Decimal(86_400 * 2) * (10 + min(0, int(days)))
    per_second = FLAT.rates[0].total
    assert (fee.share, fee.free_until) == (Decimal(share), start - 14 * DAY)
    assert fee.amount == Decimal(share) * unused * Decimal(per_second).scaleb(-18)


def test_cancelling_what_is_over_costs_nothing() -> None:
    leg = _leg(2, START, START + DAY)
    assert cancellation_fee(TERMS, [leg], FLAT, START + 2 * DAY).amount == 0


def test_a_leg_without_a_rate_is_a_defect_that_is_heard() -> None:
    with pytest.raises(ValueError, match="no rate covers"):
        cost(FLAT, [_leg(1, START, START + DAY, site="uk")])


def test_a_commitment_ends_with_its_part_of_the_period() -> None:
    parts = by_period(FLAT, [_leg(1, START + 20 * DAY, START + 40 * DAY)], BudgetWindow.MONTH)
    assert [(period.start.month, end) for period, (_, end) in parts.items()] == [
        (1, datetime(2026, 2, 1, tzinfo=UTC)), (2, START + 40 * DAY)
    ]  # fmt: skip


def test_a_timeline_without_agreements_is_the_books_own() -> None:
    book = _book(_row("9"))
    window = Window(START, START + DAY)
    assert woven(timeline([book], window), window, [], {}) == Timeline((), (book,), (None,))
