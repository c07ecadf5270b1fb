"""Deliveries: nodes that are ordered and not there yet."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from skerry.db.database import Tx
from skerry.fleet import tables as t
from skerry.fleet.model import Delivery, Milestone, MilestoneDates
from skerry.fleet.store.topology import Reader
from skerry.kernel.clock import rfc3339
from skerry.kernel.ids import DeliveryId, HallId, LeafId, SiteId, SkuId


class DeliveryReader(Reader[Delivery]):
    """Deliveries, with their leaves and how many of their nodes have come."""

    def __init__(self) -> None:
        leaves = (
            select(func.jsonb_object_agg(t.leaves.c.name, t.delivery_leaves.c.nodes))
            .join(t.leaves, t.delivery_leaves.c.leaf_id == t.leaves.c.id)
            .where(t.delivery_leaves.c.delivery_id == t.deliveries.c.id)
            .scalar_subquery()
        )
        arrived = (
            select(func.count())
            .select_from(t.nodes)
            .where(t.nodes.c.delivery_id == t.deliveries.c.id)
            .correlate(t.deliveries)
            .scalar_subquery()
        )
        query = (
            select(
                t.deliveries,
                t.sites.c.name.label("site"),
                t.skus.c.name.label("sku"),
                leaves.label("leaves"),
                arrived.label("arrived"),
            )
            .select_from(t.deliveries)
            .join(t.sites, t.deliveries.c.site_id == t.sites.c.id)
            .join(t.skus, t.deliveries.c.sku_id == t.skus.c.id)
        )
        super().__init__(query, t.deliveries.c.id, t.deliveries.c.name)

    def _value(self, row: Row[Any]) -> Delivery:
        return Delivery(
            id=DeliveryId(row.id),
            name=row.name,
            site=row.site,
            sku=row.sku,
            leaves=dict(sorted((row.leaves or {}).items())),
            confidence=row.confidence,
            service_at=row.service_at,
            milestones=milestones_from(row.milestones),
            created_at=row.created_at,
            updated_at=row.updated_at,
            arrived=row.arrived,
        )


class DeliveryStore:
    """Changes of deliveries."""

    async def add(self, tx: Tx, delivery: Delivery, site: SiteId, sku: SkuId, leaves: Mapping[LeafId, int]) -> bool:
        """False: there is one of that name."""
        values = {
            "id": delivery.id,
            "name": delivery.name,
            "site_id": site,
            "sku_id": sku,
            "confidence": delivery.confidence,
            "service_at": delivery.service_at,
            "milestones": milestones_to(delivery.milestones),
            "accepted_at": _accepted(delivery.milestones),
            "created_at": delivery.created_at,
            "updated_at": delivery.updated_at,
        }
        adding = insert(t.deliveries).values(values).on_conflict_do_nothing(index_elements=["name"])
        if (await tx.execute(adding.returning(t.deliveries.c.id))).scalar_one_or_none() is None:
            return False
        rows = [{"delivery_id": delivery.id, "leaf_id": leaf, "nodes": nodes} for leaf, nodes in leaves.items()]
        await tx.execute(insert(t.delivery_leaves), rows)
        return True

    async def lock(self, tx: Tx, id: DeliveryId) -> list[LeafId]:
        """The leaves it is for; nobody else can change it until this transaction ends."""
        await tx.execute(select(t.deliveries.c.id).where(t.deliveries.c.id == id).with_for_update())
        rows = await tx.execute(select(t.delivery_leaves.c.leaf_id).where(t.delivery_leaves.c.delivery_id == id))
        return [LeafId(row.leaf_id) for row in rows]

    async def change(
        self,
        tx: Tx,
        id: DeliveryId,
        now: datetime,
        *,
        service_at: datetime,
        confidence: Any,
        milestones: Mapping[Milestone, MilestoneDates],
    ) -> None:
        await tx.execute(
            update(t.deliveries)
            .where(t.deliveries.c.id == id)
            .values(
                service_at=service_at,
                confidence=confidence,
                milestones=milestones_to(milestones),
                accepted_at=_accepted(milestones),
                updated_at=now,
            )
        )

    async def remove(self, tx: Tx, id: DeliveryId) -> None:
        await tx.execute(delete(t.deliveries).where(t.deliveries.c.id == id))

    async def set_leaves(self, tx: Tx, id: DeliveryId, leaves: Mapping[LeafId, int]) -> None:
        await tx.execute(delete(t.delivery_leaves).where(t.delivery_leaves.c.delivery_id == id))
        rows = [{"delivery_id": id, "leaf_id": leaf, "nodes": nodes} for leaf, nodes in leaves.items()]
        await tx.execute(insert(t.delivery_leaves), rows)

    async def add_leaves(self, tx: Tx, hall: HallId, names: Mapping[str, LeafId], now: datetime) -> bool:
        """New leaves of a hall. False: there is one of such a name already."""
        rows = [{"id": id, "name": name, "hall_id": hall, "created_at": now} for name, id in names.items()]
        adding = insert(t.leaves).values(rows).on_conflict_do_nothing(index_elements=["name"])
        return len((await tx.execute(adding.returning(t.leaves.c.id))).all()) == len(rows)


def milestones_from(stored: Mapping[str, Mapping[str, str | None]]) -> dict[Milestone, MilestoneDates]:
    return {
        name: MilestoneDates(_time(stored[name].get("planned")), _time(stored[name].get("reached")))
        for name in Milestone
        if name in stored
    }


def milestones_to(milestones: Mapping[Milestone, MilestoneDates]) -> dict[str, dict[str, str | None]]:
    return {
        name.value: {
            "planned": rfc3339(dates.planned) if dates.planned is not None else None,
            "reached": rfc3339(dates.reached) if dates.reached is not None else None,
        }
        for name, dates in milestones.items()
    }


def _accepted(milestones: Mapping[Milestone, MilestoneDates]) -> datetime | None:
    return milestones.get(Milestone.ACCEPTED, MilestoneDates()).reached


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
