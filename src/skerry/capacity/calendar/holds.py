"""Which holds of the calendar lapse next."""

from collections.abc import Iterator
from heapq import heappop, heappush

from skerry.capacity.calendar.model import Booking, LeafKey

Entry = tuple[int, LeafKey, str]
"""When a hold lapses, where, and its id."""


class Holds:
    """Holds by the moment they lapse. One that was given back meanwhile is still in here: whoever asks looks."""

    def __init__(self) -> None:
        self.lapsed = 0
        """How many have come due so far."""
        self._next: list[Entry] = []
        self._known: dict[Entry, Booking] = {}

    def add(self, key: LeafKey, booking: Booking) -> None:
        """Watch a booking, if it is a hold at all."""
        if booking.expires_at is None:
            return
        entry = booking.expires_at, key, booking.id
        if entry not in self._known:  # leaves are put again and again
            heappush(self._next, entry)
        self._known[entry] = booking

    def due(self, now: int) -> Iterator[tuple[LeafKey, Booking]]:
        """Those that have lapsed, each once."""
        while self._next and self._next[0][0] <= now:
            entry = heappop(self._next)
            self.lapsed += 1
            yield entry[1], self._known.pop(entry)
