"""Accounts: whose spending is limited to what."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, insert, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from skerry.billing.model import Account, AccountKind, BudgetWindow, Target, TargetKind
from skerry.billing.tables import balance_accounts
from skerry.db.database import Tx
from skerry.kernel.ids import KeyId, OrganizationId, ProjectId
from skerry.kernel.paging import Page, PageRequest

_c = balance_accounts.c


class AccountStore:
    async def insert(self, tx: Tx, account: Account, created_by: str) -> None:
        await tx.execute(insert(balance_accounts).values(_values(account, created_by)))

    async def insert_single(self, tx: Tx, account: Account, created_by: str) -> None:
        """Insert a key's limit or an organization's credit limit, unless there is one."""
        single = upsert(balance_accounts).on_conflict_do_nothing(
            index_elements=[_c.kind, _c.target_id], index_where=text("kind <> 'budget' AND deleted_at IS NULL")
        )
        await tx.execute(single.values(_values(account, created_by)))

    async def find(self, tx: Tx, id: str) -> Account | None:
        """For the ledger, which knows accounts by id and acts for all projects."""
        return await self._one(tx, _c.id == id)

    async def find_many(self, tx: Tx, ids: Sequence[str]) -> dict[str, Account]:
        """Deleted ones included: what they paid for is still booked."""
        rows = await tx.execute(select(balance_accounts).where(_c.id.in_(ids)))
        return {row.id: _account(row) for row in rows}

    async def find_single(self, tx: Tx, kind: AccountKind, target_id: str) -> Account | None:
        return await self._one(tx, and_(_c.kind == kind.value, _c.target_id == target_id))

    async def get(self, tx: Tx, project: ProjectId, organization: OrganizationId, id: str) -> Account | None:
        """An account of the project, or of its organization."""
        return await self._one(tx, and_(_c.id == id, _visible(project, organization)))

    async def page(
        self, tx: Tx, project: ProjectId, organization: OrganizationId, request: PageRequest
    ) -> Page[Account]:
        query = select(balance_accounts).where(_c.deleted_at.is_(None), _visible(project, organization))
        if request.after is not None:
            query = query.where(_c.id > request.after[0])
        rows = await tx.execute(query.order_by(_c.id).limit(request.limit + 1))
        return Page.cut([_account(row) for row in rows], request, lambda account: (account.id,))

    async def bearing(self, tx: Tx, organization: OrganizationId, project: ProjectId, key: KeyId) -> list[Account]:
        """The accounts that bear the requests of a key."""
        targets = ((TargetKind.KEY, key), (TargetKind.PROJECT, project), (TargetKind.ORGANIZATION, organization))
        theirs = or_(*(and_(_c.target_kind == kind.value, _c.target_id == id) for kind, id in targets))
        return await self._all(tx, theirs)

    async def live(self, tx: Tx) -> list[Account]:
        """All accounts of all projects, for gateways."""
        return await self._all(tx, _c.id.is_not(None))

    async def update(self, tx: Tx, id: str, now: datetime, **values: Any) -> None:
        await tx.execute(update(balance_accounts).where(_c.id == id).values(updated_at=now, **values))

    async def _one(self, tx: Tx, which: ColumnElement[bool]) -> Account | None:
        row = (await tx.execute(select(balance_accounts).where(which, _c.deleted_at.is_(None)))).one_or_none()
        return _account(row) if row else None

    async def _all(self, tx: Tx, which: ColumnElement[bool]) -> list[Account]:
        rows = await tx.execute(select(balance_accounts).where(which, _c.deleted_at.is_(None)).order_by(_c.id))
        return [_account(row) for row in rows]


def shares_to_json(shares: Sequence[Decimal]) -> list[str]:
    return [str(share) for share in shares]


def shares_from_json(values: Sequence[str]) -> tuple[Decimal, ...]:
    return tuple(map(Decimal, values))


def _visible(project: ProjectId, organization: OrganizationId) -> ColumnElement[bool]:
    return or_(_c.project == project, _c.organization == organization)


def _values(account: Account, created_by: str) -> dict[str, Any]:
    return {
        "id": account.id,
        "kind": account.kind.value,
        "target_kind": account.target.kind.value,
        "target_id": account.target.id,
        "organization": account.organization,
        "project": account.project,
        "window_kind": account.window.value,
        "limit_nano": account.limit_nano,
        "currency": account.currency,
        "alert_at": shares_to_json(account.alert_at),
        "created_at": account.created_at,
        "created_by": created_by,
        "updated_at": account.created_at,
    }


def _account(row: Row[Any]) -> Account:
    return Account(
        id=row.id,
        kind=AccountKind(row.kind),
        target=Target(TargetKind(row.target_kind), row.target_id),
        project=row.project,
        organization=row.organization,
        window=BudgetWindow(row.window_kind),
        limit_nano=row.limit_nano,
        currency=row.currency,
        alert_at=shares_from_json(row.alert_at),
        created_at=row.created_at,
    )
