"""Planned capacity."""

from typing import Annotated

from fastapi import APIRouter, Query

from skerry.fleet.routes.reading import Paging, listing, timeline
from skerry.fleet.schemas import changes as schemas
from skerry.fleet.schemas.things import EndangeredOut, EventOut, ListOf
from skerry.fleet.service import Fleet


def add(routes: APIRouter, fleet: Fleet) -> None:
    @routes.get("/deliveries")
    async def list_deliveries(page: Paging) -> ListOf[schemas.DeliveryOut]:
        return listing(await fleet.deliveries.page(page), schemas.DeliveryOut.of)

    @routes.post("/deliveries", status_code=201)
    async def plan_delivery(body: schemas.DeliveryBody) -> schemas.DeliveryOut:
        """Nodes that are ordered: from `service_at` on they may be sold, as far as `confidence` and policy allow."""
        return schemas.DeliveryOut.of(await fleet.deliveries.plan(body.to_new()))

    @routes.get("/deliveries/{delivery}")
    async def get_delivery(delivery: str) -> schemas.DeliveryOut:
        return schemas.DeliveryOut.of(await fleet.deliveries.get(delivery))

    @routes.patch("/deliveries/{delivery}")
    async def change_delivery(delivery: str, body: schemas.DeliveryChangeBody) -> schemas.DeliveryOut:
        """A slip is a new `service_at`; `makes_late` tells whom. `accepted` before its nodes are in the fleet is 409
        `breaks_reservations` where promises stand on them, unless `force`."""
        return schemas.DeliveryOut.of(*await fleet.deliveries.change(delivery, body.to_change()))

    @routes.delete("/deliveries/{delivery}")
    async def cancel_delivery(delivery: str, force: Annotated[bool, Query()] = False) -> schemas.Cancelled:
        """It will not come. 409 `breaks_reservations` where promises stand on it, unless `force`."""
        late = await fleet.deliveries.cancel(delivery, force=force)
        return schemas.Cancelled(makes_late=[EndangeredOut.of(one) for one in late])

    @routes.get("/deliveries/{delivery}/events")
    async def list_delivery_events(delivery: str, page: Paging) -> ListOf[EventOut]:
        """The delivery's timeline, oldest first; kept when it is gone."""
        return timeline(await fleet.deliveries.events(delivery, page))
