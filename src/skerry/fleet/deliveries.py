"""Planned capacity: nodes that are ordered, when they will be in service, and whom it makes late if they are not."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from skerry.db.database import Tx
from skerry.fleet.basis import Basis
from skerry.fleet.errors import BadFleetField, NameTaken, UnknownFleetThing, wire
from skerry.fleet.model import Delivery, Endangered, Milestone, MilestoneDates, Site
from skerry.fleet.rules import deliveries as rules
from skerry.fleet.store.deliveries import DeliveryReader, DeliveryStore
from skerry.fleet.store.topology import HallReader, LeafReader, SiteReader, SkuReader
from skerry.kernel.clock import rfc3339
from skerry.kernel.errors import FieldError, Invalid
from skerry.kernel.ids import DeliveryId, LeafId
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.events import Event


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """Either `leaves` that there are, with their nodes, or `hall` and `leaf_size`: leaves are made for `nodes`.

    `leaf_prefix` names those (`PREFIX-1` …), by default the delivery's name does.
    """

    name: str | None
    site: str
    sku: str
    nodes: int
    service_at: datetime
    confidence: Decimal
    leaves: Mapping[str, int] = field(default_factory=dict)
    hall: str | None = None
    leaf_size: int | None = None
    leaf_prefix: str | None = None
    milestones: Mapping[Milestone, MilestoneDates] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeliveryChange:
    """None: stays as it is. `milestones` that are not named stay too."""

    service_at: datetime | None = None
    confidence: Decimal | None = None
    milestones: Mapping[Milestone, MilestoneDates] = field(default_factory=dict)
    force: bool = False


class Deliveries:
    """Raises UnknownFleetThing for a delivery nobody knows, BadFleetField and Invalid for what cannot be."""

    def __init__(self, basis: Basis) -> None:
        self._basis = basis
        self._store, self._reader = DeliveryStore(), DeliveryReader()
        self._sites, self._halls, self._leaves, self._skus = SiteReader(), HallReader(), LeafReader(), SkuReader()

    async def page(self, request: PageRequest) -> Page[Delivery]:
        async with self._basis.db.reading() as tx:
            return await self._reader.page(tx, request)

    async def get(self, ref: str) -> Delivery:
        async with self._basis.db.reading() as tx:
            return await self._found(tx, ref)

    async def events(self, ref: str, request: PageRequest) -> Page[Event]:
        """The delivery's timeline, oldest first."""
        async with self._basis.db.reading() as tx:
            found = await self._reader.find(tx, ref)
            page = await self._basis.events.list(
                tx, await self._basis.platform(tx), found.id if found is not None else ref, request
            )
            if found is None and not page.data:
                raise UnknownFleetThing("delivery", ref)
            return page

    async def plan(self, new: NewDelivery) -> Delivery:
        """Order it. Raises NameTaken beside what all do."""
        now = self._basis.clock.now()
        check_delivery(new.nodes, new.service_at, new.confidence, new.milestones, now)
        async with self._basis.db.transaction() as tx:
            site, sku = await self._sites.find(tx, new.site), await self._skus.find(tx, new.sku)
            if site is None:
                raise BadFleetField("site", "unknown_site", f"There is no site {new.site!r}.")
            if sku is None:
                raise BadFleetField("sku", "unknown_sku", f"There is no SKU {new.sku!r}.")
            id = DeliveryId(self._basis.new_id("dlv"))
            name = new.name or id
            leaves = await self._places(tx, site, name, new)
            delivery = Delivery(
                id=id,
                name=name,
                site=site.name,
                sku=sku.name,
                leaves={leaf: nodes for leaf, (_, nodes) in leaves.items()},
                confidence=new.confidence,
                service_at=new.service_at,
                milestones=dict(new.milestones),
                created_at=now,
                updated_at=now,
            )
            if not await self._store.add(tx, delivery, site.id, sku.id, dict(leaves.values())):
                raise NameTaken("delivery", name)
            await self._basis.record(tx, "delivery", id, "planned", told(delivery))
            await self._basis.supply.changed(tx, [leaf for leaf, _ in leaves.values()])
            return delivery

    async def change(self, ref: str, change: DeliveryChange) -> tuple[Delivery, list[Endangered]]:
        """What it is now, and whom that makes late. A slip is a fact and not refused; accepting it before its nodes are
        in the fleet is, if promises stand on them, unless forced: BreaksReservations."""
        now = self._basis.clock.now()
        async with self._basis.db.transaction() as tx:
            old = await self._found(tx, ref)
            leaves = await self._store.lock(tx, old.id)
            old = await self._found(tx, old.id)
            new = replace(
                old,
                service_at=change.service_at or old.service_at,
                confidence=old.confidence if change.confidence is None else change.confidence,
                milestones={**old.milestones, **change.milestones},
                updated_at=now,
            )
            service_at = change.service_at or max(old.service_at, now)  # what stays may lie behind us
            check_delivery(new.nodes, service_at, new.confidence, new.milestones, now)
            before = await self._basis.before(tx, leaves)
            await self._store.change(
                tx, old.id, now, service_at=new.service_at, confidence=new.confidence, milestones=new.milestones
            )
            accepts = new.accepted and not old.accepted
            late = await self._basis.after(tx, before, force=change.force or not accepts)
            await self._record_change(tx, old, new, late)
            return new, late

    async def cancel(self, ref: str, *, force: bool) -> list[Endangered]:
        """It will not come. Raises BreaksReservations unless forced."""
        async with self._basis.db.transaction() as tx:
            delivery = await self._found(tx, ref)
            leaves = await self._store.lock(tx, delivery.id)
            before = await self._basis.before(tx, leaves)
            await self._store.remove(tx, delivery.id)
            late = await self._basis.after(tx, before, force=force)
            data = {**told(delivery), "makes_late": [wire(one) for one in late]}
            await self._basis.record(tx, "delivery", delivery.id, "cancelled", data)
            return late

    async def _found(self, tx: Tx, ref: str) -> Delivery:
        found = await self._reader.find(tx, ref)
        if found is None:
            raise UnknownFleetThing("delivery", ref)
        return found

    async def _places(self, tx: Tx, site: Site, name: str, new: NewDelivery) -> dict[str, tuple[LeafId, int]]:
        """Where its nodes will stand: leaf and count, by name."""
        if new.leaves:
            return await self._existing(tx, site, new)
        if new.hall is None or new.leaf_size is None:
            raise BadFleetField("leaves", "no_place", "say which leaves it is for, or hall and leaf_size to make them")
        hall = await self._halls.find(tx, new.hall)
        if hall is None or hall.site != site.name:
            raise BadFleetField("hall", "unknown_hall", f"{site.name} has no hall {new.hall!r}.")
        if new.leaf_size < 1:
            raise BadFleetField("leaf_size", "out_of_range", "leaf_size must be at least 1")
        try:
            sizes = rules.leaves_of_size(new.leaf_prefix or name, new.nodes, new.leaf_size)
        except ValueError as error:
            raise BadFleetField("leaf_size", "too_many_leaves", str(error)) from error
        ids = {leaf: LeafId(self._basis.new_id("leaf")) for leaf in sizes}
        if not await self._store.add_leaves(tx, hall.id, ids, self._basis.clock.now()):
            message = (
                f"there is a leaf of a name like {next(iter(sizes))} already: give another leaf_prefix, or `leaves`"
            )
            raise BadFleetField("leaf_prefix", "name_taken", message)
        return {leaf: (ids[leaf], nodes) for leaf, nodes in sizes.items()}

    async def _existing(self, tx: Tx, site: Site, new: NewDelivery) -> dict[str, tuple[LeafId, int]]:
        places: dict[str, tuple[LeafId, int]] = {}
        for ref, nodes in new.leaves.items():
            leaf = await self._leaves.find(tx, ref)
            if leaf is None or leaf.site != site.name:
                raise BadFleetField(f"leaves.{ref}", "unknown_leaf", f"{site.name} has no leaf {ref!r}.")
            if nodes < 1:
                raise BadFleetField(f"leaves.{ref}", "out_of_range", "a leaf gets at least 1 node")
            places[leaf.name] = (leaf.id, nodes)
        if sum(new.leaves.values()) != new.nodes:
            message = f"the leaves take {sum(new.leaves.values())} nodes, the delivery has {new.nodes}"
            raise BadFleetField("nodes", "other_count", message)
        return places

    async def _record_change(self, tx: Tx, old: Delivery, new: Delivery, late: list[Endangered]) -> None:
        data: dict[str, Any] = {**told(new), "before": {"service_at": rfc3339(old.service_at)}}
        data["makes_late"] = [wire(one) for one in late]
        what = "changed"
        if new.service_at > old.service_at:
            what = "slipped"
        elif new.reached is not old.reached and new.reached is not None:
            what = new.reached.value
        await self._basis.record(tx, "delivery", new.id, what, data)


