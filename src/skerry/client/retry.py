"""When to try again. Pure but for the jitter's random source, which is handed in."""

from dataclasses import dataclass, field
from random import Random

from skerry.client.errors import NotReachable, SkerryError, Unavailable


@dataclass(frozen=True, slots=True)
class Retries:
    """Up to `tries` in all, waiting as the server says, else twice as long each time (with jitter).

    After a request may have arrived, it is sent again only where doing so twice does it once.
    """

    tries: int = 3
    first_wait: float = 0.25
    """Seconds."""
    longest_wait: float = 20.0
    """Where the server asks for more patience than this, the error goes to the caller, who sees `retry_after`."""
    jitter: Random = field(default_factory=Random)

    def wait(self, tried: int, error: SkerryError, *, replayable: bool) -> float | None:
        """Seconds until the next try; None: give up. `replayable`: sending it twice does it once."""
        if tried >= self.tries:
            return None
        if isinstance(error, NotReachable):
            return self._backoff(tried) if replayable or not error.sent else None
        if isinstance(error, Unavailable) and replayable:
            asked = self._backoff(tried) if error.retry_after is None else error.retry_after
            return asked if asked <= self.longest_wait else None
        return None

    def _backoff(self, tried: int) -> float:
        return float(self.first_wait * 2 ** (tried - 1) * (0.5 + self.jitter.random() / 2))
