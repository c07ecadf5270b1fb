"""From counts to steps: how many nodes a leaf has, over time."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate

from skerry.fleet.model import LeafSupply, Step
from skerry.kernel.ids import LeafId


@dataclass(slots=True)
class LeafCounts:
    """What is counted of one SKU in a leaf."""

    leaf: LeafId
    leaf_name: str
    hall: str
    site: str
    country: str | None
    sku: str
    spares: int
    size: int = 0
    """Nodes it has, whatever their status, but for retired ones."""
    ready: int = 0
    returning: list[tuple[datetime, int]] = field(default_factory=list)
    """Nodes that are away, and when they count again."""
    planned: list[tuple[datetime, int]] = field(default_factory=list)
    """Nodes that may be sold ahead, and when they will be there."""
    closed: list[tuple[datetime, datetime, int]] = field(default_factory=list)
    """Windows of maintenance: from, to, nodes."""


def supply_of(counts: LeafCounts, now: datetime) -> LeafSupply:
    """Steps from `now` on. What is overdue, of planned nodes, is not there: it does not count."""
    planned = [(at, nodes) for at, nodes in counts.planned if at > now]
    changes = [(max(at, now), nodes) for at, nodes in counts.returning]
    changes += planned
    for start, end, nodes in counts.closed:
        if end > now:
            changes += [(max(start, now), -nodes), (end, nodes)]
    healthy = steps(now, counts.ready, changes)
    return LeafSupply(
        leaf=counts.leaf,
        leaf_name=counts.leaf_name,
        hall=counts.hall,
        site=counts.site,
        country=counts.country,
        sku=counts.sku,
        size=counts.size + sum(nodes for _, nodes in planned),
        spares=counts.spares,
        sellable=merged(Step(step.start, max(0, step.nodes - counts.spares)) for step in healthy),
        deliverable=merged(Step(step.start, max(0, step.nodes)) for step in healthy),
    )


def steps(now: datetime, first: int, changes: Iterable[tuple[datetime, int]]) -> list[Step]:
    """The running sum of the changes, one step for each instant; it may go below zero."""
    by_time: dict[datetime, int] = {now: first}
    for at, nodes in changes:
        by_time[at] = by_time.get(at, 0) + nodes
    times = sorted(by_time)
    return [Step(at, nodes) for at, nodes in zip(times, accumulate(by_time[at] for at in times), strict=True)]


def merged(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Without the steps that change nothing."""
    kept: list[Step] = []
    for step in steps:
        if not kept or kept[-1].nodes != step.nodes:
            kept.append(step)
    return tuple(kept)
