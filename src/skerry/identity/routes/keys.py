"""API keys."""

from typing import Annotated

from fastapi import APIRouter, Depends

from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.identity.schemas.base import Listing, Paging
from skerry.identity.schemas.keys import KeyBody, KeyChange, KeyOut, MintedKeyOut, RotateBody
from skerry.identity.service import Identity
from skerry.kernel.ids import KeyId, ServiceAccountId


def add(routes: APIRouter, service: Identity, access: Access) -> None:
    _add_reading(routes, service, access)
    _add_changing(routes, service, access)


def _add_reading(routes: APIRouter, service: Identity, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]

    @routes.get("/api-keys")
    async def list_keys(principal: Reader, page: Paging) -> Listing[KeyOut]:
        """The project's keys, revoked ones too, without their secrets."""
        now = service.clock.now()
        found = await service.list_keys(principal.project_id, page)
        return Listing.of(found.map(lambda key: KeyOut.of(key, now)))

    @routes.get("/api-keys/{id}")
    async def get_key(principal: Reader, id: str) -> KeyOut:
        return KeyOut.of(await service.keys.get(principal.project_id, KeyId(id)), service.clock.now())


def _add_changing(routes: APIRouter, service: Identity, access: Access) -> None:
    Writer = Annotated[Principal, Depends(access.project(Scope.WRITE))]

    @routes.post("/api-keys", status_code=201)
    async def create_key(principal: Writer, body: KeyBody) -> MintedKeyOut:
        """The answer's `key` is the secret, shown this once. A key grants at most what it has itself."""
        account = None if body.service_account is None else ServiceAccountId(body.service_account)
        minted = await service.create_key(principal, body.name, body.to_terms(), account)
        return MintedKeyOut.minted(minted.key, minted.secret, service.clock.now())

    @routes.patch("/api-keys/{id}")
    async def update_key(principal: Writer, id: str, body: KeyChange) -> KeyOut:
        key = await service.keys.update(principal, KeyId(id), body.name, body.to_changes())
        return KeyOut.of(key, service.clock.now())

    @routes.post("/api-keys/{id}/rotate")
    async def rotate_key(principal: Writer, id: str, body: RotateBody | None = None) -> MintedKeyOut:
        """A new secret for the same key; its id, usage and budget go on."""
        minted = await service.rotate_key(principal, KeyId(id), body.grace_seconds if body else 0)
        return MintedKeyOut.minted(minted.key, minted.secret, service.clock.now())

    @routes.delete("/api-keys/{id}")
    async def revoke_key(principal: Writer, id: str) -> KeyOut:
        """For good. Revoking a revoked key changes nothing."""
        return KeyOut.of(await service.revoke_key(principal, KeyId(id)), service.clock.now())
