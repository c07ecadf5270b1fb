"""Contracts: what organizations have agreed on with the operator."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, and_, func, insert, or_, select, text, update

from skerry.billing.model import CancellationTerms, ContractTerms, Price
from skerry.billing.store.prices import price_of, price_values
from skerry.billing.tables import contract_prices, contracts, price_books
from skerry.db.database import Tx
from skerry.kernel.ids import ContractId, OrganizationId
from skerry.kernel.paging import Page, PageRequest

_c = contracts.c


class ContractStore:
    """Contracts belong to organizations: every method that reads takes one, or is the operator's."""

    async def lock(self, tx: Tx, organization: OrganizationId) -> None:
        """Be the one who changes an organization's contracts until the transaction ends."""
        name = f"skerry.billing.contracts.{organization}"
        await tx.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})

    async def add(self, tx: Tx, terms: ContractTerms, created_by: str) -> None:
        await tx.execute(insert(contracts).values(_values(terms, created_by)))
        rows = [{"contract": terms.id, **price_values(n, price)} for n, price in enumerate(terms.prices)]
        if rows:
            await tx.execute(insert(contract_prices), rows)

    async def of(self, tx: Tx, organization: OrganizationId) -> list[ContractTerms]:
        """All there ever were, oldest first."""
        return await self._read(tx, select(contracts).where(_c.organization == organization).order_by(_c.starts_at))

    async def headers(self, tx: Tx, organization: OrganizationId) -> list[ContractTerms]:
        """The same without their prices."""
        rows = await tx.execute(select(contracts).where(_c.organization == organization).order_by(_c.starts_at))
        return [_terms(row, ()) for row in rows]

    async def get(self, tx: Tx, organization: OrganizationId | None, id: str) -> ContractTerms | None:
        """None for the organization: any one's (operators)."""
        wanted = select(contracts).where(_c.id == id)
        if organization is not None:
            wanted = wanted.where(_c.organization == organization)
        return next(iter(await self._read(tx, wanted)), None)

    async def page(self, tx: Tx, organization: OrganizationId | None, request: PageRequest) -> Page[ContractTerms]:
        wanted = select(contracts).order_by(_c.id).limit(request.limit + 1)
        if organization is not None:
            wanted = wanted.where(_c.organization == organization)
        if request.after is not None:
            wanted = wanted.where(_c.id > request.after[0])
        return Page.cut(await self._read(tx, wanted), request, lambda terms: (terms.id,))

    async def end(self, tx: Tx, id: ContractId, at: datetime, by: str) -> None:
        await tx.execute(update(contracts).where(_c.id == id).values(ends_at=at, ended_by=by))

    async def fingerprint(self, tx: Tx, organization: OrganizationId) -> tuple[object, ...]:
        """Equal as long as neither books nor the organization's contracts change. One round trip."""
        own = select(func.count(), func.max(_c.id), func.array_agg(_c.ends_at)).where(_c.organization == organization)
        newest = select(func.max(price_books.c.version)).scalar_subquery()
        count, last, ends, version = (await tx.execute(own.add_columns(newest))).one()
        return (version, count, last, tuple(sorted(map(str, ends or ()))))

    async def credit_due(self, tx: Tx, now: datetime) -> list[tuple[ContractTerms, int | None, bool]]:
        """Contracts whose credit limit is to be given (True) or taken back (False), with what was there before."""
        begun = and_(_c.credit_applied_at.is_(None), _c.starts_at <= now, or_(_c.ends_at.is_(None), _c.ends_at > now))
        over = and_(_c.credit_applied_at.is_not(None), _c.credit_lifted_at.is_(None), _c.ends_at <= now)
        wanted = select(contracts).where(_c.credit_limit_nano.is_not(None), or_(begun, over))
        rows = list(await tx.execute(wanted.order_by(_c.starts_at).with_for_update()))
        return [(_terms(row, ()), row.credit_before_nano, row.credit_applied_at is None) for row in rows]

    async def mark_credit(self, tx: Tx, id: ContractId, **values: Any) -> None:
        await tx.execute(update(contracts).where(_c.id == id).values(**values))

    async def _read(self, tx: Tx, wanted: Select[Any]) -> list[ContractTerms]:
        rows = list(await tx.execute(wanted))
        prices: dict[str, list[Price]] = {row.id: [] for row in rows}
        if rows:
            p = contract_prices.c
            for line in await tx.execute(
                select(contract_prices).where(p.contract.in_(prices)).order_by(p.contract, p.line)
            ):
                prices[line.contract].append(price_of(line))
        return [_terms(row, prices[row.id]) for row in rows]


def _values(terms: ContractTerms, created_by: str) -> dict[str, Any]:
    return {
        "id": terms.id,
        "organization": terms.organization,
        "name": terms.name,
        "currency": terms.currency,
        "starts_at": terms.starts_at,
        "ends_at": terms.ends_at,
        "cancellation": terms.cancellation.to_json(),
        "credit_limit_nano": terms.credit_limit_nano,
        "created_at": terms.created_at,
        "created_by": created_by,
    }


def _terms(row: Row[Any], prices: Sequence[Price]) -> ContractTerms:
    return ContractTerms(
        id=ContractId(row.id),
        organization=OrganizationId(row.organization),
        name=row.name,
        currency=row.currency,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        prices=tuple(prices),
        cancellation=CancellationTerms.from_json(row.cancellation),
        credit_limit_nano=row.credit_limit_nano,
        created_at=row.created_at,
    )