def check_delivery(
    nodes: int,
    service_at: datetime,
    confidence: Decimal,
    milestones: Mapping[Milestone, MilestoneDates],
    now: datetime,
) -> None:
    """Raises Invalid with everything that is wrong."""
    wrong: list[FieldError] = []
    if not 1 <= nodes <= rules.MOST_NODES:
        wrong.append(FieldError("nodes", "out_of_range", f"nodes is a number from 1 to {rules.MOST_NODES}"))
    if service_at.microsecond:
        wrong.append(FieldError("service_at", "sub_second", "service_at is a whole second"))
    if service_at < now and not _is_accepted(milestones):
        wrong.append(FieldError("service_at", "in_the_past", "service_at must lie ahead"))
    if message := rules.wrong_confidence(confidence):
        wrong.append(FieldError("confidence", "out_of_range", message))
    for name, message in rules.wrong_milestones(milestones, now):
        wrong.append(FieldError(f"milestones.{name}", "milestone_out_of_order", message))
    if wrong:
        raise Invalid("; ".join(error.message for error in wrong), code=wrong[0].code, errors=wrong)


def _is_accepted(milestones: Mapping[Milestone, MilestoneDates]) -> bool:
    return milestones.get(Milestone.ACCEPTED, rules.NO_DATES).reached is not None


def told(delivery: Delivery) -> dict[str, Any]:
    """What an event says of it."""
    return {
        "name": delivery.name,
        "site": delivery.site,
        "sku": delivery.sku,
        "nodes": delivery.nodes,
        "service_at": rfc3339(delivery.service_at),
        "confidence": str(delivery.confidence),
        "milestone": delivery.reached,
    }
