"""The fleet over HTTP: one router of four modules. Operator scope throughout."""

from fastapi import APIRouter, Depends

from skerry.fleet.routes import declared, deliveries, reading, upkeep
from skerry.fleet.service import Fleet
from skerry.identity.access import Access
from skerry.identity.model import Scope

__all__ = ["router"]


def router(fleet: Fleet, access: Access) -> APIRouter:
    routes = APIRouter(tags=["fleet"], dependencies=[Depends(access.require(Scope.OPERATOR))])
    reading.add(routes, fleet)
    upkeep.add(routes, fleet)
    deliveries.add(routes, fleet)
    declared.add(routes, fleet)
    return routes
