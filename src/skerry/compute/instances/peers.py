"""`GET /api/v1/node/instances/peers`: what the members of a cluster are told of each other. Node tokens only."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends

from skerry.compute.instances import rules
from skerry.compute.instances.errors import UnknownCluster
from skerry.compute.instances.host.spec import Peer, Peers
from skerry.compute.instances.service import Instances
from skerry.compute.nodes.access import NodeAccess
from skerry.compute.nodes.routes import PREFIX
from skerry.compute.nodes.tokens import NodeCaller


def router(service: Instances, access: NodeAccess) -> APIRouter:
    """Below `/api/v1`."""
    routes = APIRouter(prefix=PREFIX, include_in_schema=False)
    Caller = Annotated[NodeCaller, Depends(access.caller)]

    @routes.get("/instances/peers")
    async def list_peers(caller: Caller) -> Any:
        """Those members of the caller's own cluster that have an address by now, in the order of their numbers."""
        return msgspec.to_builtins(await peers_of(service, caller))

    return routes


async def peers_of(service: Instances, caller: NodeCaller) -> Peers:
    """Raises UnknownCluster, UnknownWorkload."""
    async with service.db.reading() as tx:
        instance = await service.store.of_workload(tx, caller.project, caller.workload)
        if instance is None:
            raise UnknownCluster("this attempt is not one of an instance or a cluster")
        workload = await service.compute.get(tx, caller.project, caller.workload)
    reports = rules.reports_of(workload.open_attempt, instance.nodes)
    named = zip(instance.hostnames, reports, strict=True)
    return Peers(
        peers=[
            Peer(index=index, name=name, address=told.address, user=told.ssh.user, host_key=instance.host_key)
            for index, (name, told) in enumerate(named)
            if told is not None and told.address
        ]
    )
