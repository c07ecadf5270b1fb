"""Reading the fleet: each thing goes by name or id."""

from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Query

from skerry.fleet.model import NodeStatus
from skerry.fleet.schemas import things as schemas
from skerry.fleet.service import Fleet
from skerry.kernel.paging import DEFAULT_LIMIT, MAX_LIMIT, Page, PageRequest
from skerry.runtime.events import Event

T = TypeVar("T")
W = TypeVar("W")


def paging(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT, after: Annotated[str | None, Query()] = None
) -> PageRequest:
    return PageRequest.parse(limit, after)


Paging = Annotated[PageRequest, Depends(paging)]


def add(routes: APIRouter, fleet: Fleet) -> None:
    _add_sites(routes, fleet)
    _add_halls_and_leaves(routes, fleet)
    _add_skus(routes, fleet)
    _add_nodes(routes, fleet)


def _add_sites(routes: APIRouter, fleet: Fleet) -> None:
    @routes.get("/sites")
    async def list_sites(page: Paging) -> schemas.ListOf[schemas.Site]:
        return listing(await fleet.sites(page), schemas.Site.of)

    @routes.get("/sites/{site}")
    async def get_site(site: str) -> schemas.Site:
        return schemas.Site.of(await fleet.site(site))


def _add_halls_and_leaves(routes: APIRouter, fleet: Fleet) -> None:
    @routes.get("/halls")
    async def list_halls(page: Paging) -> schemas.ListOf[schemas.Hall]:
        return listing(await fleet.halls(page), schemas.Hall.model_validate)

    @routes.get("/halls/{hall}")
    async def get_hall(hall: str) -> schemas.Hall:
        return schemas.Hall.model_validate(await fleet.hall(hall))

    @routes.get("/leaves")
    async def list_leaves(page: Paging) -> schemas.ListOf[schemas.Leaf]:
        return listing(await fleet.leaves(page), schemas.Leaf.model_validate)

    @routes.get("/leaves/{leaf}")
    async def get_leaf(leaf: str) -> schemas.Leaf:
        return schemas.Leaf.model_validate(await fleet.leaf(leaf))


def _add_skus(routes: APIRouter, fleet: Fleet) -> None:
    @routes.get("/skus")
    async def list_skus(page: Paging) -> schemas.ListOf[schemas.Sku]:
        return listing(await fleet.skus(page), schemas.Sku.model_validate)

    @routes.get("/skus/{sku}")
    async def get_sku(sku: str) -> schemas.Sku:
        return schemas.Sku.model_validate(await fleet.sku(sku))


def _add_nodes(routes: APIRouter, fleet: Fleet) -> None:
    @routes.get("/nodes")
    async def list_nodes(
        page: Paging,
        site: str | None = None,
        leaf: str | None = None,
        sku: str | None = None,
        status: NodeStatus | None = None,
    ) -> schemas.ListOf[schemas.Node]:
        nodes = await fleet.nodes(page, site=site, leaf=leaf, sku=sku, status=status)
        return listing(nodes, schemas.Node.of)

    @routes.get("/nodes/{node}")
    async def get_node(node: str) -> schemas.Node:
        return schemas.Node.of(await fleet.node(node))


def timeline(page: Page[Event]) -> schemas.ListOf[schemas.EventOut]:
    return listing(page, schemas.EventOut.of)


def listing(page: Page[T], wire: Callable[[T], W]) -> schemas.ListOf[W]:
    return schemas.ListOf(data=[wire(row) for row in page.data], has_more=page.has_more, next_cursor=page.next_cursor)
