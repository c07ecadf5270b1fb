"""Token buckets, kept by the second with floats: they limit speed, they never touch money."""

import math


class Bucket:
    """`limit` units a minute, all of them at once if nothing was used. `now` is monotonic seconds."""

    __slots__ = ("level", "limit", "updated")

    def __init__(self, limit: int, level: float, updated: float) -> None:
        self.limit: int = limit
        self.level: float = level
        self.updated: float = updated

    @classmethod
    def full(cls, limit: int, now: float) -> "Bucket":
        return cls(limit, float(limit), now)

    def refill(self, now: float) -> float:
        """Bring the level up to the present; it may be negative after an answer that cost more than was there."""
        level = self.level + (now - self.updated) * self.limit / 60.0
        self.updated = now
        if level > self.limit:
            level = float(self.limit)
        self.level = level
        return level

    def take(self, amount: float) -> None:
        """Take without asking: what an answer has used is used."""
        self.level -= amount

    def wait_for(self, amount: float) -> float:
        """Seconds until `amount` units are there."""
        return max(0.0, (amount - self.level) * 60.0 / self.limit) if self.limit else math.inf

    def resize(self, limit: int, now: float) -> None:
        """A new limit from now on; the share that is left stays the same."""
        if limit != self.limit:
            share = self.refill(now) / self.limit if self.limit else 1.0
            self.limit = limit
            self.level = share * limit


class Allowance:
    """What a key, a project or an organization may use: requests and tokens a minute, and requests at once.

    Keys of one project share the project's, as its projects do the organization's.
    """

    __slots__ = ("active", "concurrent", "requests", "tokens", "whose")

    def __init__(self, whose: str, requests: Bucket, tokens: Bucket, concurrent: int = 0) -> None:
        self.whose: str = whose
        """For people: `API key`, `project`, `organization`."""
        self.requests: Bucket = requests
        self.tokens: Bucket = tokens
        self.concurrent: int = concurrent
        """Requests at once; 0: any number."""
        self.active: int = 0

    def resize(self, requests: int, tokens: int, concurrent: int, now: float) -> None:
        self.requests.resize(requests, now)
        self.tokens.resize(tokens, now)
        self.concurrent = concurrent
