"""The carbon of a site's electricity: its own figures, else the mean of its grid zone or country."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from skerry.fleet.model import Carbon

HOURS: Final = 24
MEANS_SOURCE: Final = (
    "Electricity Maps, mean of 2025, as published in thegreenwebfoundation/co2.js "
    "(data/output/electricity-maps/yearly_2025.json)"
)
YEARLY_MEANS: Final = {
    "CA-QC": 41, "CH": 50, "DE": 342, "DK": 123, "ES": 136, "FI": 68, "FR": 31, "GB": 176, "IE": 301, "IS": 28,
    "IT": 286, "NL": 253, "NO": 30, "NO-NO1": 24, "NO-NO2": 29, "NO-NO3": 28, "NO-NO4": 49, "NO-NO5": 25, "PL": 565,
    "PT": 117, "SE": 21, "US": 414, "US-CAL-CISO": 208, "US-MIDA-PJM": 418,
}  # fmt: skip
"""Grams of CO2e a kWh by zone. A mean of a year is a fallback: years differ by 10–40 %, hours by more."""


def carbon_of(
    own: Mapping[str, Any] | None, source: str | None, country: str | None, zone: str | None
) -> Carbon | None:
    """`own` is `{"g_per_kwh": "30"}` or `{"hourly": [24 of them]}`. None where nothing is known."""
    if own is not None:
        hourly: Sequence[Any] = own.get("hourly") or [own["g_per_kwh"]] * HOURS
        return Carbon(tuple(Decimal(str(grams)) for grams in hourly), source or "the operator", estimated=False)
    for name in (zone, f"{country}-{zone}", country):
        if name is not None and name in YEARLY_MEANS:
            return Carbon((Decimal(YEARLY_MEANS[name]),) * HOURS, f"{MEANS_SOURCE}, zone {name}", estimated=True)
    return None
