"""How many rows may be under way, and whose turn it is. Pure: time comes in as monotonic seconds."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

FIRST: Final = 4.0
LONGEST_PAUSE: Final = 30.0
_FIRST_PAUSE: Final = 0.25


class Pace:
    """Rows of one model that may be under way at once: one more for each round that was answered, half on a refusal.

    So batches take what interactive traffic leaves, without being told how much that is. A refusal also closes the
    model for a while, longer each time in a row; those that arrive while it is closed are of the same volley.
    """

    __slots__ = ("_refusals", "closed_until", "limit", "most", "under_way")

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = min(FIRST, float(most))
        self.under_way = 0
        self.closed_until = 0.0
        self._refusals = 0

    def open(self, now: float) -> bool:
        return now >= self.closed_until and self.under_way < int(self.limit)

    def began(self) -> None:
        self.under_way += 1

    def ended(self) -> None:
        self.under_way -= 1

    def answered(self, *, waited: bool = False) -> None:
        """Called before `ended`. `waited`: it stood in the gateway's queue, which more would only make longer."""
        self._refusals = 0
        if waited:
            self.limit = max(1.0, self.limit - 1 / self.limit)
        elif self.under_way * 2 > self.limit:
            # Only where most of it is used does an answer say anything about more.
            self.limit = min(float(self.most), self.limit + 1 / self.limit)

    def refused(self, now: float, after: float | None) -> None:
        """`after`: seconds that the refusal asked to wait."""
        if now < self.closed_until:
            return
        self._refusals += 1
        self.limit = max(1.0, self.limit / 2)
        pause = min(_FIRST_PAUSE * 2.0 ** min(self._refusals, 16), LONGEST_PAUSE)
        self.closed_until = now + max(pause, min(after or 0.0, LONGEST_PAUSE))


class Turns(Generic[T]):
    """Round robin over projects; within a project what came first goes first, as far as it can."""

    def __init__(self) -> None:
        self._projects: OrderedDict[str, list[T]] = OrderedDict()

    def add(self, project: str, item: T) -> None:
        self._projects.setdefault(project, []).append(item)

    def remove(self, project: str, item: T) -> None:
        items = self._projects[project]
        items.remove(item)
        if not items:
            del self._projects[project]

    def count(self, project: str) -> int:
        return len(self._projects.get(project, ()))

    def pick(self, take: Callable[[T], R | None]) -> tuple[T, R] | None:
        """What the first that has something gives; its project then stands last."""
        for project, items in self._projects.items():
            for item in items:
                taken = take(item)
                if taken is not None:
                    self._projects.move_to_end(project)
                    return item, taken
        return None
