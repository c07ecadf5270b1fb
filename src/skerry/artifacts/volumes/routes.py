"""`/volumes`: room at a site. Instances, clusters and jobs attach them when they are made."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from skerry.artifacts.volumes.schemas import VolumeIn, VolumeOut
from skerry.artifacts.volumes.service import Volumes
from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.identity.schemas.base import Listing, Paging


def router(service: Volumes, access: Access) -> APIRouter:
    routes = APIRouter(tags=["volumes"])
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]
    Writer = Annotated[Principal, Depends(access.project(Scope.WRITE))]

    @routes.get("/volumes")
    async def list_volumes(
        principal: Reader, page: Paging, site: Annotated[str | None, Query(max_length=200)] = None
    ) -> Listing[VolumeOut]:
        """Newest first, home folders of instances included."""
        return Listing.of((await service.list(principal.project_id, page, site=site)).map(VolumeOut.of))

    @routes.post("/volumes", status_code=201)
    async def create_volume(principal: Writer, body: VolumeIn) -> VolumeOut:
        """Metered by byte-seconds from now on, whether it is used or not."""
        return VolumeOut.of(await service.create(principal, body.to_new()))

    @routes.get("/volumes/{volume}")
    async def get_volume(principal: Reader, volume: str) -> VolumeOut:
        """By id or name; deleted ones by id."""
        return VolumeOut.of(await service.get(principal.project_id, volume))

    @routes.delete("/volumes/{volume}")
    async def delete_volume(principal: Writer, volume: str) -> VolumeOut:
        """For good: what is in it is removed, and `wipe` says so once that is done. Refused while it is attached."""
        return VolumeOut.of(await service.delete(principal, volume))

    return routes
