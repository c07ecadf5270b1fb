"""Refusals that carry a fresh quote: on the wire it has the form that quotes have."""

from collections.abc import Iterator
from contextlib import contextmanager

from skerry.capacity.changing import ChangeQuote
from skerry.capacity.model import Quote
from skerry.capacity.schemas.quotes import QuoteOut
from skerry.capacity.schemas.reservations import ChangeQuoteOut
from skerry.kernel.errors import SkerryError


@contextmanager
def with_quote() -> Iterator[None]:
    try:
        yield
    except SkerryError as error:
        match error.extra.get("quote"):
            case Quote() as quote:
                error.extra["quote"] = QuoteOut.of(quote).model_dump(mode="json")
            case ChangeQuote() as quote:
                error.extra["quote"] = ChangeQuoteOut.of(quote).model_dump(mode="json")
            case _:
                pass
        raise
