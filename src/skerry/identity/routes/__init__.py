"""Identity over HTTP (API §2)."""

from fastapi import APIRouter

from skerry.identity.access import Access
from skerry.identity.routes import audit, keys, members, ssh_keys, tenants
from skerry.identity.service import Identity


def router(service: Identity, access: Access) -> APIRouter:
    routes = APIRouter(tags=["identity"])
    tenants.add(routes, service, access)
    members.add(routes, service, access)
    keys.add(routes, service, access)
    ssh_keys.add(routes, service, access)
    audit.add(routes, service, access)
    return routes
