"""The fleet as a whole: its file, its overview, and SKUs to start from."""

from fastapi import APIRouter

from skerry.fleet.catalogue import CATALOGUE
from skerry.fleet.routes.reading import Paging, timeline
from skerry.fleet.schemas import changes as schemas
from skerry.fleet.schemas.things import EventOut, ListOf
from skerry.fleet.service import Fleet


def add(routes: APIRouter, fleet: Fleet) -> None:
    @routes.get("/fleet")
    async def show_fleet() -> schemas.Overview:
        """What each leaf has of each SKU, in one answer."""
        return schemas.Overview(data=[schemas.LeafRow.model_validate(row) for row in await fleet.overview()])

    @routes.post("/fleet/plan")
    async def plan_fleet(body: schemas.FileBody) -> schemas.PlanOut:
        """What applying the file would change. 422 `bad_fleet_file` has every mistake with its line."""
        return schemas.PlanOut.of(await fleet.declared.plan(body.document, prune=body.prune))

    @routes.post("/fleet/apply")
    async def apply_fleet(body: schemas.FileBody) -> schemas.PlanOut:
        """Change the fleet to what the file says, all or nothing; again, it changes nothing.

        409 `sold_or_bound` where it would take away what is sold or in use."""
        return schemas.PlanOut.of(await fleet.declared.apply(body.document, prune=body.prune))

    @routes.get("/fleet/catalogue")
    async def list_catalogue() -> ListOf[schemas.CatalogueOut]:
        """SKUs ready to be used in a fleet file by their names."""
        data = [schemas.CatalogueOut.model_validate(sku) for sku in CATALOGUE]
        return ListOf(data=data, has_more=False, next_cursor=None)

    @routes.get("/fleet/events")
    async def list_fleet_events(page: Paging) -> ListOf[EventOut]:
        """Which files were applied, oldest first."""
        return timeline(await fleet.declared.events(page))
