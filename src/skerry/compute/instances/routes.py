"""`/instances` and `/clusters`. Their `/events` come from the timeline (`server/events.py`)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from skerry.compute.instances.model import InstanceKind, InstanceStatus
from skerry.compute.instances.schemas import ClusterIn, ClusterOut, InstanceIn, InstanceOut, MachineEstimateOut
from skerry.compute.instances.service import Instances
from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.identity.schemas.base import Listing, Paging

DryRun = Annotated[bool, Query(description="Answer with what it would cost, and change nothing.")]
Status = Annotated[InstanceStatus | None, Query(description="Those in this status; terminated ones are else left out.")]


def router(service: Instances, access: Access) -> APIRouter:
    instances, clusters = APIRouter(tags=["instances"]), APIRouter(tags=["clusters"])
    _add_instances(instances, service, access)
    _add_clusters(clusters, service, access)
    both = APIRouter()
    both.include_router(instances)
    both.include_router(clusters)
    return both


def _add_instances(routes: APIRouter, service: Instances, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]
    Writer = Annotated[Principal, Depends(access.project(Scope.WRITE))]
    kind = InstanceKind.INSTANCE

    @routes.post("/instances", status_code=201, response_model=InstanceOut | MachineEstimateOut)
    async def create_instance(
        principal: Writer, body: InstanceIn, response: Response, dry_run: DryRun = False
    ) -> InstanceOut | MachineEstimateOut:
        """Starts at once, or is refused: 507 where nothing is free now. Inside a reservation it waits for its start."""
        if dry_run:
            response.status_code = 200
            return MachineEstimateOut.of(await service.estimate(principal, body.to_new()))
        return InstanceOut.of(await service.create(principal, body.to_new()))

    @routes.get("/instances")
    async def list_instances(principal: Reader, page: Paging, status: Status = None) -> Listing[InstanceOut]:
        """Newest first."""
        found = await service.list(principal.project_id, kind, page, status=status)
        return Listing.of(found.map(InstanceOut.of))

    @routes.get("/instances/{instance}")
    async def get_instance(principal: Reader, instance: str) -> InstanceOut:
        """By id or name; terminated ones by id."""
        return InstanceOut.of(await service.get(principal.project_id, kind, instance))

    @routes.post("/instances/{instance}/stop")
    async def stop_instance(principal: Writer, instance: str) -> InstanceOut:
        """Gives its accelerators back. Its home folder, its volumes and its host key are kept."""
        return InstanceOut.of(await service.stop(principal, kind, instance))

    @routes.post("/instances/{instance}/start")
    async def start_instance(principal: Writer, instance: str) -> InstanceOut:
        """With the SSH keys of its creation. It waits where nothing is free, and says so."""
        return InstanceOut.of(await service.start(principal, kind, instance))

    @routes.post("/instances/{instance}/terminate")
    async def terminate_instance(principal: Writer, instance: str) -> InstanceOut:
        """For good: its home folder goes with it, volumes that were attached stay."""
        return InstanceOut.of(await service.terminate(principal, kind, instance))


def _add_clusters(routes: APIRouter, service: Instances, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]
    Writer = Annotated[Principal, Depends(access.project(Scope.WRITE))]
    kind = InstanceKind.CLUSTER

    @routes.post("/clusters", status_code=201, response_model=ClusterOut | MachineEstimateOut)
    async def create_cluster(
        principal: Writer, body: ClusterIn, response: Response, dry_run: DryRun = False
    ) -> ClusterOut | MachineEstimateOut:
        """All of its nodes start, or none does: 507 where there are not as many free now."""
        if dry_run:
            response.status_code = 200
            return MachineEstimateOut.of(await service.estimate(principal, body.to_new()))
        return ClusterOut.of(await service.create(principal, body.to_new()))

    @routes.get("/clusters")
    async def list_clusters(principal: Reader, page: Paging, status: Status = None) -> Listing[ClusterOut]:
        """Newest first."""
        return Listing.of((await service.list(principal.project_id, kind, page, status=status)).map(ClusterOut.of))

    @routes.get("/clusters/{cluster}")
    async def get_cluster(principal: Reader, cluster: str) -> ClusterOut:
        """By id or name; terminated ones by id."""
        return ClusterOut.of(await service.get(principal.project_id, kind, cluster))

    @routes.post("/clusters/{cluster}/stop")
    async def stop_cluster(principal: Writer, cluster: str) -> ClusterOut:
        """Gives its nodes back. Its home folder, its volumes and its host key are kept."""
        return ClusterOut.of(await service.stop(principal, kind, cluster))

    @routes.post("/clusters/{cluster}/start")
    async def start_cluster(principal: Writer, cluster: str) -> ClusterOut:
        """With the SSH keys of its creation. It waits where there are not as many nodes free, and says so."""
        return ClusterOut.of(await service.start(principal, kind, cluster))

    @routes.post("/clusters/{cluster}/terminate")
    async def terminate_cluster(principal: Writer, cluster: str) -> ClusterOut:
        """For good: its home folder goes with it, volumes that were attached stay."""
        return ClusterOut.of(await service.terminate(principal, kind, cluster))
