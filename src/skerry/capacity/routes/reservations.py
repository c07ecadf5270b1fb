"""`/reservations`: hold, buy, let go, look."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from skerry.capacity.model import ReservationStatus
from skerry.capacity.routes.refusals import with_quote
from skerry.capacity.schemas.fields import Ref
from skerry.capacity.schemas.reservations import DeliveryOut, EstimateOut, ReservationIn, ReservationOut
from skerry.capacity.service import Capacity
from skerry.capacity.store.reservations import ReservationFilter
from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.identity.schemas.base import Listing, Paging

DryRun = Annotated[bool, Query(description="Answer with what it would cost, and change nothing.")]


def add(routes: APIRouter, capacity: Capacity, access: Access) -> None:
    _add_changing(routes, capacity, access)
    _add_looking(routes, capacity, access)


def _add_changing(routes: APIRouter, capacity: Capacity, access: Access) -> None:
    Writer = Annotated[Principal, Depends(access.project(Scope.WRITE))]

    @routes.post("/reservations", status_code=201, response_model=ReservationOut | EstimateOut)
    async def create_reservation(
        principal: Writer, body: ReservationIn, response: Response, dry_run: DryRun = False
    ) -> ReservationOut | EstimateOut:
        """Hold an offer, or buy it at once. An offer that lapsed or was taken: 409 with a fresh quote in `quote`."""
        new = body.to_new()
        if dry_run:
            response.status_code = 200
            quoted = await capacity.reservations.estimate(principal.project_id, new)
            return EstimateOut.of_offer(quoted.offer)
        with with_quote():
            return ReservationOut.of(await capacity.reservations.reserve(principal, new))

    @routes.post("/reservations/{reservation}/confirm", response_model=ReservationOut | EstimateOut)
    async def confirm_reservation(
        principal: Writer, reservation: str, dry_run: DryRun = False
    ) -> ReservationOut | EstimateOut:
        """Buy what is held: its price is set aside on what bears it (402 where that is not covered)."""
        with with_quote():
            confirmed = await capacity.reservations.confirm(principal, reservation, dry_run=dry_run)
        return EstimateOut.of_reservation(confirmed) if dry_run else ReservationOut.of(confirmed)

    @routes.delete("/reservations/{reservation}")
    async def drop_reservation(principal: Writer, reservation: str) -> ReservationOut:
        """Give a hold back. What is bought is cancelled by a change, which may cost a fee."""
        return ReservationOut.of(await capacity.reservations.drop(principal.project_id, reservation))


def _add_looking(routes: APIRouter, capacity: Capacity, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]

    @routes.get("/reservations")
    async def list_reservations(
        principal: Reader,
        page: Paging,
        status: ReservationStatus | None = None,
        sku: Ref | None = None,
        name: Ref | None = None,
    ) -> Listing[ReservationOut]:
        """Newest first."""
        wanted = ReservationFilter(status, sku, name)
        found = await capacity.reservations.list(principal.project_id, wanted, page)
        return Listing.of(found.map(ReservationOut.of))

    @routes.get("/reservations/{reservation}")
    async def get_reservation(principal: Reader, reservation: str) -> ReservationOut:
        return ReservationOut.of(await capacity.reservations.get(principal.project_id, reservation))

    @routes.get("/reservations/{reservation}/delivery")
    async def get_delivery(principal: Reader, reservation: str, page: Paging) -> DeliveryOut:
        """Promised and delivered node-seconds by site and clock hour. What was not delivered is not charged."""
        project = principal.project_id
        async with capacity.db.reading() as tx:
            found = await capacity.reservations.read(tx, project, reservation)
            rows = await capacity.deliveries.record(tx, project, found.id, page)
            total = await capacity.deliveries.total(tx, project, found.id)
        return DeliveryOut.of(found.id, total, rows)
