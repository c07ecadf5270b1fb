"""Organizations and projects: which one a request is about, and who may see and change which (README)."""

from collections.abc import Sequence

from skerry.db.database import Database, Tx
from skerry.identity.errors import (
    AmbiguousProject,
    HomeProjectRequired,
    NameTaken,
    OperatorRequired,
    UnknownProject,
)
from skerry.identity.model import (
    DEMO_ORGANIZATION,
    DEMO_PROJECT,
    OPERATOR_ORGANIZATION,
    OPERATOR_PROJECT,
    AuditEntry,
    Organization,
    Principal,
    Project,
)
from skerry.identity.store.tenants import TenantStore
from skerry.identity.trail import Trail
from skerry.kernel.clock import Clock
from skerry.kernel.errors import NotFound
from skerry.kernel.ids import IdFactory, OrganizationId, ProjectId
from skerry.kernel.paging import Page, PageRequest


class Tenants:
    def __init__(self, db: Database, clock: Clock, trail: Trail, new_id: IdFactory) -> None:
        self.db = db
        self.clock = clock
        self.trail = trail
        self.new_id = new_id
        self.store = TenantStore()

    # Which project or organization a request is about

    async def resolve_project(self, principal: Principal, ref: str | None) -> Project:
        """The project that `?project=` names: by id, name or `organization/name`.

        Operators reach all (default: `default` of `demo`), others their own alone. Raises UnknownProject,
        AmbiguousProject.
        """
        async with self.db.reading() as tx:
            return await self._resolve(tx, principal, ref)

    async def resolve_organization(self, principal: Principal, ref: str | None) -> Organization:
        """By id or name; default the one acted in. Others' organizations do not exist but for operators."""
        async with self.db.reading() as tx:
            return await self.organization_of(tx, principal, ref)

    async def administered(self, principal: Principal, ref: str | None) -> OrganizationId:
        """The organization, if the key may manage it: an operator's, or one of its home project.

        Raises HomeProjectRequired.
        """
        async with self.db.reading() as tx:
            organization = await self.organization_of(tx, principal, ref)
            await self._require_home(tx, principal)
            return organization.id

    async def audited(self, principal: Principal, ref: str | None) -> tuple[OrganizationId, ProjectId | None]:
        """Whose trail the key may read: the whole organization's (None), or that of one project in it."""
        async with self.db.reading() as tx:
            organization = await self.organization_of(tx, principal, ref)
            return organization.id, None if await self.is_home(tx, principal) else principal.project_id

    async def get_project(self, tx: Tx, project: ProjectId) -> Project:
        """Raises UnknownProject."""
        found = await self.store.project(tx, project)
        if found is None:
            raise _no_project(project)
        return found

    async def platform(self, tx: Tx) -> Project:
        """`platform` of `operator`. Raises UnknownProject before the first start."""
        found = await self.store.projects_named(tx, OPERATOR_PROJECT, OPERATOR_ORGANIZATION)
        if not found:
            raise _no_project(f"{OPERATOR_ORGANIZATION}/{OPERATOR_PROJECT}")
        return found[0]

    # Organizations (operator)

    async def create_organization(self, principal: Principal, name: str) -> Organization:
        """Raises NameTaken."""
        organization = Organization(self.fresh_organization_id(), name, self.clock.now())
        async with self.db.transaction() as tx:
            if not await self.store.insert_organization(tx, organization):
                raise NameTaken(f"there is an organization {name!r} already", suggestion="Choose another name.")
            entry = AuditEntry("organization.create", organization.id, detail={"name": name})
            await self.trail.record(tx, principal, entry, organization=organization.id)
        return organization

    async def list_organizations(self, page: PageRequest) -> Page[Organization]:
        async with self.db.reading() as tx:
            return await self.store.organization_list(tx, page)

    # Projects

    async def create_project(
        self,
        principal: Principal,
        name: str,
        *,
        organization: str | None = None,
        trusted: bool = False,
        jurisdictions: Sequence[str] = (),
    ) -> Project:
        """The first project of an organization becomes its home. Raises NameTaken, HomeProjectRequired,
        OperatorRequired (for `trusted`)."""
        if trusted:
            require_operator(principal, "make a project trusted")
        async with self.db.transaction() as tx:
            owner = await self.organization_of(tx, principal, organization)
            await self._require_home(tx, principal)
            return await self.add_project(tx, principal, owner, name, trusted=trusted, jurisdictions=jurisdictions)

    async def add_project(
        self,
        tx: Tx,
        actor: Principal | None,
        owner: Organization,
        name: str,
        *,
        trusted: bool,
        jurisdictions: Sequence[str] = (),
    ) -> Project:
        """The part of `create_project` below its rules."""
        await self.store.lock_organization(tx, owner.id)
        project = Project(
            id=ProjectId(self.new_id("proj")),
            organization_id=owner.id,
            organization=owner.name,
            name=name,
            trusted=trusted,
            jurisdictions=tuple(jurisdictions),
            home=not await self.store.has_projects(tx, owner.id),
            created_at=self.clock.now(),
        )
        if not await self.store.insert_project(tx, project):
            raise NameTaken(f"there is a project {name!r} in {owner.name} already", suggestion="Choose another name.")
        await self.trail.note(
            tx,
            actor,
            project.organization_id,
            project.id,
            "project",
            project.id,
            "create",
            {"name": name, "trusted": trusted},
        )
        return project

    async def list_projects(self, principal: Principal, organization: str | None, page: PageRequest) -> Page[Project]:
        """Operators: all, or one organization's; a home project's key: its organization's; others: their own."""
        async with self.db.reading() as tx:
            if principal.operator and organization is None:
                return await self.store.project_list(tx, page, None)
            owner = await self.organization_of(tx, principal, organization)
            only = None if await self.is_home(tx, principal) else principal.project_id
            return await self.store.project_list(tx, page, owner.id, only)

    async def find_project(self, principal: Principal, ref: str) -> Project:
        """A project the key may see, by id or name. Raises UnknownProject."""
        async with self.db.reading() as tx:
            return await self.visible(tx, principal, ref)

    async def default_project(self, tx: Tx) -> Project:
        """`default` of `demo`."""
        found = await self.store.projects_named(tx, DEMO_PROJECT, DEMO_ORGANIZATION)
        if not found:
            raise _no_project(f"{DEMO_ORGANIZATION}/{DEMO_PROJECT}")
        return found[0]

    def fresh_organization_id(self) -> OrganizationId:
        return OrganizationId(self.new_id("org"))

    # Helpers

    async def _resolve(self, tx: Tx, principal: Principal, ref: str | None) -> Project:
        if not principal.operator:
            own = await self.get_project(tx, principal.project_id)
            if ref is None or ref in (own.id, own.name, f"{own.organization}/{own.name}"):
                return own
            raise _no_project(ref)
        if ref is None:
            organization, name = DEMO_ORGANIZATION, DEMO_PROJECT
        elif ref.startswith("proj_"):
            return await self.get_project(tx, ProjectId(ref))
        else:
            organization, _, name = ref.rpartition("/")
        found = await self.store.projects_named(tx, name, organization or None)
        if not found:
            raise _no_project(ref or f"{organization}/{name}")
        if len(found) > 1:
            raise AmbiguousProject(
                f"several organizations have a project {name!r}", suggestion="Name it as ORGANIZATION/PROJECT."
            )
        return found[0]

    async def organization_of(self, tx: Tx, principal: Principal, ref: str | None) -> Organization:
        found = await self.store.organization(tx, ref or principal.organization_id)
        if found is None or (found.id != principal.organization_id and not principal.operator):
            raise NotFound(f"there is no organization {ref!r}", code="unknown_organization")
        return found

    async def is_home(self, tx: Tx, principal: Principal) -> bool:
        return principal.operator or (await self.get_project(tx, principal.project_id)).home

    async def _require_home(self, tx: Tx, principal: Principal) -> None:
        if not await self.is_home(tx, principal):
            raise HomeProjectRequired(
                "this key's project does not manage its organization",
                suggestion="Use a key of the organization's home project (its first), or ask your operator.",
            )

    async def visible(self, tx: Tx, principal: Principal, ref: str) -> Project:
        """Raises UnknownProject."""
        if principal.operator:
            return await self._resolve(tx, principal, ref)
        own = await self.get_project(tx, principal.project_id)
        if ref in (own.id, own.name):
            return own
        if own.home:
            found = await self.store.project(tx, ProjectId(ref))
            named = await self.store.projects_named(tx, ref, own.organization_id)
            for project in ([found] if found else []) + named:
                if project.organization_id == own.organization_id:
                    return project
        raise _no_project(ref)


def require_operator(principal: Principal, what: str) -> None:
    if not principal.operator:
        raise OperatorRequired(f"only an operator key can {what}", suggestion="Ask your operator.")


def _no_project(ref: str) -> UnknownProject:
    return UnknownProject(f"there is no project {ref!r}", suggestion="GET /api/v1/projects lists yours.")
