"""What an answer costs, in exact integers: atto-units (10⁻¹⁸) per token."""

from dataclasses import dataclass
from typing import Final

from skerry.billing.model import batch_atto

ONE: Final = 10**18
ZEROS: Final = "0" * 18
EVENT_BYTES, OTHER_BYTES = 512, 8192
"""What a streamed token's event and the rest of an answer are taken to be at most, where egress has a price."""


@dataclass(frozen=True)
class TokenPrice:
    """Atto-units of the currency per token, from `since` (Unix microseconds) on."""

    since: int
    prompt: int
    cached: int
    completion: int
    egress: int = 0
    """Per byte of the answer's body."""

    def cost(self, prompt: int, cached: int, completion: int, egress: int) -> int:
        tokens = prompt * self.prompt + cached * self.cached + completion * self.completion
        return tokens + egress * self.egress if self.egress else tokens

    def ceiling(self, prompt: int, completion: int) -> int:
        tokens = prompt * max(self.prompt, self.cached) + completion * self.completion
        return tokens + self.egress * (EVENT_BYTES * completion + OTHER_BYTES) if self.egress else tokens

    def for_batches(self) -> "TokenPrice":
        """What the same costs in a batch."""
        return TokenPrice(
            self.since,
            batch_atto(self.prompt),
            batch_atto(self.cached),
            batch_atto(self.completion),
            batch_atto(self.egress),
        )


@dataclass(frozen=True)
class PriceSchedule:
    """Prices of one model over time, oldest first, in one currency. There is always one."""

    currency: str
    prices: tuple[TokenPrice, ...]

    def at(self, moment: int) -> TokenPrice:
        """The price of usage that ends at `moment` (Unix microseconds).

        A new price begins with the instant after `since`: the last instant decides, as it does for the hour of a fact.
        The oldest also covers the time before it, as in bills.
        """
        prices = self.prices
        if len(prices) == 1:
            return prices[0]
        chosen = prices[0]
        for price in prices:
            if price.since >= moment:
                break
            chosen = price
        return chosen

    def for_batches(self) -> "PriceSchedule":
        return PriceSchedule(self.currency, tuple([price.for_batches() for price in self.prices]))


def plain_atto(atto: int) -> str:
    """The amount as a decimal string: 1234 × 10⁻¹⁸ and the like, without exponent or superfluous zeros."""
    if atto < ONE:
        return "0." + (ZEROS + str(atto))[-18:].rstrip("0") if atto else "0"
    whole, rest = divmod(atto, ONE)
    if not rest:
        return str(whole)
    return f"{whole}." + str(rest).zfill(18).rstrip("0")
