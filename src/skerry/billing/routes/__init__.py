"""Billing over HTTP (API §2 budgets, §9 prices and contracts)."""

from fastapi import APIRouter

from skerry.billing.routes import budgets, contracts, prices
from skerry.billing.service import Billing
from skerry.identity.access import Access


def router(service: Billing, access: Access) -> APIRouter:
    routes = APIRouter(tags=["billing"])
    prices.add(routes, service.prices, access)
    contracts.add(routes, service.contracts, service.reserved, access)
    budgets.add(routes, service.budgets, access)
    return routes
