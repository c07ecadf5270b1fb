"""Reserved capacity in money: its price, what it sets aside, what it costs in the end."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Final

from skerry.billing.errors import NotSold, UnknownCharge
from skerry.billing.model import (
    DEFAULT_CANCELLATION,
    Account,
    AccountKind,
    CancellationTerms,
    ChargeBy,
    ChargeKind,
    ContractTerms,
    Fee,
    OneOff,
    Period,
    PricedLeg,
    Rates,
    ReservedPrice,
    ReservedTerms,
    TargetKind,
)
from skerry.billing.rules import reserved as rules
from skerry.billing.rules.balances import period_of
from skerry.billing.rules.reserved import Pricer
from skerry.billing.service.balances import Balances
from skerry.billing.service.commitments import Commitments, Limits, Wanted
from skerry.billing.service.price_books import PriceBooks
from skerry.billing.store.contracts import ContractStore
from skerry.billing.store.reserved import ChargeStore, TermsStore
from skerry.db.database import Database, Tx
from skerry.identity.model import Principal
from skerry.kernel.clock import Clock
from skerry.kernel.errors import Malformed
from skerry.kernel.ids import IdFactory, KeyId, OrganizationId, ProjectId, new_id
from skerry.kernel.paging import Page, PageRequest

PRICERS: Final = 1000
"""Organizations whose prices are kept at hand."""


class Reserved:
    """Prices reservations, and keeps the books of those that are sold.

    Whoever opens, changes or closes holds its locks of capacity first: the ledger's come last. What changes
    something works inside the caller's transaction.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        prices: PriceBooks,
        balances: Balances,
        commitments: Commitments,
        ids: IdFactory = new_id,
    ) -> None:
        self.db = db
        self.clock = clock
        self.prices = prices
        self.balances = balances
        self.commitments = commitments
        self.ids = ids
        self._contracts = ContractStore()
        self._terms = TermsStore()
        self._charges = ChargeStore()
        self._pricers: dict[OrganizationId, tuple[tuple[object, ...], Pricer]] = {}

    # Prices

    async def pricer(self, tx: Tx, organization: OrganizationId) -> Pricer:
        """Prices of an organization, for hours from the present one on: synchronous, in memory, safe to share.

        It is good until books or contracts change (`skerry_prices`); asking again is one short query where nothing has.
        """
        print_ = await self._contracts.fingerprint(tx, organization)
        known = self._pricers.pop(organization, None)
        if known is None or known[0] != print_:
            books = await self.prices.from_hour(tx, self.clock.now())
            known = (print_, Pricer(books, await self._contracts.of(tx, organization)))
        self._pricers[organization] = known
        if len(self._pricers) > PRICERS:
            del self._pricers[next(iter(self._pricers))]
        return known[1]

    async def price(self, tx: Tx, organization: OrganizationId, legs: Sequence[PricedLeg]) -> ReservedPrice:
        """What legs cost from now on. Each hour costs what is in force when it begins."""
        return (await self.pricer(tx, organization)).price(legs)

    async def cancellation(self, tx: Tx, organization: OrganizationId) -> CancellationTerms:
        """On which terms a reservation made now can be cancelled."""
        return _cancellation(await self._contracts.headers(tx, organization), self.clock.now())

    @staticmethod
    def cancellation_fee(terms: CancellationTerms, legs: Sequence[PricedLeg], rates: Rates, now: datetime) -> Fee:
        """What giving up `legs` at `now` costs: a share of what of them is to come (`rules.reserved`)."""
        return rules.cancellation_fee(terms, legs, rates, now)

    # What is sold

    async def terms(self, tx: Tx, reservation: str) -> ReservedTerms:
        """What was agreed on at `open`. Raises NotSold."""
        return (await self._find(tx, reservation))[0]

    async def open(
        self,
        tx: Tx,
        principal: Principal,
        reservation: str,
        project: ProjectId,
        legs: Sequence[PricedLeg],
        price: ReservedPrice,
        *,
        parent: str | None = None,
    ) -> ReservedTerms:
        """Sell at a price, which stands for the reservation's life, and set it aside on all that bears it.

        The terms of cancellation are those of the contract in force, or of `parent`, from which it was split. Accounts:
        the key's limit, budgets of key, project and organization, the credit limit; in each of their periods what is
        used in it. Raises CreditExhausted, BudgetExhausted (402), which say what is left.
        """
        now, organization = self.clock.now(), principal.organization_id
        contracts = await self._contracts.headers(tx, organization)
        if parent is not None:
            cancellation = (await self.terms(tx, parent)).cancellation
        else:
            cancellation = _cancellation(contracts, now)
        terms = ReservedTerms(
            reservation=reservation,
            organization=organization,
            project=project,
            currency=price.currency,
            rates=price.rates,
            legs=tuple(legs),
            cancellation=cancellation,
            contract=price.contract,
            opened_at=now,
        )
        await self._terms.add(tx, terms, principal.key_id)
        await self._set_aside(tx, terms, principal.key_id, contracts)
        return terms

    async def change(
        self,
        tx: Tx,
        reservation: str,
        project: ProjectId,
        legs: Sequence[PricedLeg],
        price: ReservedPrice,
        now: datetime,
    ) -> ReservedTerms:
        """Sell something else from now on. `legs` are all of the reservation's, with the parts that were used.

        Hours that were agreed on before cost what they did: `price` is made with `keep=terms.rates`. Raises NotSold,
        CreditExhausted, BudgetExhausted.
        """
        terms, key = await self._find(tx, reservation, lock=True)
        if terms.closed_at is not None or terms.project != project:
            raise NotSold(f"reservation {reservation} is not open in this project")
        changed = replace(terms, legs=tuple(legs), rates=rules.joined(terms.rates, price.rates))
        await self._terms.save(tx, changed, now)
        await self._set_aside(tx, changed, key, await self._contracts.headers(tx, terms.organization))
        return changed

    async def close(self, tx: Tx, reservation: str, now: datetime, fee: Decimal = Decimal(0), reason: str = "") -> None:
        """Cancel: give back what is not used, and charge the fee. Raises NotSold."""
        terms, key = await self._find(tx, reservation, lock=True)
        if terms.closed_at is not None:
            raise NotSold(f"reservation {reservation} is closed already")
        closed = replace(terms, legs=rules.before(terms.legs, now), closed_at=now)
        await self._terms.save(tx, closed, now)
        accounts = await self.balances.accounts_for(tx, terms.organization, terms.project, key)
        await self.commitments.put(tx, reservation, accounts, _wanted(accounts, closed))
        if fee:
            await self._book(tx, terms, key, accounts, fee, reason or f"cancellation of {reservation}")

    async def over(self, tx: Tx, reservation: str, now: datetime) -> None:
        """Nothing more of it will be used: what is still set aside for it is free. Repeatable; a hold has nothing."""
        found = await self._terms.find(tx, reservation)
        if found is not None and found[0].closed_at is None:
            await self.close(tx, reservation, now)

    async def sold_to(self, tx: Tx, account: Account) -> dict[str, ReservedTerms]:
        """The reservations that an account bears, or would have to, and that are not settled to their ends."""
        kind, id = account.target.kind, account.target.id
        found = await self._terms.unsettled_of(
            tx,
            project=ProjectId(id) if kind is TargetKind.PROJECT else None,
            organization=OrganizationId(id) if kind is TargetKind.ORGANIZATION else None,
            key=KeyId(id) if kind is TargetKind.KEY else None,
        )
        return {terms.reservation: terms for terms in found}

    async def cover(self, tx: Tx, account: Account) -> None:
        """Let a new account bear what its target has already bought, from the present period on.

        Nothing is refused: it is sold. A reservation that is opened at this very moment may be missing.
        """
        since = period_of(account.window, self.clock.now()).start
        for terms in (await self.sold_to(tx, account)).values():
            await self.commitments.put(tx, terms.reservation, [account], _wanted([account], terms), since=since)

    async def charge_fee(self, tx: Tx, reservation: str, fee: Decimal, reason: str) -> None:
        """Charge the fee for giving up a part, after `change`. Raises NotSold."""
        terms, key = await self._find(tx, reservation, lock=True)
        if fee:
            accounts = await self.balances.accounts_for(tx, terms.organization, terms.project, key)
            await self._book(tx, terms, key, accounts, fee, reason)

    # One-off charges

    async def charges(self, project: ProjectId, resource: str | None, page: PageRequest) -> Page[OneOff]:
        """A project's, or those of one of its resources, oldest first. Raises Malformed for another list's cursor."""
        if page.after is not None and not (len(page.after) == 1 and page.after[0].isascii()):
            raise Malformed("after is not a cursor of this list", code="bad_cursor")
        async with self.db.reading() as tx:
            return await self._charges.page(tx, project, resource, page)

    async def one_charge(self, project: ProjectId, id: str) -> OneOff:
        """Raises UnknownCharge."""
        async with self.db.reading() as tx:
            found = await self._charges.get(tx, project, id)
        if found is None:
            raise UnknownCharge(f"there is no charge {id} here", suggestion="GET /api/v1/charges lists them.")
        return found

    # Helpers

    async def _find(self, tx: Tx, reservation: str, *, lock: bool = False) -> tuple[ReservedTerms, KeyId]:
        found = await self._terms.find(tx, reservation, lock=lock)
        if found is None:
            raise NotSold(f"nothing was agreed on for reservation {reservation}", suggestion="Confirm it first.")
        return found

    async def _set_aside(self, tx: Tx, terms: ReservedTerms, key: KeyId, contracts: Sequence[ContractTerms]) -> None:
        accounts = await self.balances.accounts_for(tx, terms.organization, terms.project, key)
        limits = _limits(contracts, self.clock.now())
        await self.commitments.put(tx, terms.reservation, accounts, _wanted(accounts, terms), limits=limits)

    async def _book(
        self, tx: Tx, terms: ReservedTerms, key: KeyId, accounts: Sequence[Account], fee: Decimal, reason: str
    ) -> None:
        now = self.clock.now()
        charge = OneOff(
            id=self.ids("chg"),
            organization=terms.organization,
            project=terms.project,
            resource=terms.reservation,
            kind=ChargeKind.CANCELLATION_FEE,
            amount=fee,
            currency=terms.currency,
            at=now,
            reason=reason,
            dims=_dims(terms),
        )
        await self._charges.add(tx, charge, now, key)
        await self.commitments.charge(tx, charge.id, accounts, fee)


