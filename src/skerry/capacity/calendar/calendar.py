"""The calendar in memory: where and when nodes are free. It promises nothing: admission asks the database.

Not for several threads at once, and nothing in it waits: within one event loop every call sees a whole calendar.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

from skerry.capacity.calendar.holds import Holds
from skerry.capacity.calendar.model import WIDTHS, Booking, Demand, Found, Free, LeafKey, Shortage, Shortfall
from skerry.capacity.calendar.shelf import Leaf, Shelf
from skerry.capacity.model import Scope

Undo = tuple[LeafKey, Booking, bool]
"""A change within a what-if: True for what was booked, False for what was unbooked."""


class Calendar:
    """Step functions of free nodes, one for each leaf and SKU, and searches over them.

    Free is supply less bookings; where failures make it negative it counts as 0 for sale. `now` lets holds lapse:
    those with `expires_at <= now` are dropped before an answer is given, for good.
    """

    def __init__(self) -> None:
        self.version = 0
        """Another one after every change, lapses included. Answers of one version agree with each other."""
        self._changes = 0
        self._leaves: dict[str, dict[LeafKey, Leaf]] = {}
        self._shelves: dict[str, Shelf] = {}
        self._holds = Holds()
        self._undo: list[Undo] | None = None

    # Changes

    def put_leaf(
        self,
        key: LeafKey,
        *,
        name: str,
        hall: str,
        site: str,
        size: int,
        supply: Sequence[tuple[int, int]],
        bookings: Iterable[Booking] = (),
    ) -> None:
        """Set all of a leaf anew. `supply`: (from, nodes for sale) in order, each until the next; before the first: 0.

        `size`: most nodes that it will ever have for sale (spares and pool taken off). ValueError: steps out of order,
        negative counts, empty windows, a booking id twice; then nothing has changed. RuntimeError within a what-if.
        """
        self._must_be_real()
        leaf = Leaf(key, name, hall, site, size, tuple(supply))
        _check_supply(leaf)
        for booking in bookings:
            _check(booking, leaf.bookings)
            leaf.bookings[booking.id] = booking
        leaves = self._leaves.setdefault(key.sku, {})
        before = leaves.get(key)
        leaves[key] = leaf
        for booking in leaf.bookings.values():
            self._holds.add(key, booking)
        shelf = self._shelves.get(key.sku)
        if shelf is not None and before is not None and before.place == leaf.place:
            shelf.replace(leaf)
        else:
            self._shelves.pop(key.sku, None)
        self._changed()

    def drop_leaf(self, key: LeafKey) -> None:
        """Forget a leaf; one that is not there is no error. RuntimeError within a what-if."""
        self._must_be_real()
        if self._leaves.get(key.sku, {}).pop(key, None) is not None:
            self._shelves.pop(key.sku, None)
            self._changed()

    def book(self, key: LeafKey, booking: Booking) -> None:
        """Take nodes, even more than are free. KeyError: no such leaf; ValueError: a known id, or an empty window."""
        leaf = self._leaves.get(key.sku, {})[key]
        _check(booking, leaf.bookings)
        leaf.bookings[booking.id] = booking
        self._shift(leaf, booking, -booking.nodes)
        if self._undo is None:
            self._holds.add(key, booking)
        else:
            self._undo.append((key, booking, True))

    def unbook(self, key: LeafKey, booking: str) -> None:
        """Give them back: book and unbook leave the calendar as it was. KeyError: no such leaf or booking."""
        leaf = self._leaves.get(key.sku, {})[key]
        given = leaf.bookings.pop(booking)
        self._shift(leaf, given, given.nodes)
        if self._undo is not None:
            self._undo.append((key, given, False))

    @contextmanager
    def what_if(self) -> Iterator[None]:
        """All that is booked or unbooked within is undone at the end, and `version` is what it was. It may be nested.

        Holds booked within do not lapse before that.
        """
        version, outer, lapsed = self.version, self._undo, self._holds.lapsed
        done: list[Undo] = []
        self._undo = done
        try:
            yield
        finally:
            self._undo = None
            for key, booking, booked in reversed(done):
                bookings = self._leaves[key.sku][key].bookings
                if not booked:
                    self.book(key, booking)
                elif booking.id in bookings:
                    self.unbook(key, booking.id)
            self._undo = outer
            if self._holds.lapsed == lapsed:
                self.version = version

    # Questions

    def earliest(self, demand: Demand, now: int) -> Found | None:
        """The earliest start that there is, at second precision; among places then the narrowest, then the fewest legs.

        ValueError: no nodes or no seconds.
        """
        shelf = self._shelf(demand.sku, now)
        _check_demand(demand)
        last = demand.latest_end - demand.seconds
        if shelf is None or last < demand.earliest:
            return None
        scope, usable = _scope(demand), shelf.usable(demand.sites)
        at_once = shelf.settle(demand, demand.earliest, scope, usable)
        if at_once is not None:
            return at_once
        start = shelf.earliest(demand, scope, demand.earliest, last)
        return None if start is None else shelf.settle(demand, start, scope, usable)

    def at(
        self, demand: Demand, start: int, now: int, prefer: Collection[str] = (), within: Collection[str] | None = None
    ) -> Found | None:
        """The same for exactly this start (`demand.earliest` and `latest_end` do not count).

        `prefer`: ids of leaves to use first; `within`: of the only leaves to use.
        """
        shelf = self._shelf(demand.sku, now)
        _check_demand(demand)
        if shelf is None:
            return None
        usable = shelf.usable(demand.sites)
        if within is not None:
            usable = usable & shelf.flags(within)
        return shelf.settle(demand, start, _scope(demand), usable, prefer)

    def nearest(self, demand: Demand, now: int, until: int) -> Shortfall:
        """What to tell somebody whose demand does not fit. `until`: the horizon, to which an earliest start is sought.

        The scope is the demand's if required, else any.
        """
        shelf = self._shelf(demand.sku, now)
        _check_demand(demand)
        if shelf is None:
            return Shortfall(0, None, 0)
        scope = _scope(demand)
        free = shelf.free(shelf.usable(demand.sites), demand.earliest, demand.earliest + demand.seconds)
        start = shelf.earliest(demand, scope, demand.earliest, until - demand.seconds)
        return Shortfall(shelf.largest(free, scope), start, self.largest(demand.sku, scope, demand.sites))

    def largest(self, sku: str, scope: Scope, sites: frozenset[str] = frozenset()) -> int:
        """Most nodes that one place of this scope will ever have for sale; 0 for an SKU that nobody has."""
        shelf = self._shelf(sku, None)
        if shelf is None:
            return 0
        return shelf.largest([leaf.size if not sites or leaf.site in sites else 0 for leaf in shelf.leaves], scope)

    def places(self, sku: str, scope: Scope, sites: frozenset[str] = frozenset()) -> list[tuple[str, ...]]:
        """Ids of the leaves of each leaf, hall or site, or of all."""
        shelf = self._shelf(sku, None)
        found = [] if shelf is None else [[shelf.leaves[at] for at in place] for place in shelf.places(scope)]
        kept = ([leaf.key.leaf for leaf in place if not sites or leaf.site in sites] for place in found)
        return [tuple(place) for place in kept if place]

    def free_schedule(self, sku: str, site: str | None, start: int, end: int, now: int) -> list[Free]:
        """Nodes free at each moment of the window, all leaves together: availability. `site` None: everywhere."""
        shelf = self._shelf(sku, now)
        return [Free(start, end, 0)] if shelf is None else shelf.schedule(site, start, end)

    def min_free(self, key: LeafKey, start: int, end: int, now: int) -> int:
        """Nodes of a leaf that are free all through the window; 0 for a leaf that is not there."""
        shelf = self._shelf(key.sku, now)
        if shelf is None or key.leaf not in shelf.position:
            return 0
        return shelf.least(shelf.position[key.leaf], start, end)

    def shortages(self, key: LeafKey, now: int) -> list[Shortage]:
        """When bookings exceed the supply of a leaf."""
        shelf = self._shelf(key.sku, now)
        return [] if shelf is None or key.leaf not in shelf.position else shelf.shortages(shelf.position[key.leaf])

    def bookings(self, key: LeafKey, now: int) -> list[Booking]:
        """What is booked there, by id; lapsed holds left out. Empty for a leaf that is not there."""
        self._lapse(now)
        leaf = self._leaves.get(key.sku, {}).get(key)
        return [] if leaf is None else [leaf.bookings[booking] for booking in sorted(leaf.bookings)]

    def leaves(self, sku: str | None = None) -> list[LeafKey]:
        """All leaves (of an SKU), in order of site, hall and name."""
        chosen = [leaf for name, leaves in self._leaves.items() if sku in (None, name) for leaf in leaves.values()]
        return [leaf.key for leaf in sorted(chosen, key=lambda leaf: (leaf.place, leaf.key.sku))]

    def memory(self) -> tuple[int, int]:
        """Bytes of step functions: in use, and allocated."""
        shelves = [shelf for sku in self._leaves if (shelf := self._shelf(sku, None)) is not None]
        return sum(shelf.bytes_used for shelf in shelves), sum(shelf.bytes_allocated for shelf in shelves)

    # Within

    def _shelf(self, sku: str, now: int | None) -> Shelf | None:
        """The leaves of an SKU in working order; None: there are none."""
        if now is not None:
            self._lapse(now)
        shelf = self._shelves.get(sku)
        if shelf is None and self._leaves.get(sku):
            shelf = self._shelves[sku] = Shelf(self._leaves[sku].values())
        return shelf

    def _lapse(self, now: int) -> None:
        for key, hold in self._holds.due(now):
            leaf = self._leaves.get(key.sku, {}).get(key)
            if leaf is not None and leaf.bookings.get(hold.id) == hold:
                del leaf.bookings[hold.id]
                self._shift(leaf, hold, hold.nodes)

    def _shift(self, leaf: Leaf, booking: Booking, nodes: int) -> None:
        shelf = self._shelves.get(leaf.key.sku)
        if shelf is not None and not booking.pool:
            shelf.shift(shelf.position[leaf.key.leaf], booking.start, booking.end, nodes)
        self._changed()

    def _changed(self) -> None:
        self._changes += 1
        self.version = self._changes

    def _must_be_real(self) -> None:
        if self._undo is not None:
            raise RuntimeError("within a what-if leaves are not put or dropped")


def _scope(demand: Demand) -> Scope:
    return demand.scope if demand.required else WIDTHS[-1]


def _check_demand(demand: Demand) -> None:
    if demand.nodes < 1 or demand.seconds < 1:
        raise ValueError("a demand has at least one node for at least one second")


def _check_supply(leaf: Leaf) -> None:
    starts = [start for start, _ in leaf.supply]
    if starts != sorted(set(starts)):
        raise ValueError("steps of a supply come in order, each moment once")
    if leaf.size < 0 or any(nodes < 0 for _, nodes in leaf.supply):
        raise ValueError("there are no fewer than no nodes")


def _check(booking: Booking, others: Collection[str]) -> None:
    if booking.end <= booking.start or booking.nodes < 1:
        raise ValueError(f"booking {booking.id} has no nodes or no time")
    if booking.id in others:
        raise ValueError(f"booking {booking.id} is there twice")
