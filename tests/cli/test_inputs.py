"""What users type."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from skerry.cli import figures, inputs
from skerry.cli.failures import Failure

NOW = datetime(2026, 3, 10, 14, 35, 12, 500, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("today", "2026-03-10T00:00:00+00:00"),
        ("yesterday", "2026-03-09T00:00:00+00:00"),
        ("7d", "2026-03-03T14:00:00+00:00"),
        ("2w", "2026-02-24T14:00:00+00:00"),
        ("12h", "2026-03-10T02:00:00+00:00"),
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
        ("2026-01-31T12:00", "2026-01-31T12:00:00+00:00"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00+00:00"),
        ("2026-01-31T12:00+02:00", "2026-01-31T10:00:00+00:00"),
    ],
)
def test_past_times(text, expected):
    assert inputs.past(text, NOW, "--from").isoformat() == expected


def test_times_to_come():
    assert inputs.future("30d", NOW, "--expires").isoformat() == "2026-04-09T14:35:12+00:00"


@pytest.mark.parametrize("text", ["", "7", "d", "-7d", "7 d", "31.01.2026", "2026-13-01", "tomorrowish"])
def test_what_is_no_time(text):
    with pytest.raises(Failure, match="is not a time"):
        inputs.past(text, NOW, "--from")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12.34", ("12.34", None)),
        ("12.34EUR", ("12.34", "EUR")),
        ("EUR 12", ("12", "EUR")),
        (" 5 USD ", ("5", "USD")),
    ],
)
def test_amounts(text, expected):
    number, currency = inputs.amount(text, "--budget")
    assert (str(number), currency) == expected


@pytest.mark.parametrize("text", ["", "-1", "1e3", "1,5", "EUR", "EUR 1 EUR", "1 eur", "NaN"])
def test_what_is_no_amount(text):
    with pytest.raises(Failure):
        inputs.amount(text, "--budget")


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        (["1", "2.5"], ["1.00", "2.50"]),
        (["0.0000123", "1234.5"], ["0.0000123", "1,234.5000000"]),
        (["0.00000000012", "1"], ["0.000000000", "1.000000000"]),
        (["1E+2"], ["100.00"]),
    ],
)
def test_amounts_of_a_column_have_the_same_decimals(amounts, expected):
    values = [Decimal(amount) for amount in amounts]
    decimals = figures.decimals_for(values)
    assert [figures.aligned(value, decimals) for value in values] == expected


def test_energy_has_a_unit_to_its_size():
    assert (figures.energy(1500), figures.energy(2_500_000)) == ("1.500 Wh", "2.500 kWh")
