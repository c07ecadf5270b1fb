"""Working on nodes: verbs, health checks, maintenance."""

from fastapi import APIRouter

from skerry.fleet.routes.reading import Paging, listing, timeline
from skerry.fleet.rules.nodes import NodeVerb
from skerry.fleet.schemas import changes as schemas
from skerry.fleet.schemas.things import EventOut, ListOf
from skerry.fleet.service import Fleet


def add(routes: APIRouter, fleet: Fleet) -> None:
    _add_nodes(routes, fleet)
    _add_checks(routes, fleet)
    _add_maintenance(routes, fleet)


def _add_nodes(routes: APIRouter, fleet: Fleet) -> None:
    for verb in NodeVerb:
        _add_verb(routes, fleet, verb)

    @routes.get("/nodes/{node}/events")
    async def list_node_events(node: str, page: Paging) -> ListOf[EventOut]:
        """The node's timeline, oldest first; kept when it is gone."""
        return timeline(await fleet.upkeep.events(node, page))


def _add_verb(routes: APIRouter, fleet: Fleet, verb: NodeVerb) -> None:
    async def move_node(node: str, body: schemas.NodeVerbBody) -> schemas.MovedNode:
        """409 `breaks_reservations` names confirmed reservations that it would leave short; `force` does it anyway."""
        return schemas.MovedNode.moved(*await fleet.upkeep.move(node, body.to_wish(verb)))

    name = f"{verb}_node"
    routes.add_api_route(f"/nodes/{{node}}/{verb}", move_node, methods=["POST"], name=name, operation_id=name)


def _add_checks(routes: APIRouter, fleet: Fleet) -> None:
    @routes.get("/nodes/{node}/checks")
    async def list_node_checks(node: str, page: Paging) -> ListOf[schemas.CheckOut]:
        """Newest first; kept for 30 days. The last of each kind is in the node's `health`."""
        return listing(await fleet.upkeep.checks(node, page), schemas.CheckOut.model_validate)

    @routes.post("/nodes/{node}/checks", status_code=201)
    async def add_node_check(node: str, body: schemas.CheckBody) -> schemas.CheckOut:
        """A record of what a check found. It changes no status."""
        check = await fleet.upkeep.check(node, body.check, body.at, ok=body.ok, detail=body.detail)
        return schemas.CheckOut.model_validate(check)


def _add_maintenance(routes: APIRouter, fleet: Fleet) -> None:
    @routes.get("/maintenance")
    async def list_maintenance(page: Paging, leaf: str | None = None) -> ListOf[schemas.MaintenanceOut]:
        return listing(await fleet.upkeep.windows(page, leaf), schemas.MaintenanceOut.model_validate)

    @routes.post("/maintenance", status_code=201)
    async def plan_maintenance(body: schemas.MaintenanceBody) -> schemas.PlannedMaintenance:
        """Take a count of nodes out of a leaf for a window. 409 `breaks_reservations` unless `force`."""
        return schemas.PlannedMaintenance.planned(*await fleet.upkeep.plan(body.to_wish()))

    @routes.get("/maintenance/{maintenance}")
    async def get_maintenance(maintenance: str) -> schemas.MaintenanceOut:
        return schemas.MaintenanceOut.model_validate(await fleet.upkeep.window(maintenance))

    @routes.delete("/maintenance/{maintenance}")
    async def call_off_maintenance(maintenance: str) -> schemas.MaintenanceOut:
        """One that has not begun is gone; one that has ends now."""
        return schemas.MaintenanceOut.model_validate(await fleet.upkeep.call_off(maintenance))
