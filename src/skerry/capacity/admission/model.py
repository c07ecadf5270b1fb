"""Values of admission: what a workload asks for, and what it gets or why not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from skerry.capacity.model import Scope
from skerry.kernel.classes import CapacityClass
from skerry.kernel.ids import ClaimId, LeafId, NodeId, ProjectId, ReservationId


@dataclass(frozen=True, slots=True)
class Host:
    """A node on which an engine would start the workload now. `devices`: accelerators that are free as far as the
    engine's side knows of work without a claim."""

    name: str
    devices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """`accelerators` on each of `nodes` different nodes, from now on. `scope`: how near to each other they are at the
    farthest, where `scope_required`; they are always as near as it can be had.

    `max_duration_seconds` None: open-ended. `jurisdictions`: where the project's data may be, countries
    or regions; empty: anywhere.
    """

    project: ProjectId
    workload: str
    capacity_class: CapacityClass
    accelerators: int
    hosts: tuple[Host, ...]
    nodes: int = 1
    sku: str | None = None
    site: str | None = None
    max_duration_seconds: int | None = None
    reservation: ReservationId | None = None
    jurisdictions: tuple[str, ...] = ()
    scope: Scope = Scope.ANY
    scope_required: bool = False

    def __post_init__(self) -> None:
        if self.accelerators < 1 or self.nodes < 1:
            raise ValueError("a request is for at least one accelerator of at least one node")
        if (self.capacity_class is CapacityClass.RESERVED) != (self.reservation is not None):
            raise ValueError("reserved capacity, and no other, is that of a reservation")


WIDTHS: Final = (Scope.LEAF, Scope.HALL, Scope.SITE, Scope.ANY)
"""Narrowest first."""


def widths(scope: Scope, *, required: bool) -> Sequence[Scope]:
    """How near to each other the nodes of a gang are looked for, one after the other: the nearest is always best."""
    return WIDTHS[: WIDTHS.index(scope) + 1] if required else WIDTHS


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a node that was given. `until` None: for as long as it is wanted."""

    host: str
    node: NodeId
    leaf: LeafId
    sku: str
    site: str
    devices: tuple[int, ...]
    claims: tuple[ClaimId, ...]
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Placed:
    """The claims are in the database. A share for each node, in the order of ranks."""

    shares: tuple[Share, ...]


class WhyNot(StrEnum):
    """Why there is no capacity for a workload now. `advice` says what to do about it (I8)."""

    NO_NODE = "no_node"
    """No node that fits has so many accelerators free."""
    NO_CAPACITY = "no_capacity"
    """Nodes are idle, and promised to others before the workload would be over, or kept as spares."""
    RECLAIMING = "reclaiming"
    """Spot work stands there and has been told to leave."""
    OUTSIDE_JURISDICTION = "outside_jurisdiction"
    """All nodes that fit are where the project's data may not be."""
    RESERVATION_NOT_READY = "reservation_not_ready"
    """The reservation has no nodes yet, or no longer."""
    SCATTERED = "scattered"
    """Enough nodes have room, and not so near to each other as is required."""
    RESERVATION_FULL = "reservation_full"
    """The reservation's nodes are in use by the project's other workloads."""

    @property
    def advice(self) -> str:
        return _ADVICE[self]


_ADVICE: Final[Mapping[WhyNot, str]] = {
    WhyNot.NO_NODE: "Wait until a node is free, ask for fewer accelerators, or stop something else.",
    WhyNot.NO_CAPACITY: "Wait, set a shorter maximum duration, or reserve capacity.",
    WhyNot.RECLAIMING: "Wait: it starts when the spot work is gone.",
    WhyNot.OUTSIDE_JURISDICTION: "Ask for a SKU or a site within the project's jurisdictions, or change these.",
    WhyNot.RESERVATION_NOT_READY: "Wait for the reservation's start, or use on-demand capacity.",
    WhyNot.SCATTERED: "Wait until nodes near to each other are free, or ask for a wider scope.",
    WhyNot.RESERVATION_FULL: "Stop another workload in the reservation, or extend the reservation.",
}


@dataclass(frozen=True, slots=True)
class NotNow:
    """`estimated_start`: when it would fit as things stand; None: nothing that is known to end makes room for it."""

    reason: WhyNot
    message: str
    estimated_start: datetime | None = None


@dataclass(frozen=True, slots=True)
class Leaving:
    """A workload that is to be gone by `by`: its capacity goes back to whom it belongs, or its time is over."""

    workload: str
    project: ProjectId
    capacity_class: CapacityClass
    by: datetime
    noticed: bool
    """Somebody else needs it; else its own time is over."""
