"""A fleet with an operator, and somebody to ask what is sold."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from skerry.db.database import Database, Tx
from skerry.fleet.model import Endangered, LeafSupply, Step
from skerry.fleet.routes import router
from skerry.fleet.service import Fleet
from skerry.identity.model import Scope
from skerry.kernel.clock import FakeClock
from skerry.kernel.errors import Forbidden, SkerryError
from skerry.kernel.ids import NodeId, ProjectId, ReservationId
from skerry.runtime.events import Event

PLATFORM = ProjectId("proj_platform")


@dataclass
class Sale:
    """A reservation: `nodes` of a leaf in a window."""

    id: str
    leaf: str
    nodes: int
    start: datetime
    end: datetime


@dataclass
class Sales:
    """What capacity would answer: reservations by count, and nodes that are bound."""

    sales: list[Sale] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)
    told: list[Endangered] = field(default_factory=list)

    async def why_not(self, tx: Tx, after: Sequence[LeafSupply]) -> list[str]:
        return [f"{one.reservation} lacks {one.nodes_short} in {one.leaf_name}" for one in self._late(after)]

    async def made_late(self, tx: Tx, after: Sequence[LeafSupply]) -> list[Endangered]:
        return self._late(after)

    async def tell(self, tx: Tx, late: Sequence[Endangered]) -> None:
        self.told += late

    async def held_nodes(self, tx: Tx, nodes: Collection[NodeId]) -> Mapping[NodeId, str]:
        return {node: self.held[node] for node in nodes if node in self.held}

    def _late(self, after: Sequence[LeafSupply]) -> list[Endangered]:
        late = []
        for sale in self.sales:
            for supply in after:
                if supply.leaf_name == sale.leaf and (short := sale.nodes - least(supply.deliverable, sale)) > 0:
                    late.append(Endangered(ReservationId(sale.id), PLATFORM, sale.start, supply.leaf, sale.leaf, short))
        return late


def least(steps: Sequence[Step], sale: Sale) -> int:
    """The fewest nodes within the sale's window."""
    ends = [step.start for step in steps[1:]] + [datetime.max.replace(tzinfo=sale.end.tzinfo)]
    return min(step.nodes for step, end in zip(steps, ends, strict=True) if step.start < sale.end and end > sale.start)


@pytest.fixture
def sales() -> Sales:
    return Sales()


@pytest.fixture
def fleet(database: Database, clock: FakeClock, sales: Sales) -> Fleet:
    async def platform(tx: Tx) -> ProjectId:
        return PLATFORM

    fleet = Fleet(database, clock, platform=platform)
    fleet.ask(sales)
    return fleet


async def supplies(fleet: Fleet) -> dict[str, LeafSupply]:
    async with fleet.db.reading() as tx:
        return {one.leaf_name: one for one in await fleet.supplies(tx)}


async def events_of(fleet: Fleet, resource: str) -> list[Event]:
    async with fleet.db.reading() as tx:
        return list((await fleet.basis.events.list(tx, PLATFORM, resource)).data)


class Door:
    def __init__(self, *scopes: Scope) -> None:
        self.scopes = set(scopes)

    def require(self, *scopes: Scope):
        async def gate() -> None:
            if not set(scopes) <= self.scopes:
                raise Forbidden("operators only")

        return gate


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(router(fleet, Door(Scope.OPERATOR)), prefix="/operator")
    app.include_router(router(fleet, Door(Scope.READ)), prefix="/customer")

    async def answer(_request, error: SkerryError) -> JSONResponse:
        errors = [{"path": one.path, "code": one.code, "message": one.message} for one in error.errors]
        return JSONResponse({"code": error.code, "errors": errors, **error.extra}, status_code=error.status)

    app.add_exception_handler(SkerryError, answer)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client
