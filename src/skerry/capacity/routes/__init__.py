"""Capacity over HTTP (API §4). `/reservations/{id}/events` comes from the timeline (`server/events.py`)."""

from fastapi import APIRouter

from skerry.capacity.routes import changes, quotes, reservations
from skerry.capacity.service import Capacity
from skerry.identity.access import Access


def router(capacity: Capacity, access: Access) -> APIRouter:
    routes = APIRouter(tags=["capacity"])
    quotes.add(routes, capacity, access)
    reservations.add(routes, capacity, access)
    changes.add(routes, capacity, access)
    return routes
