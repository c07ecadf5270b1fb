"""The audit trail, and the timelines of what belongs to an organization rather than to a project."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.identity.routes.tenants import OrganizationRef
from skerry.identity.schemas.audit import AuditEventOut, AuditVerdictOut, TimelineEvent
from skerry.identity.schemas.base import Listing, Paging
from skerry.identity.service import Identity
from skerry.kernel.ids import MemberId


def add(routes: APIRouter, service: Identity, access: Access) -> None:
    _add_trail(routes, service, access)
    _add_timelines(routes, service, access)


def _add_trail(routes: APIRouter, service: Identity, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]

    @routes.get("/audit-events")
    async def list_audit_events(
        principal: Reader,
        page: Paging,
        organization: OrganizationRef = None,
        resource: Annotated[str | None, Query(max_length=300, description="Only events on this id.")] = None,
    ) -> Listing[AuditEventOut]:
        """Oldest first: the organization's for operators and keys of its home project, for others their project's."""
        owner, project = await service.tenants.audited(principal, organization)
        found = await service.trail.list(owner, page, project=project, resource=resource)
        return Listing.of(found.map(AuditEventOut.of))

    @routes.get("/audit-events/verify")
    async def verify_audit_events(principal: Reader, organization: OrganizationRef = None) -> AuditVerdictOut:
        """Recompute the organization's hash chain. Needs a key of its home project, or an operator's."""
        owner = await service.tenants.administered(principal, organization)
        return AuditVerdictOut.of(await service.verify_audit(owner))


def _add_timelines(routes: APIRouter, service: Identity, access: Access) -> None:
    Operator = Annotated[Principal, Depends(access.require(Scope.OPERATOR))]
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]

    @routes.get("/organizations/{organization}/events")
    async def list_organization_events(principal: Operator, organization: str, page: Paging) -> Listing[TimelineEvent]:
        owner = await service.tenants.resolve_organization(principal, organization)
        return Listing.of((await service.trail.list(owner.id, page, resource=owner.id)).map(TimelineEvent.of))

    @routes.get("/members/{id}/events")
    async def list_member_events(
        principal: Reader, id: str, page: Paging, organization: OrganizationRef = None
    ) -> Listing[TimelineEvent]:
        owner = await service.tenants.administered(principal, organization)
        member = await service.members.get(owner, MemberId(id))
        return Listing.of((await service.trail.list(owner, page, resource=member.id)).map(TimelineEvent.of))
