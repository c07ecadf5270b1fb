"""Token buckets, kept by the second with floats: they limit speed, they never touch money."""

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """`limit` units a minute, all of them at once if nothing was used. `now` is monotonic seconds."""

    limit: int
    level: float
    updated: float

    @classmethod
    def full(cls, limit: int, now: float) -> "Bucket":
        return cls(limit, float(limit), now)

    def refill(self, now: float) -> float:
        """Bring the level up to the present; it may be negative after an answer that cost more than was there."""
        level = self.level + (now - self.updated) * self.limit / 60
        self.updated = now
        self.level = level = min(level, self.limit)
        return level

    def take(self, amount: float) -> None:
        """Take without asking: what an answer has used is used."""
        self.level -= amount

    def wait_for(self, amount: float) -> float:
        """Seconds until `amount` units are there."""
        return max(0.0, (amount - self.level) * 60 / self.limit) if self.limit else math.inf

    def resize(self, limit: int, now: float) -> None:
        """A new limit from now on; the share that is left stays the same."""
        if limit != self.limit:
            share = self.refill(now) / self.limit if self.limit else 1.0
            self.limit, self.level = limit, share * limit
