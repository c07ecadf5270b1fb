"""The calendar that the server searches: in memory, built from the database, kept current by notifications.

It is a hint. What it says is free may have been sold a moment ago, and admission will find out
(`store/reservations.py`): a notification that was missed costs a fresh quote, never a node sold twice.
"""

import asyncio
import importlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from skerry.capacity.calendar.model import Booking, LeafKey
from skerry.capacity.moments import seconds
from skerry.capacity.promises import Promises, Version
from skerry.capacity.rules.supply import for_reservations, known_until, pool_shares, sellable_size
from skerry.db.database import Database, Tx
from skerry.fleet.model import LeafSupply, Site, Sku
from skerry.kernel.clock import Clock
from skerry.kernel.ids import LeafId
from skerry.kernel.paging import MAX_LIMIT, Page, PageRequest, decode_cursor

if TYPE_CHECKING:
    from skerry.capacity.calendar.calendar import Calendar

CALENDAR: Final = "skerry.capacity.calendar.calendar"
WARMING: Final = "skerry.capacity.calendar.warming"
"""Loaded when first needed: they bring a compiler with them, which the processes that share the composition root but
never search (gateway, shipper) are spared."""
POLL_SECONDS: Final = 15.0
"""How often versions are compared where no notification comes."""


class FleetFacts(Protocol):
    """What is needed of the fleet (`Fleet`)."""

    async def supplies(self, tx: Tx, leaves: Collection[LeafId] | None = None) -> list[LeafSupply]: ...

    async def sites(self, request: PageRequest) -> Page[Site]: ...

    async def skus(self, request: PageRequest) -> Page[Sku]: ...


@dataclass(frozen=True, slots=True)
class KnownSupply:
    """What reservations may buy of a leaf, as of a version of its supply."""

    leaf: LeafSupply
    version: int

    def to_json(self) -> dict[str, Any]:
        """As the functions of admission take it."""
        steps = self.leaf.sellable
        return {
            "leaf": self.leaf.leaf,
            "sku": self.leaf.sku,
            "version": self.version,
            "starts": [seconds(step.start) for step in steps],
            "nodes": [step.nodes for step in steps],
        }


