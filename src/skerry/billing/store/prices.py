"""Price books: written once, never changed."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, text

from skerry.billing.model import Line, Price, PriceBook
from skerry.billing.tables import price_books, prices
from skerry.db.database import Tx
from skerry.metering.model import Meter

_LOCK = "skerry.billing.price_books"


class PriceStore:
    """Prices are the operator's and the same for all projects."""

    async def lock(self, tx: Tx) -> None:
        """Be the one who publishes until the transaction ends."""
        await tx.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": _LOCK})

    async def headers(self, tx: Tx) -> list[PriceBook]:
        """All versions in the order of their numbers, without their lines: there may be many."""
        found = await tx.execute(select(price_books).order_by(price_books.c.version))
        return [PriceBook(row.version, row.currency, row.effective_from, ()) for row in found]

    async def with_prices(self, tx: Tx, books: Sequence[PriceBook]) -> list[PriceBook]:
        """The same books with their lines."""
        lines: dict[int, list[Price]] = {book.version: [] for book in books}
        wanted = select(prices).where(prices.c.book.in_(lines)).order_by(prices.c.book, prices.c.line)
        for row in await tx.execute(wanted):
            lines[row.book].append(price_of(row))
        return [replace(book, prices=tuple(lines[book.version])) for book in books]

    async def add(self, tx: Tx, book: PriceBook, created_at: datetime, created_by: str) -> None:
        await tx.execute(
            insert(price_books).values(
                version=book.version,
                currency=book.currency,
                effective_from=book.effective_from,
                created_at=created_at,
                created_by=created_by,
            )
        )
        rows = [{"book": book.version, **price_values(n, price)} for n, price in enumerate(book.prices)]
        if rows:
            await tx.execute(insert(prices), rows)


def price_values(n: int, price: Price) -> dict[str, object]:
    """A row of a book or of a contract, as the `n`th of it."""
    return {
        "line": n,
        "meter": price.meter.value,
        "price_line": price.line.value if price.line else None,
        "model": price.model,
        "sku": price.sku,
        "site": price.site,
        "capacity_class": price.capacity_class,
        "charge_by": price.charge_by,
        "unit_quantity": price.unit_quantity,
        "unit_price": price.unit_price,
    }


def price_of(row: Row[Any]) -> Price:
    return Price(
        meter=Meter(row.meter),
        unit_quantity=row.unit_quantity,
        unit_price=row.unit_price,
        model=row.model,
        sku=row.sku,
        site=row.site,
        capacity_class=row.capacity_class,
        charge_by=row.charge_by,
        line=Line(row.price_line) if row.price_line else None,
    )
