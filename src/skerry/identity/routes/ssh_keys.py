"""SSH keys."""

from typing import Annotated

from fastapi import APIRouter, Depends

from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.identity.schemas.base import Listing, Paging
from skerry.identity.service import Identity
from skerry.identity.ssh_keys.schemas import SshKeyIn, SshKeyOut


def add(routes: APIRouter, service: Identity, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]
    Writer = Annotated[Principal, Depends(access.project(Scope.WRITE))]

    @routes.get("/ssh-keys")
    async def list_ssh_keys(principal: Reader, page: Paging) -> Listing[SshKeyOut]:
        """The project's public keys."""
        return Listing.of((await service.ssh_keys.list(principal.project_id, page)).map(SshKeyOut.of))

    @routes.post("/ssh-keys", status_code=201)
    async def create_ssh_key(principal: Writer, body: SshKeyIn) -> SshKeyOut:
        """Keep a public key under a name. Private keys are refused."""
        return SshKeyOut.of(await service.ssh_keys.create(principal, body.name, body.public_key))

    @routes.get("/ssh-keys/{key}")
    async def get_ssh_key(principal: Reader, key: str) -> SshKeyOut:
        """By id, name or fingerprint."""
        return SshKeyOut.of(await service.ssh_keys.get(principal.project_id, key))

    @routes.delete("/ssh-keys/{key}")
    async def delete_ssh_key(principal: Writer, key: str) -> SshKeyOut:
        """New machines cannot name it any more; those that were made with it keep it."""
        return SshKeyOut.of(await service.ssh_keys.delete(principal, key))
