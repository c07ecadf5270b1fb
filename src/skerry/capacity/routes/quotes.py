"""`/capacity/availability` and `/quotes`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from skerry.capacity.schemas.fields import Ref, Second
from skerry.capacity.schemas.quotes import AvailabilityOut, QuoteIn, QuoteOut
from skerry.capacity.service import Capacity
from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope


def add(routes: APIRouter, capacity: Capacity, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]
    Writer = Annotated[Principal, Depends(access.project(Scope.WRITE))]

    @routes.get("/capacity/availability")
    async def get_availability(
        principal: Reader,
        sku: Annotated[Ref | None, Query(description="A SKU's name or id; all where left out.")] = None,
        site: Annotated[Ref | None, Query(description="A site's name or id; all where left out.")] = None,
        start: Annotated[Second | None, Query(alias="from", description="Default: now.")] = None,
        end: Annotated[Second | None, Query(alias="to", description="Default: 30 days later.")] = None,
    ) -> AvailabilityOut:
        """How many nodes are free when: a schedule for each SKU and site. A picture of this moment, not a promise."""
        return AvailabilityOut.of(await capacity.availability.of(principal, sku, site, start, end))

    @routes.post("/quotes", status_code=201)
    async def create_quote(principal: Writer, body: QuoteIn) -> QuoteOut:
        """Priced offers for what is asked. Nothing is kept: reserve an offer for that. Without any offer
        `no_offer_reason` says why; what can never be is 422."""
        return QuoteOut.of(await capacity.quotes.create(principal, body.to_ask()))

    @routes.get("/quotes/{quote}")
    async def get_quote(principal: Reader, quote: str) -> QuoteOut:
        """As it was answered; kept for a week."""
        return QuoteOut.of(await capacity.quotes.get(principal.project_id, quote))
