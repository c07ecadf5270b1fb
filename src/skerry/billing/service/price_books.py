"""Price books: the versions of all prices, and what they make of usage."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from skerry.billing.model import (
    Charge,
    Contract,
    ModelPrice,
    OneOff,
    Price,
    PriceBook,
    PriceTarget,
    Timeline,
    TokenSchedule,
)
from skerry.billing.rules import books as book_rules
from skerry.billing.rules import prices as rules
from skerry.billing.store.contracts import ContractStore
from skerry.billing.store.prices import PriceStore
from skerry.billing.store.reserved import ChargeStore, TermsStore
from skerry.db.database import Database, Tx
from skerry.db.notify import PRICES, notify
from skerry.identity.model import Principal, Project
from skerry.kernel.clock import Clock, floor_hour, rfc3339
from skerry.kernel.errors import NotFound, Unavailable
from skerry.kernel.ids import OrganizationId, ProjectId
from skerry.kernel.windows import Window
from skerry.metering.model import UsageSum

BOOTSTRAP = "bootstrap"


class Registry(Protocol):
    """Whose projects are whose, and where it is written down who published what (identity)."""

    async def project(self, tx: Tx, project: ProjectId) -> Project: ...

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
    def __init__(self, db: Database, clock: Clock, identity: Registry) -> None:
        self.db = db
        self.clock = clock
        self.identity = identity
        self._store = PriceStore()
        self._contracts = ContractStore()
        self._terms = TermsStore()
        self._charges = ChargeStore()

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
            await self.identity.audit(tx, principal, "price_book.publish", str(book.version), detail=detail)
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

    async def timeline(self, tx: Tx, window: Window, project: ProjectId | None = None) -> Timeline:
        """The books in force during a window; its cuts are where usage has to be split before `rate`.

        With the contracts of the project's organization, and what its reservations were sold at.
        """
        found = rules.timeline(await self._headers(tx), window)
        books = Timeline(found.cuts, tuple(await self._store.with_prices(tx, found.books)))
        if project is None:
            return books
        organization = await self._organization(tx, project)
        contracts = await self._contracts.of(tx, organization) if organization else []
        fixed = await self._terms.rates(tx, project, window)
        return rules.woven(books, window, contracts, fixed) if contracts or fixed else books

    async def charges_within(self, tx: Tx, project: ProjectId, window: Window) -> list[OneOff]:
        """One-off charges of a project, which stand beside what its usage costs."""
        return await self._charges.within(tx, project, window)

    async def from_hour(self, tx: Tx, now: datetime) -> list[PriceBook]:
        """The book in force at the beginning of the present hour, and all that come after it."""
        known = await self._headers(tx)
        first = rules.book_at(known, floor_hour(now))
        coming = [book for book in rules.in_force(known) if book.effective_from > first.effective_from]
        return await self._store.with_prices(tx, [first, *coming])

    def rate(self, pieces: Iterable[UsageSum], prices: Timeline, contract: Contract | None = None) -> list[Charge]:
        """What usage costs (`rules.prices.rate`)."""
        return rules.rate(pieces, prices, contract)

    async def _book(self, tx: Tx, at: datetime) -> PriceBook:
        return (await self._store.with_prices(tx, [rules.book_at(await self._headers(tx), at)]))[0]

    async def _organization(self, tx: Tx, project: ProjectId) -> OrganizationId | None:
        try:
            return (await self.identity.project(tx, project)).organization_id
        except NotFound:
            return None

    async def _headers(self, tx: Tx) -> list[PriceBook]:
        known = await self._store.headers(tx)
        if not known:
            raise Unavailable("there is no price book yet", code="no_price_book", retry_after=2)
        return known


def _next_version(known: Sequence[PriceBook]) -> int:
    return max((book.version for book in known), default=0) + 1
