"""Where a project's capacity may be (I10). Pure."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

_EU: Final = frozenset(
    (
        "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU",
        "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
    )
)  # fmt: skip
REGIONS: Final[Mapping[str, frozenset[str]]] = {"EU": _EU, "EEA": _EU | {"IS", "LI", "NO"}}
"""Regions that a jurisdiction may name, and the ISO 3166 codes of their countries."""


def countries(jurisdictions: Iterable[str]) -> frozenset[str] | None:
    """The countries that jurisdictions name, regions spelt out; None: none are named, so anywhere."""
    named = frozenset(jurisdictions)
    if not named:
        return None
    return frozenset().union(*(REGIONS.get(code, frozenset((code,))) for code in named))


def sites_within(sites: Mapping[str, str | None], jurisdictions: Collection[str]) -> frozenset[str]:
    """Those of the sites (names, with their country) where the project's data may be.

    A site whose country is not known is only for projects that name none.
    """
    allowed = countries(jurisdictions)
    if allowed is None:
        return frozenset(sites)
    return frozenset(name for name, country in sites.items() if country is not None and country in allowed)
