"""`/reservations/{id}/change-quotes` and `/changes`: what a change would cost, then the change."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends

from skerry.capacity.routes.refusals import with_quote
from skerry.capacity.schemas.reservations import ApplyIn, ChangedOut, ChangeIn, ChangeQuoteOut
from skerry.capacity.service import Capacity
from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope

_EXAMPLES = {
    "cancel": {"value": {"kind": "cancel"}},
    "extend": {"value": {"kind": "extend", "end_at": "2027-02-01T00:00:00Z"}},
    "shrink": {"value": {"kind": "shrink", "nodes": 8, "from": "2027-01-15T00:00:00Z"}},
    "move": {"value": {"kind": "move", "start_at": "2027-02-01T00:00:00Z"}},
    "split": {"value": {"kind": "split", "parts": [{"project": "research", "nodes": 4}]}},
}


def add(routes: APIRouter, capacity: Capacity, access: Access) -> None:
    Writer = Annotated[Principal, Depends(access.project(Scope.WRITE))]

    @routes.post("/reservations/{reservation}/change-quotes", status_code=201)
    async def quote_change(
        principal: Writer, reservation: str, body: Annotated[ChangeIn, Body(openapi_examples=_EXAMPLES)]
    ) -> ChangeQuoteOut:
        """What a change would cost. Nothing changes; the quote is good once, for some minutes."""
        return ChangeQuoteOut.of(await capacity.changes.quote(principal, reservation, body.to_ask()))

    @routes.post("/reservations/{reservation}/changes")
    async def change_reservation(principal: Writer, reservation: str, body: ApplyIn) -> ChangedOut:
        """Carry out a change as it was quoted. A quote that is good no longer: 409 with a fresh one in `quote`."""
        with with_quote():
            return ChangedOut.of_changed(await capacity.changes.apply(principal, reservation, body.change_quote_id))
