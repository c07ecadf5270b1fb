from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.kernel.money import (
    NANO_MAX,
    Money,
    atto_to_nano_ceil,
    decimal_from_atto,
    decimal_from_nano,
    nano_from_decimal,
    parse_amount,
    plain,
    unit_price_to_atto,
)

nanos = st.integers(-NANO_MAX, NANO_MAX)


@given(nanos)
def test_nano_units_survive_the_way_there_and_back(nano):
    assert nano_from_decimal(decimal_from_nano(nano)) == nano


@given(nanos)
def test_an_amount_survives_being_written_and_read(nano):
    text = plain(decimal_from_nano(nano))
    assert "e" not in text.lower()
    assert nano_from_decimal(parse_amount(text)) == nano


@given(st.integers(0, 10**12), st.integers(1, 10**7))
def test_a_unit_price_is_exact_or_refused(price_nano, unit_quantity):
    price = Decimal(price_nano).scaleb(-9)
    if (price_nano * 10**9) % unit_quantity:
        with pytest.raises(ValueError, match="finer"):
            unit_price_to_atto(price, unit_quantity)
    else:
        assert decimal_from_atto(unit_price_to_atto(price, unit_quantity)) * unit_quantity == price


@given(st.integers(0, 10**24))
def test_rounding_up_covers_and_wastes_less_than_a_nano_unit(atto):
    nano = atto_to_nano_ceil(atto)
    assert 0 <= nano * 10**9 - atto < 10**9


@pytest.mark.parametrize("text", ["", "1e3", "NaN", "Infinity", "1,5", "0x10", "1_000", " 1", "१", "--1", "."])
def test_what_is_no_plain_decimal_is_refused(text):
    with pytest.raises(ValueError):
        parse_amount(text)


@pytest.mark.parametrize(
    ("amount", "written"), [("0.000010", "0.00001"), ("12.50", "12.5"), ("-0.0", "0"), ("1E+3", "1000"), ("100", "100")]
)
def test_plain_has_no_exponent_and_no_idle_zeros(amount, written):
    assert plain(Decimal(amount)) == written


@pytest.mark.parametrize("amount", ["0.0000000001", "9223372036.854775808"])
def test_what_does_not_fit_nano_units_is_refused(amount):
    with pytest.raises(ValueError):
        nano_from_decimal(Decimal(amount))


def test_two_currencies_do_not_add():
    with pytest.raises(ValueError, match="NOK"):
        Money(Decimal(1), "USD") + Money(Decimal(1), "NOK")


@pytest.mark.parametrize("currency", ["usd", "US", "EURO", "U$D", ""])
def test_a_currency_is_three_capital_letters(currency):
    with pytest.raises(ValueError):
        Money(Decimal(1), currency)


@pytest.mark.parametrize("amount", ["NaN", "Infinity"])
def test_money_is_a_number(amount):
    with pytest.raises(ValueError):
        Money(Decimal(amount), "USD")