class LiveCalendar:
    """Call `refresh` first, then read, without waiting in between: what is read then is of one moment.

    `hear` and `missed` are for a `Listener` on the channels FLEET and CAPACITY. Without one everything is read anew
    each time, which is right for tests and tools.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        fleet: FleetFacts,
        *,
        poll_seconds: float = POLL_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.db, self.clock, self.fleet = db, clock, fleet
        self.leaves: dict[LeafKey, LeafSupply] = {}
        """As reservations see them: without the on-demand pool."""
        self.skus: dict[str, Sku] = {}
        self.sites: dict[str, Site] = {}
        """By name."""
        self._supplies: dict[LeafKey, LeafSupply] = {}
        self._pools: dict[tuple[LeafId, str], int] = {}
        self._versions: dict[LeafKey, Version] = {}
        self._stale: set[LeafId] = set()
        self._all_stale = True
        self._listening = False
        self._loaded = False
        self._fresh_until: datetime | None = None
        self._polled = -poll_seconds
        self._poll_seconds, self._monotonic = poll_seconds, monotonic
        self._lock = asyncio.Lock()
        self._warm: asyncio.Task[None] | None = None
        self._calendar: Calendar | None = None
        self._log = structlog.get_logger("skerry.capacity.live")

    # News

    def hear(self, _channel: str, leaf: str) -> None:
        """Something of a leaf has changed."""
        self._stale.add(LeafId(leaf))

    def missed(self) -> None:
        """News may have been missed; from now on they come."""
        self._listening = True
        self._all_stale = True

    def doubt(self, keys: Iterable[LeafKey]) -> None:
        """What is known of these leaves has turned out to be old."""
        self._stale.update(LeafId(key.leaf) for key in keys)

    # Reading

    async def refresh(self) -> None:
        """Bring it up to date as far as it is known not to be. Raises DatabaseUnavailable."""
        if self._fresh():
            return
        await self._warmed()
        async with self._lock:
            if not self._fresh():
                await self._read()

    async def ready(self) -> None:
        """Know what leaves have for sale, as of some moment: admission tells where it has changed since."""
        if not self._loaded or (self._fresh_until is not None and self.clock.now() >= self._fresh_until):
            await self.refresh()

    async def prepare(self) -> None:
        """Read it before anybody asks. Where that fails, whoever asks first tries again; the rest of a server works."""
        try:
            await self.refresh()
        except Exception as error:
            self._log.warning("calendar_not_ready", error=f"{type(error).__name__}: {error}"[:300])

    @property
    def calendar(self) -> "Calendar":
        if self._calendar is None:
            made: Calendar = importlib.import_module(CALENDAR).Calendar()
            self._calendar = made
        return self._calendar

    @property
    def now(self) -> int:
        return seconds(self.clock.now())

    def supply(self, keys: Iterable[LeafKey]) -> list[KnownSupply]:
        """What these leaves have for sale, for admission to check against. Leaves that are gone are left out."""
        found = []
        for key in sorted(set(keys)):
            if (leaf := self.leaves.get(key)) is not None:
                found.append(KnownSupply(leaf, self._versions.get(key, Version()).supply))
        return found

    def pool(self, leaf: LeafId, sku: str) -> int:
        """How many nodes of a leaf belong to the on-demand pool."""
        return self._pools.get((leaf, sku), 0)

    # Helpers

    def _fresh(self) -> bool:
        return (
            self._listening
            and not self._all_stale
            and not self._stale
            and self._monotonic() - self._polled < self._poll_seconds
            and (self._fresh_until is None or self.clock.now() < self._fresh_until)
        )

    async def _warmed(self) -> None:
        """The searches' machine code is loaded, or compiled, beside the event loop: it can take seconds."""
        if self._warm is None:
            self._warm = asyncio.create_task(asyncio.to_thread(_warm_up))
        await asyncio.shield(self._warm)

    async def _read(self) -> None:
        everything = self._all_stale or not self._listening
        everything |= self._fresh_until is not None and self.clock.now() >= self._fresh_until
        polling = everything or self._monotonic() - self._polled >= self._poll_seconds
        stale, self._stale = self._stale, set()
        self._all_stale = False
        try:
            if polling:
                pools = self._pool_sizes()
                await self._read_facts()
                everything |= pools != self._pool_sizes()
                self._polled = self._monotonic()
            async with self.db.reading() as tx:
                if everything:
                    await self._read_all(tx)
                else:
                    if polling:
                        stale |= await self._changed(tx)
                    if stale:
                        await self._read_some(tx, stale)
        except BaseException:
            self._stale |= stale
            self._all_stale |= everything
            raise

    async def _read_facts(self) -> None:
        sites, skus = await _all(self.fleet.sites), await _all(self.fleet.skus)
        self.sites = {site.name: site for site in sites}
        self.skus = {sku.name: sku for sku in skus}

    def _pool_sizes(self) -> dict[str, int | None]:
        return {name: sku.on_demand_nodes for name, sku in self.skus.items()}

    async def _changed(self, tx: Tx) -> set[LeafId]:
        """Leaves of which there was no news although their version is another."""
        versions = await Promises().versions(tx)
        missed = {LeafId(key.leaf) for key, version in versions.items() if self._versions.get(key) != version}
        if missed:
            self._log.info("calendar_news_missed", leaves=len(missed))
        return missed

    async def _read_all(self, tx: Tx) -> None:
        supplies = await self.fleet.supplies(tx)
        bookings = await Promises().bookings(tx, None, self.clock.now())
        self._versions = await Promises().versions(tx)
        self._supplies = {LeafKey(one.leaf, one.sku): one for one in supplies}
        self._pools = pool_shares(supplies, self._pool_sizes())
        for key in self.leaves.keys() - self._supplies.keys():
            self.calendar.drop_leaf(key)
        self.leaves = {}
        for key in self._supplies:
            self._put(key, bookings)
        self._fresh_until = known_until(supplies)
        self._loaded = True

    async def _read_some(self, tx: Tx, leaves: Collection[LeafId]) -> None:
        supplies = {LeafKey(one.leaf, one.sku): one for one in await self.fleet.supplies(tx, leaves)}
        gone = {key for key in self.leaves if key.leaf in leaves} - supplies.keys()
        bookings = await Promises().bookings(tx, supplies.keys(), self.clock.now())
        self._versions |= await Promises().versions(tx, supplies.keys())
        self._supplies = {key: one for key, one in self._supplies.items() if key not in gone} | supplies
        touched = set(supplies)
        if any(self._pool_sizes().values()):
            pools = pool_shares(self._supplies.values(), self._pool_sizes())
            if pools != self._pools:
                # Other leaves have another share now: their bookings are read with the next refresh.
                self._stale |= {
                    key[0] for key in pools.keys() | self._pools.keys() if pools.get(key) != self._pools.get(key)
                }
                self._stale -= set(leaves)
                self._pools = pools
        for key in gone:
            self.calendar.drop_leaf(key)
            self.leaves.pop(key, None)
        for key in touched:
            self._put(key, bookings)
        self._fresh_until = known_until(self._supplies.values())

    def _put(self, key: LeafKey, bookings: Mapping[LeafKey, Iterable[Booking]]) -> None:
        leaf = for_reservations(self._supplies[key], self._pools.get((LeafId(key.leaf), key.sku), 0))
        self.leaves[key] = leaf
        self.calendar.put_leaf(
            key,
            name=leaf.leaf_name,
            hall=leaf.hall,
            site=leaf.site,
            size=sellable_size(leaf),
            supply=[(seconds(step.start), step.nodes) for step in leaf.sellable],
            bookings=bookings.get(key, ()),
        )


def _warm_up() -> None:
    importlib.import_module(WARMING).warm()


async def _all(list_page: Callable[[PageRequest], Any]) -> list[Any]:
    """All rows of a list that comes in pages."""
    found: list[Any] = []
    request = PageRequest(MAX_LIMIT)
    while True:
        page = await list_page(request)
        found += page.data
        if page.next_cursor is None:
            return found
        request = PageRequest(MAX_LIMIT, decode_cursor(page.next_cursor))
