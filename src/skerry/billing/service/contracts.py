"""Contracts: a customer's own prices, terms of cancellation and credit."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from skerry.billing.errors import ContractEnded, ContractOverlaps, UnknownContract
from skerry.billing.model import (
    DEFAULT_CANCELLATION,
    AccountKind,
    CancellationTerms,
    ContractTerms,
    Price,
)
from skerry.billing.rules import contracts as rules
from skerry.billing.rules.books import effective_moment
from skerry.billing.rules.budgets import limit_to_nano
from skerry.billing.service.balances import Balances
from skerry.billing.service.price_books import PriceBooks
from skerry.billing.store.accounts import AccountStore
from skerry.billing.store.contracts import ContractStore
from skerry.db.database import Database, Tx
from skerry.db.notify import BUDGETS, PRICES, notify
from skerry.identity.model import Principal
from skerry.identity.service import Identity
from skerry.kernel.clock import Clock, rfc3339
from skerry.kernel.errors import FieldError, Invalid, Malformed
from skerry.kernel.ids import ContractId, IdFactory, new_id
from skerry.kernel.money import Money, decimal_from_nano, plain
from skerry.kernel.paging import Page, PageRequest


class Contracts:
    """Written by operators, read by the organization. One is in force at a time.

    What was sold under a contract keeps its price, whatever becomes of the contract.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        identity: Identity,
        prices: PriceBooks,
        balances: Balances,
        ids: IdFactory = new_id,
    ) -> None:
        self.db = db
        self.clock = clock
        self.identity = identity
        self.prices = prices
        self.balances = balances
        self.ids = ids
        self._store = ContractStore()
        self._accounts = AccountStore()

    async def create(
        self,
        principal: Principal,
        organization: str,
        name: str,
        *,
        starts_at: datetime | None = None,
        ends_at: datetime | None = None,
        prices: Sequence[Price] = (),
        cancellation: CancellationTerms | None = None,
        credit_limit: Money | None = None,
    ) -> ContractTerms:
        """`organization` by id or name; `starts_at` now or later. A contract's credit limit holds while it is in force.

        Raises Invalid, ContractOverlaps, NotFound for the organization.
        """
        now = self.clock.now()
        start = _start(starts_at, now)
        terms = cancellation or DEFAULT_CANCELLATION
        rules.require_valid(prices, terms, start, ends_at)
        owner = await self.identity.tenants.resolve_organization(principal, organization)
        async with self.db.transaction() as tx:
            await self._store.lock(tx, owner.id)
            currency = await self.prices.currency(tx)
            other = rules.overlapping(await self._store.of(tx, owner.id), start, ends_at)
            if other is not None:
                raise ContractOverlaps(
                    f"{owner.name} has contract {other.id} ({other.name}) in that time",
                    suggestion="End that one first, or begin after it.",
                    extra={"contract": other.id},
                )
            contract = ContractTerms(
                id=ContractId(self.ids("ctr")),
                organization=owner.id,
                name=name,
                currency=currency,
                starts_at=start,
                ends_at=ends_at,
                prices=tuple(prices),
                cancellation=terms,
                credit_limit_nano=limit_to_nano(credit_limit, currency, "credit_limit") if credit_limit else None,
                created_at=now,
            )
            await self._store.add(tx, contract, principal.key_id)
            await self._changed(tx, principal, contract, "created")
        return contract

    async def page(self, principal: Principal, organization: str | None, request: PageRequest) -> Page[ContractTerms]:
        """The organization's own; for operators all, or those of the one named."""
        if request.after is not None and not (len(request.after) == 1 and request.after[0].isascii()):
            raise Malformed("after is not a cursor of this list", code="bad_cursor")
        async with self.db.reading() as tx:
            owner = None
            if organization is not None or not principal.operator:
                owner = (await self.identity.tenants.organization_of(tx, principal, organization)).id
            return await self._store.page(tx, owner, request)

    async def get(self, principal: Principal, id: str) -> ContractTerms:
        """Raises UnknownContract, for another organization's too."""
        async with self.db.reading() as tx:
            return await self._find(tx, principal, id)

    async def end(self, principal: Principal, id: str) -> ContractTerms:
        """End it now; one that has not begun never will. Raises UnknownContract, ContractEnded."""
        now = self.clock.now()
        async with self.db.transaction() as tx:
            found = await self._find(tx, principal, id)
            await self._store.lock(tx, found.organization)
            found = await self._find(tx, principal, id)
            if found.ends_at is not None and found.ends_at <= max(now, found.starts_at):
                raise ContractEnded(f"contract {id} ended at {rfc3339(found.ends_at)}")
            ended = replace(found, ends_at=max(now, found.starts_at))
            await self._store.end(tx, found.id, max(now, found.starts_at), principal.key_id)
            await self._changed(tx, principal, ended, "ended")
        return ended

    async def keep_house(self, tx: Tx) -> int:
        """Give credit limits of contracts that have begun, take back those of ended ones; returns how many.

        What a limit was before comes back, unless someone has changed it in between.
        """
        now = self.clock.now()
        due = await self._store.credit_due(tx, now)
        # Ended ones first: what follows them finds the limit as it was.
        for terms, before, begins in sorted(due, key=lambda each: (each[2], each[0].starts_at)):
            await self.balances.ensure_credit_limit(tx, terms.organization)
            account = await self._accounts.find_single(tx, AccountKind.CREDIT_LIMIT, terms.organization)
            assert account is not None, "it was ensured"
            if begins:
                await self._accounts.update(tx, account.id, now, limit_nano=terms.credit_limit_nano)
                await self._store.mark_credit(
                    tx, terms.id, credit_before_nano=account.limit_nano, credit_applied_at=now
                )
            else:
                if account.limit_nano == terms.credit_limit_nano and before is not None:
                    await self._accounts.update(tx, account.id, now, limit_nano=before)
                await self._store.mark_credit(tx, terms.id, credit_lifted_at=now)
            await notify(tx, BUDGETS, account.id)
        return len(due)

    async def _find(self, tx: Tx, principal: Principal, id: str) -> ContractTerms:
        found = await self._store.get(tx, None if principal.operator else principal.organization_id, id)
        if found is None:
            raise UnknownContract(f"there is no contract {id} here", suggestion="GET /api/v1/contracts lists them.")
        return found

    async def _changed(self, tx: Tx, principal: Principal, contract: ContractTerms, verb: str) -> None:
        await self.keep_house(tx)
        await notify(tx, PRICES)
        credit = contract.credit_limit_nano
        detail = {
            "name": contract.name,
            "starts_at": rfc3339(contract.starts_at),
            "ends_at": rfc3339(contract.ends_at) if contract.ends_at else None,
            "prices": len(contract.prices),
            "credit_limit": plain(decimal_from_nano(credit)) if credit is not None else None,
        }
        await self.identity.audit(
            tx, principal, f"contract.{verb}", contract.id, detail=detail, organization=contract.organization
        )


def _start(wanted: datetime | None, now: datetime) -> datetime:
    try:
        return effective_moment(wanted, now)
    except Invalid as error:
        errors = [
            FieldError("starts_at", own.code, own.message.replace("effective_from", "starts_at"))
            for own in error.errors
        ]
        raise Invalid(errors[0].message, code=error.code, errors=errors) from error
