"""Prices: read by everyone with a key, published by operators."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from skerry.billing.schemas.fields import Time
from skerry.billing.schemas.prices import PriceBookIn, PriceBookOut
from skerry.billing.service import PriceBooks
from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope


def add(routes: APIRouter, prices: PriceBooks, access: Access) -> None:
    @routes.get("/prices", response_model_exclude_none=True, dependencies=[Depends(access.require(Scope.READ))])
    async def get_prices(
        at: Annotated[Time | None, Query(description="A moment, past or to come; default now.")] = None,
    ) -> PriceBookOut:
        """The price book in force. The most specific row wins: see the docs on prices."""
        return PriceBookOut.of(await prices.price_book(at))

    Operator = Annotated[Principal, Depends(access.require(Scope.OPERATOR))]

    @routes.post("/price-books", status_code=201, response_model_exclude_none=True)
    async def publish_price_book(principal: Operator, body: PriceBookIn) -> PriceBookOut:
        """A new version of all prices, in force from `effective_from` (default now) on."""
        rows = [row.to_price() for row in body.prices]
        return PriceBookOut.of(await prices.publish_price_book(principal, rows, body.currency, body.effective_from))
