"""Rows of organizations, projects, users and members."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, select
from sqlalchemy.dialects.postgresql import insert

from skerry.db.database import Tx
from skerry.identity.model import Member, Organization, OrganizationTier, Project, RateLimits, Role
from skerry.identity.tables import members, organizations, projects, users
from skerry.kernel.ids import MemberId, OrganizationId, ProjectId, UserId
from skerry.kernel.paging import Page, PageRequest

_PROJECTS = select(projects, organizations.c.name.label("organization")).join(organizations)
_MEMBERS = select(members, users.c.email).join(users)


class TenantStore:
    """Ids sort by time, so that they are the order of lists and the cursor too."""

    async def insert_organization(self, tx: Tx, organization: Organization) -> bool:
        """False where the name is taken."""
        values = {"id": organization.id, "name": organization.name, "created_at": organization.created_at}
        return await insert_row(tx, organizations, values)

    async def organization(self, tx: Tx, ref: str) -> Organization | None:
        """By id or name."""
        found = (organizations.c.id == ref) | (organizations.c.name == ref)
        row = (await tx.execute(select(organizations).where(found))).one_or_none()
        return _organization(row) if row else None

    async def organization_list(self, tx: Tx, page: PageRequest) -> Page[Organization]:
        rows = await read_page(tx, select(organizations), organizations.c.id, page)
        return Page.cut([_organization(row) for row in rows], page, lambda o: (o.id,))

    async def update_organization(self, tx: Tx, organization: OrganizationId, values: Mapping[str, Any]) -> None:
        await tx.execute(organizations.update().where(organizations.c.id == organization).values(**values))

    async def lock_organization(self, tx: Tx, organization: OrganizationId) -> None:
        """Holds back other changes of its projects' and members' number until the transaction ends."""
        await tx.execute(select(organizations.c.id).where(organizations.c.id == organization).with_for_update())

    async def insert_project(self, tx: Tx, project: Project) -> bool:
        """False where the organization has one of that name."""
        values = {
            "id": project.id,
            "organization_id": project.organization_id,
            "name": project.name,
            "trusted": project.trusted,
            "jurisdictions": list(project.jurisdictions),
            "home": project.home,
            "created_at": project.created_at,
        }
        return await insert_row(tx, projects, values)

    async def project(self, tx: Tx, project: ProjectId) -> Project | None:
        row = (await tx.execute(_PROJECTS.where(projects.c.id == project))).one_or_none()
        return _project(row) if row else None

    async def projects_named(self, tx: Tx, name: str, organization: str | None = None) -> list[Project]:
        """All of that name, in one organization (by name or id) or in any."""
        query = _PROJECTS.where(projects.c.name == name)
        if organization is not None:
            query = query.where((organizations.c.name == organization) | (organizations.c.id == organization))
        return [_project(row) for row in await tx.execute(query.order_by(projects.c.id).limit(2))]

    async def project_list(
        self, tx: Tx, page: PageRequest, organization: OrganizationId | None, only: ProjectId | None = None
    ) -> Page[Project]:
        """Projects of one organization, or of all (None); `only`: at most this one."""
        query = _PROJECTS
        if organization is not None:
            query = query.where(projects.c.organization_id == organization)
        if only is not None:
            query = query.where(projects.c.id == only)
        rows = await read_page(tx, query, projects.c.id, page)
        return Page.cut([_project(row) for row in rows], page, lambda p: (p.id,))

    async def has_projects(self, tx: Tx, organization: OrganizationId) -> bool:
        query = select(projects.c.id).where(projects.c.organization_id == organization).limit(1)
        return (await tx.execute(query)).first() is not None

    async def home_project(self, tx: Tx, organization: OrganizationId) -> ProjectId | None:
        query = select(projects.c.id).where(projects.c.organization_id == organization, projects.c.home)
        found = (await tx.execute(query)).scalar_one_or_none()
        return None if found is None else ProjectId(found)

    async def update_project(self, tx: Tx, project: ProjectId, values: Mapping[str, Any]) -> None:
        await tx.execute(projects.update().where(projects.c.id == project).values(**values))

    async def project_names(self, tx: Tx, ids: set[ProjectId]) -> dict[ProjectId, str]:
        rows = await tx.execute(select(projects.c.id, projects.c.name).where(projects.c.id.in_(ids)))
        return {ProjectId(row.id): row.name for row in rows}

    async def user_by_email(self, tx: Tx, candidate: UserId, email: str, at: datetime) -> UserId:
        """The user of that address, made with the candidate id where there is none."""
        await insert_row(tx, users, {"id": candidate, "email": email, "created_at": at})
        row = (await tx.execute(select(users.c.id).where(users.c.email == email))).one()
        return UserId(row.id)

    async def insert_member(self, tx: Tx, member: Member) -> bool:
        """False where the user is a member already."""
        values = {
            "id": member.id,
            "organization_id": member.organization_id,
            "user_id": member.user_id,
            "role": str(member.role),
            "created_at": member.created_at,
        }
        return await insert_row(tx, members, values)

    async def member(self, tx: Tx, organization: OrganizationId, member: MemberId) -> Member | None:
        query = _MEMBERS.where(members.c.organization_id == organization, members.c.id == member)
        row = (await tx.execute(query)).one_or_none()
        return _member(row) if row else None

    async def member_list(self, tx: Tx, organization: OrganizationId, page: PageRequest) -> Page[Member]:
        query = _MEMBERS.where(members.c.organization_id == organization)
        rows = await read_page(tx, query, members.c.id, page)
        return Page.cut([_member(row) for row in rows], page, lambda m: (m.id,))

    async def count_owners(self, tx: Tx, organization: OrganizationId) -> int:
        mine = (members.c.organization_id == organization) & (members.c.role == str(Role.OWNER))
        return (await tx.execute(select(func.count()).select_from(members).where(mine))).scalar_one()

    async def update_member(self, tx: Tx, organization: OrganizationId, member: MemberId, role: Role) -> None:
        mine = (members.c.organization_id == organization) & (members.c.id == member)
        await tx.execute(members.update().where(mine).values(role=str(role)))

    async def delete_member(self, tx: Tx, organization: OrganizationId, member: MemberId) -> None:
        mine = (members.c.organization_id == organization) & (members.c.id == member)
        await tx.execute(members.delete().where(mine))


async def insert_row(tx: Tx, table: Any, values: Mapping[str, Any]) -> bool:
    """False where a row with the same unique values is there."""
    statement = insert(table).values(**values).on_conflict_do_nothing().returning(table.c.id)
    return (await tx.execute(statement)).first() is not None


async def read_page(tx: Tx, query: Select[Any], key: Any, page: PageRequest) -> list[Row[Any]]:
    """The rows after the cursor in order of `key`, and one too many."""
    if page.after:
        query = query.where(key > page.after[0])
    return list(await tx.execute(query.order_by(key).limit(page.limit + 1)))


def _organization(row: Row[Any]) -> Organization:
    return Organization(
        OrganizationId(row.id), row.name, row.created_at, limits=_limits(row), tier=OrganizationTier(row.tier)
    )


def _project(row: Row[Any]) -> Project:
    return Project(
        id=ProjectId(row.id),
        organization_id=OrganizationId(row.organization_id),
        organization=row.organization,
        name=row.name,
        trusted=row.trusted,
        jurisdictions=tuple(row.jurisdictions),
        home=row.home,
        created_at=row.created_at,
        limits=_limits(row),
        log_content=row.log_content,
    )


def _limits(row: Row[Any]) -> RateLimits:
    return RateLimits(row.requests_per_minute, row.tokens_per_minute, row.concurrent_requests)


def _member(row: Row[Any]) -> Member:
    return Member(
        id=MemberId(row.id),
        organization_id=OrganizationId(row.organization_id),
        user_id=UserId(row.user_id),
        email=row.email,
        role=Role(row.role),
        created_at=row.created_at,
    )
