"""What there is: lists and finds it; writes what discovery found."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, Row, Select, Table, and_, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from skerry.db.database import Tx
from skerry.fleet import tables as t
from skerry.fleet.model import AWAY, Accelerator, Delivery, Hall, Leaf, Maintenance, Node, NodeStatus, Site, Sku
from skerry.fleet.rules.carbon import carbon_of
from skerry.kernel.ids import HallId, LeafId, MaintenanceId, NodeId, SiteId, SkuId
from skerry.kernel.money import Money
from skerry.kernel.paging import Page, PageRequest

T = TypeVar("T", Site, Hall, Leaf, Sku, Node, Maintenance, Delivery)


@dataclass(frozen=True, slots=True)
class NodeFilter:
    """Names or ids; None: any."""

    site: str | None = None
    leaf: str | None = None
    sku: str | None = None
    status: NodeStatus | None = None


class Reader(Generic[T]):
    """Lists and finds the rows of one kind, by id or by name."""

    def __init__(self, query: Select[Any], id: Column[Any], name: Column[Any]) -> None:
        self._query, self._id, self._name = query, id, name

    async def page(self, tx: Tx, request: PageRequest, *conditions: Any) -> Page[T]:
        query = self._query.where(*conditions).order_by(self._id).limit(request.limit + 1)
        if request.after is not None:
            query = query.where(self._id > request.after[0])
        rows = [self._value(row) for row in (await tx.execute(query)).all()]
        return Page.cut(rows, request, lambda row: (str(row.id),))

    async def find(self, tx: Tx, ref: str) -> T | None:
        query = self._query.where(or_(self._id == ref, self._name == ref)).order_by(self._id != ref).limit(1)
        row = (await tx.execute(query)).one_or_none()
        return self._value(row) if row is not None else None

    def _value(self, row: Row[Any]) -> T:
        raise NotImplementedError


class SiteReader(Reader[Site]):
    """Sites."""

    def __init__(self) -> None:
        super().__init__(select(t.sites), t.sites.c.id, t.sites.c.name)

    def _value(self, row: Row[Any]) -> Site:
        price = Money(row.energy_price, row.energy_currency) if row.energy_price is not None else None
        return Site(
            id=SiteId(row.id),
            name=row.name,
            created_at=row.created_at,
            country=row.country,
            grid_zone=row.grid_zone,
            pue=row.pue,
            power_cap_kw=row.power_cap_kw,
            energy_price=price,
            carbon_source=row.carbon_source,
            carbon=carbon_of(row.carbon, row.carbon_source, row.country, row.grid_zone),
        )


class HallReader(Reader[Hall]):
    """Halls, with the name of their site."""

    def __init__(self) -> None:
        query = select(t.halls, t.sites.c.name.label("site")).join(t.sites)
        super().__init__(query, t.halls.c.id, t.halls.c.name)

    def _value(self, row: Row[Any]) -> Hall:
        return Hall(id=HallId(row.id), name=row.name, site=row.site, created_at=row.created_at)


class LeafReader(Reader[Leaf]):
    """Leaves, with the names of hall and site."""

    def __init__(self) -> None:
        query = (
            select(t.leaves, t.halls.c.name.label("hall"), t.sites.c.name.label("site"))
            .join(t.halls, t.leaves.c.hall_id == t.halls.c.id)
            .join(t.sites, t.halls.c.site_id == t.sites.c.id)
        )
        super().__init__(query, t.leaves.c.id, t.leaves.c.name)

    def _value(self, row: Row[Any]) -> Leaf:
        return Leaf(
            id=LeafId(row.id),
            name=row.name,
            hall=row.hall,
            site=row.site,
            fabric=row.fabric,
            spares=row.spares,
            created_at=row.created_at,
        )


class SkuReader(Reader[Sku]):
    """SKUs."""

    def __init__(self) -> None:
        super().__init__(select(t.skus), t.skus.c.id, t.skus.c.name)

    async def sizes(self, tx: Tx) -> dict[str, int]:
        rows = await tx.execute(select(t.skus.c.name, t.skus.c.accelerators_per_node))
        return {row.name: row.accelerators_per_node for row in rows}

    async def pools(self, tx: Tx) -> dict[str, int | None]:
        rows = await tx.execute(select(t.skus.c.name, t.skus.c.on_demand_nodes))
        return {row.name: row.on_demand_nodes for row in rows}

    def _value(self, row: Row[Any]) -> Sku:
        return Sku(
            id=SkuId(row.id),
            name=row.name,
            accelerator=row.accelerator,
            accelerators_per_node=row.accelerators_per_node,
            cpu=row.cpu,
            memory=row.memory,
            nvlink=row.nvlink,
            tdp_w=row.tdp_w,
            idle_w=row.idle_w,
            on_demand_nodes=row.on_demand_nodes,
            created_at=row.created_at,
            accelerator_memory=row.accelerator_memory,
            sources=row.sources,
        )


class NodeReader(Reader[Node]):
    """Nodes, with the names of SKU, leaf and site."""

    def __init__(self) -> None:
        query = (
            select(
                t.nodes,
                t.skus.c.name.label("sku"),
                t.leaves.c.name.label("leaf"),
                t.sites.c.name.label("site"),
                t.deliveries.c.name.label("delivery"),
            )
            .join(t.skus, t.nodes.c.sku_id == t.skus.c.id)
            .join(t.leaves, t.nodes.c.leaf_id == t.leaves.c.id)
            .join(t.halls, t.leaves.c.hall_id == t.halls.c.id)
            .join(t.sites, t.halls.c.site_id == t.sites.c.id)
            .outerjoin(t.deliveries, t.nodes.c.delivery_id == t.deliveries.c.id)
        )
        super().__init__(query, t.nodes.c.id, t.nodes.c.hostname)

    async def filtered(self, tx: Tx, wanted: NodeFilter, request: PageRequest) -> Page[Node]:
        conditions = [
            or_(table.c.id == ref, table.c.name == ref)
            for table, ref in ((t.sites, wanted.site), (t.leaves, wanted.leaf), (t.skus, wanted.sku))
            if ref is not None
        ]
        if wanted.status is not None:
            conditions.append(t.nodes.c.status == wanted.status)
        return await self.page(tx, request, *conditions)

    async def by_hostname(self, tx: Tx, hostnames: Collection[str]) -> dict[str, Node]:
        rows = await tx.execute(self._query.where(t.nodes.c.hostname.in_(list(hostnames))))
        return {row.hostname: self._value(row) for row in rows}

    async def by_id(self, tx: Tx, ids: Iterable[str]) -> list[Node]:
        rows = await tx.execute(self._query.where(t.nodes.c.id.in_(list(ids))).order_by(t.nodes.c.hostname))
        return [self._value(row) for row in rows]

    async def statuses(self, tx: Tx) -> dict[tuple[str, str], dict[str, int]]:
        """How many nodes are in which status, by leaf (id) and SKU (name)."""
        query = (
            select(t.nodes.c.leaf_id, t.skus.c.name, t.nodes.c.status, func.count().label("nodes"))
            .join(t.skus, t.nodes.c.sku_id == t.skus.c.id)
            .group_by(t.nodes.c.leaf_id, t.skus.c.name, t.nodes.c.status)
        )
        found: dict[tuple[str, str], dict[str, int]] = {}
        for row in await tx.execute(query):
            found.setdefault((row.leaf_id, row.name), {})[row.status] = row.nodes
        return found

    async def ready(self, tx: Tx, leaf: LeafId, sku: str, now: datetime) -> list[Node]:
        """Ready, or back by time alone: nobody has to have noted yet that it is."""
        back = and_(t.nodes.c.status.in_(AWAY), t.nodes.c.until <= now)
        ready = or_(t.nodes.c.status == NodeStatus.READY, back)
        query = self._query.where(t.nodes.c.leaf_id == leaf, t.skus.c.name == sku, ready)
        return [self._value(row) for row in await tx.execute(query.order_by(t.nodes.c.hostname))]

    async def of_leaves(self, tx: Tx, keys: Collection[tuple[LeafId, str]]) -> dict[tuple[LeafId, str], list[Node]]:
        """All nodes of these leaves and SKUs (names), whatever their status, by hostname."""
        found: dict[tuple[LeafId, str], list[Node]] = {key: [] for key in keys}
        query = self._query.add_columns(t.nodes.c.leaf_id.label("of_leaf"))
        query = query.where(tuple_(t.nodes.c.leaf_id, t.skus.c.name).in_(list(keys))).order_by(t.nodes.c.hostname)
        for row in await tx.execute(query) if keys else ():
            found[LeafId(row.of_leaf), row.sku].append(self._value(row))
        return found

    def _value(self, row: Row[Any]) -> Node:
        return Node(
            id=NodeId(row.id),
            hostname=row.hostname,
            sku=row.sku,
            leaf=row.leaf,
            site=row.site,
            accelerators=tuple(Accelerator(**accelerator) for accelerator in row.accelerators),
            status=NodeStatus(row.status),
            status_reason=row.status_reason,
            health=row.health,
            until=row.until,
            maintenance=MaintenanceId(row.maintenance_id) if row.maintenance_id else None,
            delivery=row.delivery,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


class FleetWriter:
    """Writes what discovery found. Names are the keys, so that doing it twice, or twice at once, makes one row."""

    async def site(self, tx: Tx, id: str, name: str, now: datetime) -> tuple[str, bool]:
        return await _ensure(tx, t.sites, "name", {"id": id, "name": name, "created_at": now}, {})

    async def hall(self, tx: Tx, id: str, name: str, site: str, now: datetime) -> tuple[str, bool]:
        return await _ensure(tx, t.halls, "name", {"id": id, "name": name, "site_id": site, "created_at": now}, {})

    async def leaf(self, tx: Tx, id: str, name: str, hall: str, now: datetime) -> tuple[str, bool]:
        return await _ensure(tx, t.leaves, "name", {"id": id, "name": name, "hall_id": hall, "created_at": now}, {})

    async def sku(self, tx: Tx, id: str, name: str, facts: Mapping[str, Any], now: datetime) -> tuple[str, bool]:
        return await _ensure(tx, t.skus, "name", {"id": id, "name": name, "created_at": now}, facts)

    async def node(
        self, tx: Tx, id: str, hostname: str, sku: str, leaf: str, accelerators: Sequence[Accelerator], now: datetime
    ) -> tuple[str, bool]:
        fixed = {
            "id": id,
            "hostname": hostname,
            "sku_id": sku,
            "leaf_id": leaf,
            "status": NodeStatus.READY,
            "health": {},
            "created_at": now,
            "updated_at": now,
        }
        return await _ensure(tx, t.nodes, "hostname", fixed, {"accelerators": [asdict(a) for a in accelerators]}, now)


async def _ensure(
    tx: Tx, table: Table, key: str, fixed: Mapping[str, Any], facts: Mapping[str, Any], touched: datetime | None = None
) -> tuple[str, bool]:
    """The row's id and whether anything was written. `facts` are brought up to date, `fixed` only set on a new row."""
    made = insert(table).values(**fixed, **facts).on_conflict_do_nothing(index_elements=[key]).returning(table.c.id)
    if (id := (await tx.execute(made)).scalar_one_or_none()) is not None:
        return str(id), True
    row = (await tx.execute(select(table).where(table.c[key] == fixed[key]).with_for_update())).one()
    changes = {name: value for name, value in facts.items() if row._mapping[name] != value}
    if changes:
        if touched is not None:
            changes["updated_at"] = touched
        await tx.execute(update(table).where(table.c.id == row.id).values(**changes))
    return str(row.id), bool(changes)
