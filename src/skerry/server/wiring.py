"""Adapters for the seams between domains that may not know each other."""

from collections.abc import Mapping
from decimal import Decimal

from skerry.billing.model.prices import ModelPrice
from skerry.billing.service import PriceBooks
from skerry.db.database import Tx
from skerry.kernel.errors import FieldError, Invalid


class CataloguePricing:
    """The catalogue's prices of a model, as rows of the price book."""

    def __init__(self, books: PriceBooks) -> None:
        self.books = books

    async def set_model_price(self, tx: Tx, model: str, prices: Mapping[str, object]) -> None:
        """Raises Invalid where only one of prompt and completion is given: the other would silently be free."""
        given = {name: price for name, price in prices.items() if isinstance(price, Decimal)}
        missing = [name for name in ("prompt", "completion") if name not in given]
        if missing:
            message = "a model has a price for its prompts and one for its completions, or none of its own"
            raise Invalid(message, errors=[FieldError(f"price.{name}", "missing", message) for name in missing])
        price = ModelPrice(given["prompt"], given["completion"], given.get("cached"))
        await self.books.set_model_price(tx, model, price, by="catalogue")
