"""What a load test is to do, and the most that it can cost. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random

from skerry.client.answers.base import Money
from skerry.client.answers.money import Price, PriceBook

SENTENCE = (
    "the sea is cold and the wind comes from north with rain over old stone walls a light on every rock "
    "tells ships where to go when night falls early in winter and the boats are home"
)
WORDS = SENTENCE.split()
TOKENS_A_WORD = 2
"""More than any vocabulary needs for such words."""
TEMPLATE_TOKENS = 128
"""More than a chat template puts around one message."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Either `requests` or `seconds`. `ceiling` bounds the cost: nothing is begun that might go beyond it."""

    model: str
    concurrency: int
    requests: int | None
    seconds: float | None
    prompt_tokens: int
    max_tokens: int
    stream: bool
    each: Decimal
    """The most that one request can cost."""
    ceiling: Decimal | None
    currency: str
    seed: int = 0

    @property
    def highest(self) -> Money:
        """The most that all of it can cost. Endless by itself is only what costs nothing, or has a ceiling."""
        by_number = None if self.requests is None else self.requests * self.each
        bounds = [bound for bound in (by_number, self.ceiling) if bound is not None]
        return Money(min(bounds) if bounds else Decimal(0), self.currency)

    def prompt(self, number: int) -> str:
        """Of about so many tokens, and another one each time: what a cache holds of it is its first words at most."""
        random = Random(self.seed * 1_000_003 + number)
        return " ".join([f"{number}.", *random.choices(WORDS, k=max(1, self.prompt_tokens - 2))])


def cost_of_one(book: PriceBook, model: str, prompt_tokens: int, max_tokens: int) -> Decimal:
    """The most that one request can cost, whichever of the rows that may apply does."""
    prompt = max(_dearest(book.prices, model, "tokens_prompt"), _dearest(book.prices, model, "tokens_cached"))
    completion = _dearest(book.prices, model, "tokens_completion")
    return prompt * (prompt_tokens * TOKENS_A_WORD + TEMPLATE_TOKENS) + completion * max_tokens


def _dearest(prices: Sequence[Price], model: str, meter: str) -> Decimal:
    """Of one token. A row for the model hides those for all models."""
    found = [price for price in prices if price.meter == meter and price.charge_by in (None, "tokens")]
    own = [price for price in found if price.model == model] or [price for price in found if price.model is None]
    return max((price.unit_price / price.unit_quantity for price in own), default=Decimal(0))
