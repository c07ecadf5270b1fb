"""Members of organizations, and service accounts of projects."""

from typing import Annotated

from fastapi import APIRouter, Depends

from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.identity.routes.tenants import OrganizationRef
from skerry.identity.schemas.base import Listing, Paging
from skerry.identity.schemas.tenants import (
    MemberBody,
    MemberChange,
    MemberOut,
    ServiceAccountBody,
    ServiceAccountOut,
)
from skerry.identity.service import Identity
from skerry.kernel.ids import MemberId, ServiceAccountId


def add(routes: APIRouter, service: Identity, access: Access) -> None:
    _add_members(routes, service, access)
    _add_service_accounts(routes, service, access)


def _add_members(routes: APIRouter, service: Identity, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]
    Writer = Annotated[Principal, Depends(access.project(Scope.WRITE))]

    @routes.get("/members")
    async def list_members(principal: Reader, page: Paging, organization: OrganizationRef = None) -> Listing[MemberOut]:
        """Needs a key of the organization's home project, or an operator's; so do all of these."""
        owner = await service.tenants.administered(principal, organization)
        return Listing.of((await service.members.list(owner, page)).map(MemberOut.of))

    @routes.post("/members", status_code=201)
    async def add_member(principal: Writer, body: MemberBody, organization: OrganizationRef = None) -> MemberOut:
        owner = await service.tenants.administered(principal, organization)
        return MemberOut.of(await service.members.add(principal, owner, body.email, body.role))

    @routes.get("/members/{id}")
    async def get_member(principal: Reader, id: str, organization: OrganizationRef = None) -> MemberOut:
        owner = await service.tenants.administered(principal, organization)
        return MemberOut.of(await service.members.get(owner, MemberId(id)))

    @routes.patch("/members/{id}")
    async def change_role(
        principal: Writer, id: str, body: MemberChange, organization: OrganizationRef = None
    ) -> MemberOut:
        owner = await service.tenants.administered(principal, organization)
        return MemberOut.of(await service.members.change_role(principal, owner, MemberId(id), body.role))

    @routes.delete("/members/{id}")
    async def remove_member(principal: Writer, id: str, organization: OrganizationRef = None) -> MemberOut:
        owner = await service.tenants.administered(principal, organization)
        return MemberOut.of(await service.members.remove(principal, owner, MemberId(id)))


def _add_service_accounts(routes: APIRouter, service: Identity, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]
    Writer = Annotated[Principal, Depends(access.project(Scope.WRITE))]

    @routes.get("/service-accounts")
    async def list_service_accounts(principal: Reader, page: Paging) -> Listing[ServiceAccountOut]:
        found = await service.accounts.list(principal.project_id, page)
        return Listing.of(found.map(ServiceAccountOut.of))

    @routes.post("/service-accounts", status_code=201)
    async def create_service_account(principal: Writer, body: ServiceAccountBody) -> ServiceAccountOut:
        return ServiceAccountOut.of(await service.accounts.create(principal, body.name))

    @routes.get("/service-accounts/{id}")
    async def get_service_account(principal: Reader, id: str) -> ServiceAccountOut:
        return ServiceAccountOut.of(await service.accounts.get(principal.project_id, ServiceAccountId(id)))

    @routes.delete("/service-accounts/{id}")
    async def delete_service_account(principal: Writer, id: str) -> ServiceAccountOut:
        """Its keys are revoked with it."""
        return ServiceAccountOut.of(await service.accounts.delete(principal, ServiceAccountId(id)))
