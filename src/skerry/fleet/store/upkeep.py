"""Nodes as they are worked on, what checks found, and windows of maintenance."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, delete, func, insert, or_, select, update

from skerry.db.database import Tx
from skerry.fleet import tables as t
from skerry.fleet.model import AWAY, Maintenance, Node, NodeCheck, NodeStatus
from skerry.fleet.store.topology import NodeReader, Reader
from skerry.kernel.ids import LeafId, MaintenanceId, NodeId, SkuId
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.state import Reason


class MaintenanceReader(Reader[Maintenance]):
    """Windows of maintenance, with the names of leaf and SKU. They have no names of their own."""

    def __init__(self) -> None:
        query = (
            select(t.maintenance, t.leaves.c.name.label("leaf"), t.skus.c.name.label("sku"))
            .select_from(t.maintenance)
            .join(t.leaves, t.maintenance.c.leaf_id == t.leaves.c.id)
            .join(t.skus, t.maintenance.c.sku_id == t.skus.c.id)
        )
        super().__init__(query, t.maintenance.c.id, t.maintenance.c.id)

    async def of_leaf(self, tx: Tx, leaf: str | None, request: PageRequest) -> Page[Maintenance]:
        conditions = [or_(t.leaves.c.id == leaf, t.leaves.c.name == leaf)] if leaf is not None else []
        return await self.page(tx, request, *conditions)

    def _value(self, row: Row[Any]) -> Maintenance:
        return Maintenance(
            id=MaintenanceId(row.id),
            leaf=row.leaf,
            sku=row.sku,
            nodes=row.nodes,
            start=row.start_at,
            end=row.end_at,
            reason=row.reason,
            created_at=row.created_at,
        )


class UpkeepStore:
    """Changes of nodes and of maintenance."""

    def __init__(self) -> None:
        self._nodes = NodeReader()

    async def lock(self, tx: Tx, ref: str) -> tuple[Node, LeafId] | None:
        """The node, to be changed by this transaction alone, and its leaf."""
        found = await self._nodes.find(tx, ref)
        if found is None:
            return None
        query = select(t.nodes.c.leaf_id).where(t.nodes.c.id == found.id).with_for_update()
        leaf = (await tx.execute(query)).scalar_one_or_none()
        again = await self._nodes.find(tx, found.id)  # what it is now that nobody else can change it
        return (again, LeafId(leaf)) if again is not None and leaf is not None else None

    async def move(
        self,
        tx: Tx,
        node: Node,
        after: NodeStatus,
        reason: Reason,
        now: datetime,
        *,
        until: datetime | None,
        maintenance: MaintenanceId | None,
    ) -> bool:
        """False: it no longer is as it was read."""
        changed = await tx.execute(
            update(t.nodes)
            .where(t.nodes.c.id == node.id, t.nodes.c.status == node.status)
            .values(
                status=after,
                status_reason=reason.to_json(),
                until=until,
                maintenance_id=maintenance,
                updated_at=now,
            )
        )
        return changed.rowcount == 1

    async def due(self, tx: Tx, now: datetime, limit: int) -> list[tuple[Node, LeafId]]:
        """Nodes that were taken out until a moment that has come, locked; those of others are left to them."""
        query = (
            select(t.nodes.c.id, t.nodes.c.leaf_id)
            .where(t.nodes.c.until <= now, t.nodes.c.status.in_(AWAY))
            .order_by(t.nodes.c.until)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        leaves = {row.id: LeafId(row.leaf_id) for row in await tx.execute(query)}
        return [(node, leaves[node.id]) for node in await self._nodes.by_id(tx, leaves)]

    async def add_check(self, tx: Tx, check: NodeCheck) -> None:
        await tx.execute(
            insert(t.node_checks).values(
                id=check.id, node_id=check.node, check=check.check, at=check.at, ok=check.ok, detail=check.detail
            )
        )

    async def set_health(self, tx: Tx, node: NodeId, health: Mapping[str, Any]) -> None:
        await tx.execute(update(t.nodes).where(t.nodes.c.id == node).values(health=dict(health)))

    async def checks(self, tx: Tx, node: NodeId, request: PageRequest) -> Page[NodeCheck]:
        """Newest first."""
        query = select(t.node_checks).where(t.node_checks.c.node_id == node)
        if request.after is not None:
            query = query.where(t.node_checks.c.id < request.after[0])
        rows = (await tx.execute(query.order_by(t.node_checks.c.id.desc()).limit(request.limit + 1))).all()
        found = [NodeCheck(row.id, NodeId(row.node_id), row.check, row.at, row.ok, row.detail) for row in rows]
        return Page.cut(found, request, lambda check: (check.id,))

    async def forget_checks(self, tx: Tx, before: datetime) -> int:
        return (await tx.execute(delete(t.node_checks).where(t.node_checks.c.at < before))).rowcount

    async def skus_of(self, tx: Tx, leaf: LeafId) -> Sequence[tuple[SkuId, str, int]]:
        """SKUs whose nodes stand in a leaf or are to: id, name, and how many there will be at most."""
        here: Select[Any] = select(t.nodes.c.sku_id, func.count().label("nodes")).where(
            t.nodes.c.leaf_id == leaf, t.nodes.c.status != NodeStatus.RETIRED
        )
        planned: Select[Any] = (
            select(t.deliveries.c.sku_id, func.sum(t.delivery_leaves.c.nodes))
            .join(t.delivery_leaves, t.delivery_leaves.c.delivery_id == t.deliveries.c.id)
            .where(t.delivery_leaves.c.leaf_id == leaf, t.deliveries.c.accepted_at.is_(None))
        )
        both = here.group_by(t.nodes.c.sku_id).union_all(planned.group_by(t.deliveries.c.sku_id)).subquery()
        query = (
            select(t.skus.c.id, t.skus.c.name, func.sum(both.c.nodes).label("nodes"))
            .join(both, both.c.sku_id == t.skus.c.id)
            .group_by(t.skus.c.id, t.skus.c.name)
            .order_by(t.skus.c.name)
        )
        return [(SkuId(row.id), row.name, int(row.nodes)) for row in await tx.execute(query)]

    async def add_maintenance(self, tx: Tx, window: Maintenance, leaf: LeafId, sku: SkuId) -> None:
        await tx.execute(
            insert(t.maintenance).values(
                id=window.id,
                leaf_id=leaf,
                sku_id=sku,
                nodes=window.nodes,
                start_at=window.start,
                end_at=window.end,
                reason=window.reason,
                created_at=window.created_at,
            )
        )

    async def lock_maintenance(self, tx: Tx, id: str) -> LeafId | None:
        query = select(t.maintenance.c.leaf_id).where(t.maintenance.c.id == id).with_for_update()
        leaf = (await tx.execute(query)).scalar_one_or_none()
        return LeafId(leaf) if leaf is not None else None

    async def end_maintenance(self, tx: Tx, window: Maintenance, now: datetime) -> None:
        """One that has begun ends now; one that has not never was."""
        if window.start < now:
            change = update(t.maintenance).where(t.maintenance.c.id == window.id)
            await tx.execute(change.values(end_at=now))
        else:
            await tx.execute(delete(t.maintenance).where(t.maintenance.c.id == window.id))
