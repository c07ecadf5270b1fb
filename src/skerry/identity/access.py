"""The door: FastAPI dependencies that let a request in, or say why not."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated

from fastapi import Query, Request

from skerry.identity.model import Principal, Scope
from skerry.identity.rules import bearer_token, require_scopes
from skerry.identity.service import Identity

Gate = Callable[..., Awaitable[Principal]]

ProjectRef = Annotated[
    str | None,
    Query(
        max_length=300, description="Project to act on, by id, name or organization/name (operators; default demo's)."
    ),
]


class Access:
    """Routes write `Depends(access.project(Scope.READ))` and get a `Principal` that may do it.

    Errors: 401 missing_key, unknown_key, expired_key, revoked_key; 403 missing_scope; 404 unknown_project.
    """

    def __init__(self, identity: Identity) -> None:
        self.identity = identity

    def require(self, *scopes: Scope) -> Gate:
        """A key that has all of the scopes; the principal is in the key's own project."""

        async def gate(request: Request) -> Principal:
            principal = await self.principal(request)
            require_scopes(principal.scopes, scopes)
            return principal

        return gate

    def project(self, *scopes: Scope) -> Gate:
        """The same, and the principal is in the project that `?project=` names."""

        async def gate(request: Request, project: ProjectRef = None) -> Principal:
            principal = await self.principal(request)
            require_scopes(principal.scopes, scopes)
            return await self.within(principal, project)

        return gate

    async def principal(self, request: Request) -> Principal:
        """Whose key the request carries; asked of the database once a request."""
        state = request.state
        known: Principal | None = getattr(state, "principal", None)
        if known is None:
            found = await self.identity.authenticate(bearer_token(request.headers.get("authorization")))
            known = replace(found, origin=getattr(state, "origin", ""), request_id=getattr(state, "request_id", ""))
            state.principal = known
        return known

    async def within(self, principal: Principal, ref: str | None) -> Principal:
        """The principal, in the project named."""
        project = await self.identity.tenants.resolve_project(principal, ref)
        return replace(principal, project_id=project.id, organization_id=project.organization_id)
