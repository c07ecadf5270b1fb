"""Service accounts: a name in a project that keys can belong to, and that takes them with it."""

from skerry.db.database import Database, Tx
from skerry.identity.errors import NameTaken
from skerry.identity.keys import Keys
from skerry.identity.model import Principal, ServiceAccount
from skerry.identity.store.accounts import AccountStore
from skerry.identity.trail import Trail
from skerry.kernel.clock import Clock
from skerry.kernel.ids import IdFactory, ProjectId, ServiceAccountId
from skerry.kernel.paging import Page, PageRequest


class ServiceAccounts:
    def __init__(self, db: Database, clock: Clock, keys: Keys, trail: Trail, new_id: IdFactory) -> None:
        self.db = db
        self.clock = clock
        self.keys = keys
        self.trail = trail
        self.new_id = new_id
        self.store = AccountStore()

    async def create(self, principal: Principal, name: str) -> ServiceAccount:
        """Raises NameTaken."""
        account_id = ServiceAccountId(self.new_id("sa"))
        account = ServiceAccount(account_id, principal.project_id, name, self.clock.now())
        async with self.db.transaction() as tx:
            if not await self.store.insert(tx, account):
                raise NameTaken(f"there is a service account {name!r} already", suggestion="Choose another name.")
            await self._note(tx, principal, account, "create")
        return account

    async def list(self, project: ProjectId, page: PageRequest) -> Page[ServiceAccount]:
        async with self.db.reading() as tx:
            return await self.store.list(tx, project, page)

    async def get(self, project: ProjectId, account: ServiceAccountId) -> ServiceAccount:
        """Raises NotFound."""
        async with self.db.reading() as tx:
            return await self.store.get(tx, project, account)

    async def delete(self, principal: Principal, account_id: ServiceAccountId) -> ServiceAccount:
        """Its keys are revoked with it. Raises NotFound, OperatorRequired."""
        async with self.db.transaction() as tx:
            account = await self.store.require(tx, principal.project_id, account_id)
            await self.keys.revoke_all_of(tx, principal, account_id)
            await self.store.delete(tx, principal.project_id, account_id, self.clock.now())
            await self._note(tx, principal, account, "delete")
        return account

    async def _note(self, tx: Tx, principal: Principal, account: ServiceAccount, verb: str) -> None:
        await self.trail.note(
            tx,
            principal,
            principal.organization_id,
            account.project_id,
            "service_account",
            account.id,
            verb,
            {"name": account.name},
        )
