"""Rows of service accounts."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, select

from skerry.db.database import Tx
from skerry.identity.model import ServiceAccount
from skerry.identity.store.tenants import insert_row, read_page
from skerry.identity.tables import service_accounts
from skerry.kernel.errors import NotFound
from skerry.kernel.ids import ProjectId, ServiceAccountId
from skerry.kernel.paging import Page, PageRequest


class AccountStore:
    """A deleted account is kept for the keys that refer to it, and no longer shown."""

    async def insert(self, tx: Tx, account: ServiceAccount) -> bool:
        """False where the project has one of that name."""
        values = {
            "id": account.id,
            "project_id": account.project_id,
            "name": account.name,
            "created_at": account.created_at,
        }
        return await insert_row(tx, service_accounts, values)

    async def require(self, tx: Tx, project: ProjectId, account: ServiceAccountId) -> ServiceAccount:
        """Held until the transaction ends, so that no key is made for one that is being deleted. Raises NotFound."""
        query = _live(project).where(service_accounts.c.id == account).with_for_update()
        return _found((await tx.execute(query)).one_or_none(), account)

    async def get(self, tx: Tx, project: ProjectId, account: ServiceAccountId) -> ServiceAccount:
        """Raises NotFound."""
        row = (await tx.execute(_live(project).where(service_accounts.c.id == account))).one_or_none()
        return _found(row, account)

    async def list(self, tx: Tx, project: ProjectId, page: PageRequest) -> Page[ServiceAccount]:
        rows = await read_page(tx, _live(project), service_accounts.c.id, page)
        return Page.cut([_account(row) for row in rows], page, lambda a: (a.id,))

    async def delete(self, tx: Tx, project: ProjectId, account: ServiceAccountId, at: datetime) -> None:
        mine = (service_accounts.c.project_id == project) & (service_accounts.c.id == account)
        await tx.execute(service_accounts.update().where(mine).values(deleted_at=at))


def _live(project: ProjectId) -> Select[Any]:
    mine = (service_accounts.c.project_id == project) & service_accounts.c.deleted_at.is_(None)
    return select(service_accounts).where(mine)


def _found(row: Row[Any] | None, account: ServiceAccountId) -> ServiceAccount:
    if row is None:
        raise NotFound(f"there is no service account {account} in this project")
    return _account(row)


def _account(row: Row[Any]) -> ServiceAccount:
    return ServiceAccount(ServiceAccountId(row.id), ProjectId(row.project_id), row.name, row.created_at)
