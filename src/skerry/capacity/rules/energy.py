"""What reserved nodes are expected to draw, and what that emits. Pure: an estimate, the meter comes later (energy)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from skerry.capacity.model import Leg, OfferEnergy
from skerry.capacity.moments import seconds
from skerry.fleet.model import Site

_HOUR = 3600
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class PowerPlace:
    """A site as energy sees it. `pue`: power of the site over power of its machines, at least 1. `grams`: of CO2e a
    kWh for each hour of the day (UTC); None: unknown."""

    pue: float
    grams: tuple[float, ...] | None


UNKNOWN = PowerPlace(1.0, None)


def place_of(site: Site) -> PowerPlace:
    """A site whose PUE nobody has told counts as 1: the machines alone."""
    grams = tuple(map(float, site.carbon.hourly)) if site.carbon is not None else None
    return PowerPlace(float(site.pue or 1), grams)


def expected(legs: Iterable[Leg], node_watts: int | None, places: Mapping[str, PowerPlace]) -> OfferEnergy:
    """At full power (`node_watts`, the SKU's; None: unknown, 0). Sites without carbon figures emit nothing here."""
    wh = grams = 0.0
    for leg in legs:
        place = places.get(leg.site, UNKNOWN)
        power = (node_watts or 0) * leg.nodes * place.pue
        wh += power * leg.window.seconds / _HOUR
        if place.grams is not None:
            grams += power / 1000 * carbon(seconds(leg.window.start), leg.window.seconds, place.grams)
    return OfferEnergy(wh=round(wh), gco2e=round(grams))


def carbon(start: int, length: int, grams: tuple[float, ...]) -> float:
    """Grams that one kilowatt emits in `length` seconds from `start` (Unix seconds) on."""
    days, rest = divmod(length, _DAY)
    found = sum(grams) * days
    at = start % _DAY
    while rest:
        part = min(rest, _HOUR - at % _HOUR)
        found += grams[at // _HOUR % 24] * part / _HOUR
        at, rest = at + part, rest - part
    return found
