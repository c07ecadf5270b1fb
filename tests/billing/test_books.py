"""What a price book must be like, and how a model's price changes one."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.billing.model import ModelPrice, Price, PriceBook
from skerry.billing.rules import books
from skerry.kernel.errors import Invalid
from skerry.kernel.money import parse_amount
from skerry.metering.model import Meter

NOW = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
PRICE = Price(Meter.TOKENS_PROMPT, 10**6, Decimal("0.05"))


@pytest.mark.parametrize(
    ("row", "path", "code"),
    [
        (Price(Meter.ACCELERATOR_SECONDS, 3600, Decimal("3.99")), "prices.0.unit_price", "not_exact"),
        (Price(Meter.REQUESTS, 1, Decimal(1)), "prices.0.unit_price", "never_charged"),
        (Price(Meter.ENERGY_MWH, 1, Decimal(1)), "prices.0.unit_price", "never_charged"),
        (Price(Meter.TOKENS_PROMPT, 1, Decimal(1), charge_by="time"), "prices.0.charge_by", "never_charged"),
        (Price(Meter.ACCELERATOR_SECONDS, 1, Decimal(1), charge_by="tokens"), "prices.0.charge_by", "never_charged"),
    ],
)
def test_a_row_that_could_not_be_charged_is_refused(row: Price, path: str, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        books.require_valid([row], "USD", None)
    assert [(error.path, error.code) for error in refused.value.errors] == [(path, code)]


@pytest.mark.parametrize(
    "row",
    [
        Price(Meter.REQUESTS, 1, Decimal(0)),
        Price(Meter.TOKENS_PROMPT, 1, Decimal(0), charge_by="time"),
        Price(Meter.EGRESS_BYTES, 10**9, Decimal("0.01"), charge_by="time"),
        Price(Meter.ACCELERATOR_SECONDS, 3600, Decimal("3.987")),
    ],
)
def test_rows_that_are_fine(row: Price) -> None:
    books.require_valid([row], "USD", None)


def test_rows_that_tie_are_refused_and_both_are_named() -> None:
    rows = [PRICE, Price(Meter.TOKENS_PROMPT, 1, Decimal(3), model="m"), Price(Meter.TOKENS_PROMPT, 1, Decimal(9))]
    with pytest.raises(Invalid, match="rows 0 and 2") as refused:
        books.require_valid(rows, "USD", None)
    assert refused.value.code == "duplicate_price"


def test_the_currency_stays() -> None:
    with pytest.raises(Invalid) as refused:
        books.require_valid([PRICE], "EUR", PriceBook(1, "USD", NOW, ()))
    assert refused.value.code == "currency_change"


@given(st.decimals(0, 100, places=4, allow_nan=False), st.integers(2, 10**6))
def test_a_price_that_is_not_exact_is_refused_with_two_that_are(amount: Decimal, unit_quantity: int) -> None:
    try:
        books.require_valid([Price(Meter.EGRESS_BYTES, unit_quantity, amount)], "USD", None)
    except Invalid as refused:
        below, above = map(parse_amount, refused.errors[0].message.rpartition("exact are ")[2].split(" and "))
        assert below < amount < above
        for exact in (below, above):
            books.require_valid([Price(Meter.EGRESS_BYTES, unit_quantity, exact)], "USD", None)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, NOW),
        (NOW, NOW),
        (NOW - timedelta(seconds=59), NOW),
        (NOW + timedelta(days=30), NOW + timedelta(days=30)),
    ],
)
def test_a_book_comes_into_force_now_or_later(wanted: datetime | None, expected: datetime) -> None:
    assert books.effective_moment(wanted, NOW) == expected


@pytest.mark.parametrize("wanted", [NOW - timedelta(seconds=61), datetime(2500, 1, 1, tzinfo=UTC)])
def test_a_book_cannot_change_the_past(wanted: datetime) -> None:
    with pytest.raises(Invalid) as refused:
        books.effective_moment(wanted, NOW)
    assert refused.value.errors[0].path == "effective_from"


def test_a_model_s_price_replaces_its_own_rows_and_no_others() -> None:
    at_site = Price(Meter.TOKENS_PROMPT, 10**6, Decimal(7), model="smol", site="no")
    others = (PRICE, at_site, Price(Meter.TOKENS_PROMPT, 10**6, Decimal(3), model="big"))
    once = books.with_model_price(others, "smol", ModelPrice(Decimal(1), Decimal(2)))
    assert once[:3] == others
    assert [(row.meter, row.unit_price) for row in once[3:]] == [
        (Meter.TOKENS_PROMPT, 1),
        (Meter.TOKENS_CACHED, 1),
        (Meter.TOKENS_COMPLETION, 2),
    ]
    twice = books.with_model_price(once, "smol", ModelPrice(Decimal(4), Decimal(5), cached=Decimal("0.5")))
    assert [row.unit_price for row in twice[3:]] == [4, Decimal("0.5"), 5]
    books.require_valid(twice, "USD", None)
    assert books.with_model_price(twice, "smol", None) == others
