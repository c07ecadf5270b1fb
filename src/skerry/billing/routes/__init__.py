"""Billing over HTTP (API §2 budgets, §9 prices)."""

from fastapi import APIRouter

from skerry.billing.routes import budgets, prices
from skerry.billing.service import Billing
from skerry.identity.access import Access


def router(service: Billing, access: Access) -> APIRouter:
    routes = APIRouter(tags=["billing"])
    prices.add(routes, service.prices, access)
    budgets.add(routes, service.budgets, access)
    return routes
