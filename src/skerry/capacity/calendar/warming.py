"""Compile or load all of the calendar's machine code before somebody waits for it."""

from skerry.capacity.calendar.calendar import Calendar
from skerry.capacity.calendar.model import Booking, Demand, LeafKey
from skerry.capacity.model import Scope


def warm() -> None:
    """Call every kernel once. Some seconds when nothing is cached, else well below one; run it in a thread of its own.

    Also `python -m skerry.capacity.calendar.warming`, where an installation is made whose folders are read-only later.
    """
    calendar = Calendar()
    for leaf in ("a", "b"):
        calendar.put_leaf(LeafKey(leaf, "sku"), name=leaf, hall="hall", site="site", size=2, supply=[(0, 2)])
    key = LeafKey("a", "sku")
    calendar.earliest(Demand("sku", 1, 1, 0, 100), 0)
    calendar.book(key, Booking("one", 2, 0, 10))
    calendar.put_leaf(
        key, name="a", hall="hall", site="site", size=2, supply=[(0, 2)], bookings=calendar.bookings(key, 0)
    )
    calendar.min_free(key, 0, 1, 0)
    for scope in Scope:
        calendar.earliest(Demand("sku", 2, 10, 0, 100, scope, required=True), 0)
        calendar.earliest(Demand("sku", 4, 10, 0, 100, scope, required=True, whole_leaves=True), 0)
    calendar.unbook(key, "one")


if __name__ == "__main__":
    warm()
