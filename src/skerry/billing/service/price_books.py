"""Price books: the versions of all prices, and what they make of usage."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from skerry.billing.model import (
    Charge,
    Contract,
    ModelPrice,
    Price,
    PriceBook,
    PriceTarget,
    Timeline,
    TokenSchedule,
)
from skerry.billing.rules import books as book_rules
from skerry.billing.rules import prices as rules
from skerry.billing.store.prices import PriceStore
from skerry.db.database import Database, Tx
from skerry.db.notify import PRICES, notify
from skerry.identity.model import Principal
from skerry.kernel.clock import Clock, floor_hour, rfc3339
from skerry.kernel.errors import Unavailable
from skerry.kernel.windows import Window
from skerry.metering.model import UsageSum

BOOTSTRAP = "bootstrap"


class Auditor(Protocol):
    """Where it is written down who published what (identity)."""

    async def audit(
        self,
        tx: Tx,
        principal: Principal | None,
        action: str,
        resource: str,
        *,
        detail: dict[str, Any] | None = None,
    ) -> None: ...


class PriceBooks:
    def __init__(self, db: Database, clock: Clock, auditor: Auditor) -> None:
        self.db = db
        self.clock = clock
        self.auditor = auditor
        self._store = PriceStore()

    async def bootstrap(self, tx: Tx, currency: str) -> None:
        """Write version 1 where there is none. It begins with a full hour, so that it splits none."""
        await self._store.lock(tx)
        if await self._store.headers(tx):
            return
        now = self.clock.now()
        await self._store.add(tx, PriceBook(1, currency, floor_hour(now), book_rules.default_prices()), now, BOOTSTRAP)

    async def price_book(self, at: datetime | None = None) -> PriceBook:
        """The version in force, now unless told otherwise."""
        async with self.db.reading() as tx:
            return await self._book(tx, at or self.clock.now())

    async def currency(self, tx: Tx) -> str:
        return (await self._headers(tx))[-1].currency

    async def publish_price_book(
        self, principal: Principal, prices: Sequence[Price], currency: str, effective_from: datetime | None = None
    ) -> PriceBook:
        """A new version, in force from now or later. Of versions for the same moment the last published counts.

        Raises Invalid for a moment gone by and for rows that could not be charged exactly or would tie.
        """
        now = self.clock.now()
        moment = book_rules.effective_moment(effective_from, now)
        async with self.db.transaction() as tx:
            await self._store.lock(tx)
            known = await self._store.headers(tx)
            book_rules.require_valid(prices, currency, known[-1] if known else None)
            book = PriceBook(_next_version(known), currency, moment, tuple(prices))
            await self._store.add(tx, book, now, principal.key_id)
            await notify(tx, PRICES)
            detail = {"effective_from": rfc3339(moment), "prices": len(book.prices)}
            await self.auditor.audit(tx, principal, "price_book.publish", str(book.version), detail=detail)
        return book

    async def set_model_price(self, tx: Tx, model: str, price: ModelPrice | None, by: str) -> None:
        """Give a model token prices of its own from now on (None: the book's default for models).

        That is a new version of the book in force, and of each that is to come, with the model's rows replaced.
        Raises Invalid where a price cannot be charged exactly.
        """
        await self._store.lock(tx)
        now = self.clock.now()
        known = await self._headers(tx)
        current = rules.book_at(known, now)
        coming = [book for book in rules.in_force(known) if book.effective_from > max(now, current.effective_from)]
        version = _next_version(known)
        for book in await self._store.with_prices(tx, [current, *coming]):
            prices = book_rules.with_model_price(book.prices, model, price)
            if set(prices) == set(book.prices):
                continue
            book_rules.require_valid(prices, book.currency, book)
            moment = max(book.effective_from, now)
            await self._store.add(tx, replace(book, version=version, effective_from=moment, prices=prices), now, by)
            version += 1
        await notify(tx, PRICES)

    async def model_prices(self, tx: Tx, targets: Iterable[PriceTarget]) -> dict[PriceTarget, TokenSchedule]:
        """For gateways: token prices in force now and to come. `skerry_prices` says that they changed."""
        now = self.clock.now()
        known = await self._headers(tx)
        current = rules.book_at(known, now)
        coming = [book for book in rules.in_force(known) if book.effective_from > max(now, current.effective_from)]
        tariffs = rules.TokenTariffs(await self._store.with_prices(tx, [current, *coming]), now)
        return {target: TokenSchedule(current.currency, tariffs.of(target)) for target in targets}

    async def timeline(self, tx: Tx, window: Window) -> Timeline:
        """The books in force during a window; its cuts are where usage has to be split before `rate`."""
        found = rules.timeline(await self._headers(tx), window)
        return Timeline(found.cuts, tuple(await self._store.with_prices(tx, found.books)))

    def rate(self, pieces: Iterable[UsageSum], prices: Timeline, contract: Contract | None = None) -> list[Charge]:
        """What usage costs (`rules.prices.rate`)."""
        return rules.rate(pieces, prices, contract)

    async def _book(self, tx: Tx, at: datetime) -> PriceBook:
        return (await self._store.with_prices(tx, [rules.book_at(await self._headers(tx), at)]))[0]

    async def _headers(self, tx: Tx) -> list[PriceBook]:
        known = await self._store.headers(tx)
        if not known:
            raise Unavailable("there is no price book yet", code="no_price_book", retry_after=2)
        return known


def _next_version(known: Sequence[PriceBook]) -> int:
    return max((book.version for book in known), default=0) + 1