def _wanted(accounts: Sequence[Account], terms: ReservedTerms) -> Wanted:
    windows = {account.window for account in accounts}
    parts = {window: rules.by_period(terms.rates, terms.legs, window) for window in windows}
    return {(account.id, period): part for account in accounts for period, part in parts[account.window].items()}


def _cancellation(contracts: Sequence[ContractTerms], at: datetime) -> CancellationTerms:
    own = next((terms for terms in contracts if terms.in_force(at)), None)
    return own.cancellation if own else DEFAULT_CANCELLATION


def _limits(contracts: Sequence[ContractTerms], now: datetime) -> Limits:
    """In periods to come a contract's credit limit already counts."""

    def limit(account: Account, period: Period) -> int:
        if account.kind is AccountKind.CREDIT_LIMIT:
            at = max(period.start, now)
            own = next((terms for terms in contracts if terms.in_force(at)), None)
            if own is not None and own.credit_limit_nano is not None:
                return own.credit_limit_nano
        return account.limit_nano

    return limit


def _dims(terms: ReservedTerms) -> dict[str, str]:
    """What usage of the reservation has in common."""
    skus, sites = {leg.sku for leg in terms.legs}, {leg.site for leg in terms.legs}
    return {
        "charge_by": ChargeBy.RESERVATION.value,
        "capacity_class": "reserved",
        **({"sku": skus.pop()} if len(skus) == 1 else {}),
        **({"site": sites.pop()} if len(sites) == 1 else {}),
    }
