"""Availability: how many nodes are free when, per site and SKU. From memory; a picture, not a promise."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from skerry.capacity.errors import BadWindow
from skerry.capacity.live import LiveCalendar
from skerry.capacity.moments import ceil_second, instant, seconds
from skerry.capacity.rules.asking import Market, allowed_site, checked_sku
from skerry.capacity.rules.supply import sellable_size
from skerry.capacity.service.quotes import Quotes
from skerry.identity.model import Principal
from skerry.identity.service import Identity
from skerry.kernel.errors import FieldError

DAYS: Final = 30
"""How far it looks where no end is given."""


@dataclass(frozen=True, slots=True)
class FreeNodes:
    """`nodes` are free at every moment of the window."""

    start: datetime
    end: datetime
    nodes: int


@dataclass(frozen=True, slots=True)
class SiteSchedule:
    """Of one SKU at one site. `size`: the most nodes it will ever have for sale there."""

    site: str
    sku: str
    size: int
    schedule: tuple[FreeNodes, ...]


@dataclass(frozen=True, slots=True)
class Availability:
    as_of: datetime
    start: datetime
    end: datetime
    data: tuple[SiteSchedule, ...]


class Availabilities:
    def __init__(self, identity: Identity, live: LiveCalendar, quotes: Quotes) -> None:
        self.identity, self.live, self.quotes = identity, live, quotes

    async def of(
        self,
        principal: Principal,
        sku: str | None = None,
        site: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> Availability:
        """Where the project's data may be. Raises UnknownSku, UnknownSite, OutsideJurisdiction, BadWindow."""
        async with self.live.db.reading() as tx:
            jurisdictions = (await self.identity.project(tx, principal.project_id)).jurisdictions
        await self.live.refresh()
        market = self.quotes.market()
        name = checked_sku(sku, market, "sku") if sku is not None else None
        sites = set(allowed_site(site, market, jurisdictions) or market.countries)
        begin, stop = _window(market, start, end)
        now = seconds(market.now)
        found = []
        for (at, own), size in sorted(self._sizes().items()):
            if at in sites and name in (None, own):
                free = self.live.calendar.free_schedule(own, at, seconds(begin), seconds(stop), now)
                parts = tuple(FreeNodes(instant(one.start), instant(one.end), one.nodes) for one in free)
                found.append(SiteSchedule(at, own, size, parts))
        return Availability(market.now, begin, stop, tuple(found))

    def _sizes(self) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for key, leaf in self.live.leaves.items():
            place = (leaf.site, key.sku)
            found[place] = found.get(place, 0) + sellable_size(leaf)
        return found


def _window(market: Market, start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """From now on at the earliest, to the horizon at the latest."""
    begin = max(start or market.now, market.now)
    begin = min(ceil_second(begin), market.horizon - timedelta(seconds=1))
    stop = ceil_second(end) if end is not None else min(begin + timedelta(days=DAYS), market.horizon)
    stop = min(stop, market.horizon)
    if stop <= begin:
        message = "it ends before it starts, or in the past"
        raise BadWindow(message, errors=[FieldError("to", "bad_window", message)])
    return begin, stop
