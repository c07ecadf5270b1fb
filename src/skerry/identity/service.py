"""The face of identity for all other domains, and the parts it is made of."""

from typing import Any

from skerry.db.database import Database, Tx
from skerry.identity.accounts import ServiceAccounts
from skerry.identity.bootstrap import Bootstrapper
from skerry.identity.changes import Changes
from skerry.identity.keys import BudgetSink, Keys
from skerry.identity.members import Members
from skerry.identity.model import (
    ApiKey,
    AuditEntry,
    AuditOutcome,
    AuditVerdict,
    Bootstrap,
    KeyRecord,
    KeyTerms,
    MintedKey,
    Principal,
    Project,
)
from skerry.identity.ssh_keys.service import SshKeys
from skerry.identity.tenants import Tenants
from skerry.identity.trail import Trail
from skerry.kernel.clock import Clock
from skerry.kernel.ids import IdFactory, KeyId, OrganizationId, ProjectId, ServiceAccountId, new_id
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.events import EventLog
from skerry.runtime.secrets import Keyring

__all__ = ["BudgetSink", "Identity", "KeyRecord"]


class Identity:
    """Who someone is, what they may do, and a trail of what they did.

    Routes of identity use the parts (`tenants`, `members`, `keys`, …); other domains need only the methods here.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        keyring: Keyring,
        events: EventLog,
        *,
        budgets: BudgetSink | None = None,
        ids: IdFactory = new_id,
    ) -> None:
        self.db = db
        self.clock = clock
        self.trail = Trail(db, clock, events, ids)
        self.tenants = Tenants(db, clock, self.trail, ids)
        self.changes = Changes(self.tenants)
        self.members = Members(db, clock, self.trail, ids)
        self.keys = Keys(db, clock, keyring, self.trail, ids, budgets)
        self.ssh_keys = SshKeys(db, clock, self.trail, ids)
        self.accounts = ServiceAccounts(db, clock, self.keys, self.trail, ids)
        self.bootstrapper = Bootstrapper(db, self.tenants, self.keys)

    async def bootstrap(self) -> Bootstrap:
        """Make the organizations `operator` and `demo` and their first keys, where they are missing."""
        return await self.bootstrapper.run()

    async def authenticate(self, secret: str | None) -> Principal:
        """Raises MissingKey, UnknownKey, RevokedKey, ExpiredKey."""
        return await self.keys.authenticate(secret)

    async def resolve_project(self, principal: Principal, ref: str | None) -> ProjectId:
        """`?project=` as an id. Raises UnknownProject, AmbiguousProject."""
        return (await self.tenants.resolve_project(principal, ref)).id

    async def project(self, tx: Tx, project: ProjectId) -> Project:
        """Whether it is trusted, its jurisdictions, its organization. Raises UnknownProject."""
        return await self.tenants.get_project(tx, project)

    async def visible_project(self, tx: Tx, principal: Principal, ref: str) -> Project:
        """A project the key may see, by id or name. Raises UnknownProject."""
        return await self.tenants.visible(tx, principal, ref)

    async def platform(self, tx: Tx) -> ProjectId:
        """The operator's own project, which owns what all projects share. Raises UnknownProject before `bootstrap`."""
        return (await self.tenants.platform(tx)).id

    async def default_project(self, tx: Tx) -> Project:
        """Where an operator's key acts unless it says otherwise. Raises UnknownProject before `bootstrap`."""
        return await self.tenants.default_project(tx)

    async def home_project(self, tx: Tx, organization: OrganizationId) -> ProjectId | None:
        """The organization's first project; None where it has none yet."""
        return await self.tenants.store.home_project(tx, organization)

    async def project_names(self, tx: Tx, ids: set[ProjectId]) -> dict[ProjectId, str]:
        return await self.tenants.store.project_names(tx, ids)

    async def create_key(
        self, principal: Principal, name: str, terms: KeyTerms, service_account: ServiceAccountId | None = None
    ) -> MintedKey:
        return await self.keys.create(principal, name, terms, service_account)

    async def rotate_key(self, principal: Principal, key: KeyId, grace_seconds: int = 0) -> MintedKey:
        return await self.keys.rotate(principal, key, grace_seconds)

    async def revoke_key(self, principal: Principal, key: KeyId) -> ApiKey:
        return await self.keys.revoke(principal, key)

    async def list_keys(self, project: ProjectId, page: PageRequest) -> Page[ApiKey]:
        return await self.keys.list(project, page)

    async def key_names(self, tx: Tx, project: ProjectId, ids: set[KeyId]) -> dict[KeyId, str]:
        """Of those keys that are the project's."""
        return await self.keys.store.names(tx, project, ids)

    async def keys_called(self, tx: Tx, project: ProjectId, text: str, *, part: bool = False) -> set[KeyId]:
        """The project's keys of this name, or with it as a part of theirs in any case."""
        return await self.keys.store.called(tx, project, text, part=part)

    async def key_snapshot(self, tx: Tx, since: int = 0) -> list[KeyRecord]:
        """Keys that changed after change number `since`, for gateways. Look a secret up by `Keyring.hmacs`."""
        return list(await self.keys.snapshot(tx, since))

    async def audit(
        self,
        tx: Tx,
        principal: Principal | None,
        action: str,
        resource: str,
        *,
        outcome: AuditOutcome = AuditOutcome.DONE,
        detail: dict[str, Any] | None = None,
        organization: OrganizationId | None = None,
        project: ProjectId | None = None,
    ) -> None:
        """Append to the organization's trail; the last thing to do in a transaction (see `Trail.record`)."""
        entry = AuditEntry(action, resource, outcome, detail or {})
        await self.trail.record(tx, principal, entry, organization=organization, project=project)

    async def verify_audit(self, organization: OrganizationId) -> AuditVerdict:
        return await self.trail.verify(organization)
