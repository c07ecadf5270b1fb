"""What the first start makes: the operator's organization and the demo's, and a key for each."""

from sqlalchemy import text

from skerry.db.database import Database, Tx
from skerry.identity.errors import NameTaken
from skerry.identity.keys import Keys
from skerry.identity.model import (
    DEMO_ORGANIZATION,
    DEMO_PROJECT,
    OPERATOR_ORGANIZATION,
    OPERATOR_PROJECT,
    Bootstrap,
    KeyTerms,
    Organization,
    Project,
    Scope,
)
from skerry.identity.tenants import Tenants

_LOCK = 0x5EC7_B007
OPERATOR_KEY_NAME = "operator"
PROJECT_KEY_NAME = "default"
PROJECT_KEY_SCOPES = frozenset({Scope.INFERENCE, Scope.READ, Scope.WRITE, Scope.BILLING})


class Bootstrapper:
    """Safe to call from several processes at once, and again on each start."""

    def __init__(self, db: Database, tenants: Tenants, keys: Keys) -> None:
        self.db = db
        self.tenants = tenants
        self.keys = keys

    async def run(self) -> Bootstrap:
        """Make what is missing. Secrets are answered only for keys that this call made."""
        async with self.db.transaction() as tx:
            platform, default = await self._projects(tx)
            operator_key = project_key = None
            if not await self.keys.store.project_has_keys(tx, platform.id):
                operator_key = await self._operator_key(tx, platform)
            if not await self.keys.store.project_has_keys(tx, default.id):
                project_key = await self._project_key(tx, default)
        return Bootstrap(operator_key, project_key)

    async def mint(self, *, operator: bool = True, project: bool = True) -> Bootstrap:
        """Fresh keys beside those that are there, for an installation whose credentials were lost."""
        async with self.db.transaction() as tx:
            platform, default = await self._projects(tx)
            operator_key = await self._operator_key(tx, platform) if operator else None
            project_key = await self._project_key(tx, default) if project else None
        return Bootstrap(operator_key, project_key)

    async def _projects(self, tx: Tx) -> tuple[Project, Project]:
        await tx.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        platform = await self._project(tx, OPERATOR_ORGANIZATION, OPERATOR_PROJECT)
        return platform, await self._project(tx, DEMO_ORGANIZATION, DEMO_PROJECT)

    async def _project(self, tx: Tx, organization: str, name: str) -> Project:
        owner = await self.tenants.store.organization(tx, organization)
        if owner is None:
            owner = Organization(self.tenants.fresh_organization_id(), organization, self.tenants.clock.now())
            if not await self.tenants.store.insert_organization(tx, owner):
                raise NameTaken(f"there is an organization {organization!r} already")
        found = await self.tenants.store.projects_named(tx, name, owner.id)
        return found[0] if found else await self.tenants.add_project(tx, None, owner, name, trusted=True)

    async def _operator_key(self, tx: Tx, project: Project) -> str:
        terms = KeyTerms(frozenset({Scope.OPERATOR}))
        minted = await self.keys.mint(tx, None, project.organization_id, project.id, OPERATOR_KEY_NAME, terms)
        return minted.secret

    async def _project_key(self, tx: Tx, project: Project) -> str:
        terms = KeyTerms(PROJECT_KEY_SCOPES)
        minted = await self.keys.mint(tx, None, project.organization_id, project.id, PROJECT_KEY_NAME, terms)
        return minted.secret
