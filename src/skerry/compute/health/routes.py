"""The health of nodes over HTTP. Operator scope throughout."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from skerry.compute.health import schemas
from skerry.compute.health.model import OPEN, RemediationStatus
from skerry.compute.health.service import Health
from skerry.fleet.routes.reading import Paging, listing, timeline
from skerry.fleet.schemas.things import EventOut, ListOf
from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope


def router(health: Health, access: Access) -> APIRouter:
    routes = APIRouter(tags=["health"], dependencies=[Depends(access.require(Scope.OPERATOR))])
    _add_signals(routes, health)
    _add_remediations(routes, health)
    _add_decisions(routes, health, access)
    return routes


def _add_signals(routes: APIRouter, health: Health) -> None:
    @routes.get("/health/signals")
    async def list_signals(
        page: Paging, node: Annotated[str | None, Query(max_length=100)] = None
    ) -> ListOf[schemas.SignalOut]:
        """What was noticed on the nodes, newest first; kept for 30 days."""
        return listing(await health.signals(node, page), schemas.SignalOut.of)

    @routes.post("/nodes/{node}/run-check", status_code=201)
    async def run_node_check(node: str, body: schemas.CheckRequest) -> schemas.CheckRun:
        """Have a node checked as soon as it is idle. What it finds is in the node's `health` and among its checks."""
        return schemas.CheckRun.of(await health.check(node, body.check, body.peer))


def _add_remediations(routes: APIRouter, health: Health) -> None:
    @routes.get("/health/remediations")
    async def list_remediations(
        page: Paging, status: RemediationStatus | None = None, open: bool = False
    ) -> ListOf[schemas.RemediationOut]:
        """Nodes that are or were not well, newest first; `open`: only those that are not well now."""
        wanted = OPEN if open else (status,) if status is not None else ()
        return listing(await health.remediations(wanted, page), schemas.RemediationOut.of)

    @routes.get("/health/remediations/{remediation}")
    async def get_remediation(remediation: str) -> schemas.RemediationOut:
        return schemas.RemediationOut.of(await health.remediation(remediation))

    @routes.get("/health/remediations/{remediation}/events")
    async def list_remediation_events(remediation: str, page: Paging) -> ListOf[EventOut]:
        """Its timeline, oldest first."""
        return timeline(await health.events(remediation, page))


def _add_decisions(routes: APIRouter, health: Health, access: Access) -> None:
    Operator = Annotated[Principal, Depends(access.require(Scope.OPERATOR))]

    @routes.post("/health/remediations/{remediation}/approve")
    async def approve_remediation(principal: Operator, remediation: str) -> schemas.RemediationOut:
        """Do it as soon as the node is empty."""
        return schemas.RemediationOut.of(await health.approve(remediation, principal.key_id))

    @routes.post("/health/remediations/{remediation}/reject")
    async def reject_remediation(principal: Operator, remediation: str) -> schemas.RemediationOut:
        """The node is well: it takes work again, and what was noticed so far counts no longer."""
        return schemas.RemediationOut.of(await health.reject(remediation, principal.key_id))

    @routes.post("/health/remediations/{remediation}/mended")
    async def mended_remediation(principal: Operator, remediation: str) -> schemas.RemediationOut:
        """It was done by hand: a burn-in follows, and the node takes work again if it passes."""
        return schemas.RemediationOut.of(await health.mended(remediation, principal.key_id))
