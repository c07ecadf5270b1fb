"""Who am I, organizations, projects."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from skerry.identity.access import Access, ProjectRef
from skerry.identity.model import Principal, Scope
from skerry.identity.schemas.base import Listing, Paging
from skerry.identity.schemas.keys import WhoamiOut
from skerry.identity.schemas.tenants import (
    OrganizationBody,
    OrganizationChange,
    OrganizationOut,
    ProjectBody,
    ProjectChange,
    ProjectOut,
)
from skerry.identity.service import Identity

OrganizationRef = Annotated[
    str | None, Query(max_length=200, description="Organization, by id or name (operators; default the project's).")
]


def add(routes: APIRouter, service: Identity, access: Access) -> None:
    _add_whoami(routes, service, access)
    _add_organizations(routes, service, access)
    _add_projects(routes, service, access)


def _add_whoami(routes: APIRouter, service: Identity, access: Access) -> None:
    @routes.get("/whoami")
    async def whoami(
        principal: Annotated[Principal, Depends(access.require())], project: ProjectRef = None
    ) -> WhoamiOut:
        """The key in use, what it may do, and its own project or the one named. Any valid key may ask."""
        if project is not None:
            principal = await access.within(principal, project)
        async with service.db.reading() as tx:
            return WhoamiOut.of(principal, await service.project(tx, principal.project_id))


def _add_organizations(routes: APIRouter, service: Identity, access: Access) -> None:
    Operator = Annotated[Principal, Depends(access.require(Scope.OPERATOR))]

    @routes.get("/organizations")
    async def list_organizations(principal: Operator, page: Paging) -> Listing[OrganizationOut]:
        return Listing.of((await service.tenants.list_organizations(page)).map(OrganizationOut.of))

    @routes.post("/organizations", status_code=201)
    async def create_organization(principal: Operator, body: OrganizationBody) -> OrganizationOut:
        """Its first project will be its home, whose keys manage it."""
        return OrganizationOut.of(await service.tenants.create_organization(principal, body.name))

    @routes.get("/organizations/{organization}")
    async def get_organization(principal: Operator, organization: str) -> OrganizationOut:
        return OrganizationOut.of(await service.tenants.resolve_organization(principal, organization))

    @routes.patch("/organizations/{organization}")
    async def update_organization(principal: Operator, organization: str, body: OrganizationChange) -> OrganizationOut:
        """Its limits hold for all its projects together; a `free` one is slowed first when demand surges."""
        changed = await service.changes.update_organization(
            principal, organization, limits=body.to_limits(), tier=body.tier
        )
        return OrganizationOut.of(changed)


def _add_projects(routes: APIRouter, service: Identity, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]
    Writer = Annotated[Principal, Depends(access.project(Scope.WRITE))]

    @routes.get("/projects")
    async def list_projects(
        principal: Reader, page: Paging, organization: OrganizationRef = None
    ) -> Listing[ProjectOut]:
        """Operators see all; keys of a home project its organization's; other keys their own."""
        found = await service.tenants.list_projects(principal, organization, page)
        return Listing.of(found.map(ProjectOut.of))

    @routes.post("/projects", status_code=201)
    async def create_project(principal: Writer, body: ProjectBody) -> ProjectOut:
        """Needs a key of the organization's home project, or an operator's."""
        project = await service.tenants.create_project(
            principal,
            body.name,
            organization=body.organization,
            trusted=body.trusted,
            jurisdictions=body.jurisdictions or (),
        )
        return ProjectOut.of(project)

    @routes.get("/projects/{id}")
    async def get_project(principal: Reader, id: str) -> ProjectOut:
        return ProjectOut.of(await service.tenants.find_project(principal, id))

    @routes.patch("/projects/{id}")
    async def update_project(principal: Writer, id: str, body: ProjectChange) -> ProjectOut:
        """Its organization decides its limits (keys of the home project); a key of its own may lower them."""
        return ProjectOut.of(await service.changes.update_project(principal, id, body.to_changes()))
