"""Requests about the fleet; all of them are the operator's."""

from datetime import datetime

from skerry.client.answers.base import reader
from skerry.client.answers.fleet import CatalogueSku, Delivery, FleetNode, FleetPlan, LeafRow, Maintenance
from skerry.client.call import CONTROL, Call, Page, act, at, change, create, get, listing, present, rfc3339

FLEET = f"{CONTROL}/fleet"
NODES = f"{CONTROL}/nodes"
DELIVERIES = f"{CONTROL}/deliveries"
MAINTENANCE = f"{CONTROL}/maintenance"


def overview() -> Call[Page[LeafRow]]:
    """What each leaf has of each SKU."""
    return listing(FLEET, reader(LeafRow))


def plan_fleet(document: str, *, prune: bool = False) -> Call[FleetPlan]:
    """What applying the file would change."""
    return Call("POST", f"{FLEET}/plan", reader(FleetPlan), body={"document": document, "prune": prune})


def apply_fleet(document: str, *, prune: bool = False) -> Call[FleetPlan]:
    """Change the fleet to what the file says, all or nothing."""
    return act(f"{FLEET}/apply", reader(FleetPlan), {"document": document, "prune": prune})


def list_catalogue() -> Call[Page[CatalogueSku]]:
    """SKUs ready to be used by their names."""
    return listing(f"{FLEET}/catalogue", reader(CatalogueSku))


def list_nodes(
    *,
    site: str | None = None,
    leaf: str | None = None,
    sku: str | None = None,
    status: str | None = None,
    limit: int | None = None,
) -> Call[Page[FleetNode]]:
    return listing(NODES, reader(FleetNode), site=site, leaf=leaf, sku=sku, status=status, limit=limit)


def get_node(name: str) -> Call[FleetNode]:
    return get(at(NODES, name), reader(FleetNode))


def move_node(
    name: str,
    verb: str,
    *,
    reason: str,
    until: datetime | None = None,
    maintenance: str | None = None,
    force: bool = False,
) -> Call[FleetNode]:
    """`verb`: cordon, drain, maintain, resume, fail or retire. `force`: even if it leaves reservations short."""
    wish = {
        "reason": reason,
        "until": rfc3339(until) if until is not None else None,
        "maintenance": maintenance,
        "force": force or None,
    }
    return act(at(NODES, name, verb), reader(FleetNode), present(wish))


def list_deliveries(*, limit: int | None = None) -> Call[Page[Delivery]]:
    return listing(DELIVERIES, reader(Delivery), limit=limit)


def get_delivery(name: str) -> Call[Delivery]:
    return get(at(DELIVERIES, name), reader(Delivery))


def order_delivery(
    name: str,
    *,
    site: str,
    sku: str,
    nodes: int,
    service_at: datetime,
    confidence: float = 1,
    leaves: dict[str, int] | None = None,
    hall: str | None = None,
    leaf_size: int | None = None,
) -> Call[Delivery]:
    """Nodes that are ordered. Either `leaves` that there are, or `hall` and `leaf_size`: leaves are made."""
    wish = {
        "name": name,
        "site": site,
        "sku": sku,
        "nodes": nodes,
        "service_at": rfc3339(service_at),
        "confidence": confidence,
        "leaves": leaves,
        "hall": hall,
        "leaf_size": leaf_size,
    }
    return create(DELIVERIES, reader(Delivery), present(wish))


def reach_milestone(
    name: str, milestone: str, *, reached_at: datetime, planned: str | None = None, force: bool = False
) -> Call[Delivery]:
    """How far a delivery is; `planned` is the date that was planned for it, which would be forgotten otherwise."""
    dates = present({"planned_at": planned, "reached_at": rfc3339(reached_at)})
    return change(at(DELIVERIES, name), reader(Delivery), {"milestones": {milestone: dates}, "force": force})


def slip_delivery(name: str, *, service_at: datetime) -> Call[Delivery]:
    """It comes at another time; `makes_late` of the answer tells whom that makes late."""
    return change(at(DELIVERIES, name), reader(Delivery), {"service_at": rfc3339(service_at)})


def list_maintenance(*, leaf: str | None = None, limit: int | None = None) -> Call[Page[Maintenance]]:
    return listing(MAINTENANCE, reader(Maintenance), leaf=leaf, limit=limit)


def plan_maintenance(
    leaf: str,
    *,
    nodes: int,
    start: datetime,
    end: datetime,
    reason: str,
    sku: str | None = None,
    force: bool = False,
) -> Call[Maintenance]:
    """Take a count of nodes out of a leaf for a window."""
    wish = {
        "leaf": leaf,
        "sku": sku,
        "nodes": nodes,
        "start": rfc3339(start),
        "end": rfc3339(end),
        "reason": reason,
        "force": force or None,
    }
    return create(MAINTENANCE, reader(Maintenance), wish)


def call_off_maintenance(id: str) -> Call[Maintenance]:
    """A window that has not begun is gone; one that has ends now."""
    return Call("DELETE", at(MAINTENANCE, id), reader(Maintenance))
