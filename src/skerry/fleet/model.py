"""Values of the fleet: the physical topology and what is in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from skerry.kernel.clock import require_utc
from skerry.kernel.ids import (
    DeliveryId,
    HallId,
    LeafId,
    MaintenanceId,
    NodeId,
    ProjectId,
    ReservationId,
    SiteId,
    SkuId,
)
from skerry.kernel.money import Money
from skerry.kernel.states import StateMachine

LOCAL: Final = "local"
"""Name of the discovered site, hall, leaf and SKU."""
LOCAL_NODES: Final = "local-"
"""Its nodes are `local-1` and so on; a machine that is not divided is `local-1` alone."""
MOST_VIRTUAL_NODES: Final = 256
"""So many are plenty on one machine."""
CPU: Final = "cpu"
"""Type of the accelerators of a machine without GPUs: one for each core."""


class NodeStatus(StrEnum):
    """What the operator or the health checks say of a node."""

    REGISTERING = "registering"
    """Known, but not yet seen working."""
    READY = "ready"
    CORDONED = "cordoned"
    """Takes nothing new; what runs on it goes on."""
    DRAINING = "draining"
    """Takes nothing new and is being emptied."""
    FAILED = "failed"
    MAINTENANCE = "maintenance"
    RETIRED = "retired"


NODE_TRANSITIONS: Final = StateMachine(
    {
        NodeStatus.REGISTERING: {NodeStatus.READY, NodeStatus.FAILED, NodeStatus.RETIRED},
        NodeStatus.READY: {NodeStatus.CORDONED, NodeStatus.DRAINING, NodeStatus.FAILED},
        NodeStatus.CORDONED: {NodeStatus.READY, NodeStatus.DRAINING, NodeStatus.FAILED},
        NodeStatus.DRAINING: {NodeStatus.READY, NodeStatus.MAINTENANCE, NodeStatus.FAILED},
        NodeStatus.FAILED: {NodeStatus.MAINTENANCE, NodeStatus.READY, NodeStatus.RETIRED},
        NodeStatus.MAINTENANCE: {NodeStatus.READY, NodeStatus.FAILED, NodeStatus.RETIRED},
        NodeStatus.RETIRED: set(),
    }
)


AWAY: Final = frozenset({NodeStatus.CORDONED, NodeStatus.DRAINING, NodeStatus.MAINTENANCE})
"""Taken out by the operator: such a node counts again from its `until` on, where it has one."""


class Milestone(StrEnum):
    """How far a delivery is; each is reached after the one before."""

    ORDERED = "ordered"
    DELIVERED = "delivered"
    """The machines are at the site."""
    INSTALLED = "installed"
    """In their racks, with power and network."""
    BURNT_IN = "burnt_in"
    """They have run under load for as long as the operator wants to see."""
    ACCEPTED = "accepted"
    """The nodes are in the fleet by themselves; the delivery counts no longer."""


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One GPU, or one core of a machine that has none. `uuid` and `memory_bytes` are None for cores."""

    index: int
    type: str
    memory_bytes: int | None = None
    uuid: str | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """What discovery saw: the share of this machine that this process may use."""

    hostname: str
    cores: int
    memory_bytes: int
    gpus: tuple[Accelerator, ...] = ()

    @property
    def accelerators(self) -> tuple[Accelerator, ...]:
        return self.gpus or tuple(Accelerator(index, CPU) for index in range(self.cores))

    @property
    def accelerator_type(self) -> str:
        """The types there are, joined with `+` where they differ."""
        return "+".join(sorted({gpu.type for gpu in self.gpus})) or CPU


@dataclass(frozen=True, slots=True)
class Carbon:
    """Grams of CO2e for a kWh from the grid, for each hour of the day (UTC). `estimated`: a mean of a year, not this
    site's own figures."""

    hourly: tuple[Decimal, ...]
    source: str
    estimated: bool

    def at(self, instant: datetime) -> Decimal:
        return self.hourly[require_utc(instant).hour]

    @property
    def mean(self) -> Decimal:
        return sum(self.hourly, Decimal(0)) / len(self.hourly)


@dataclass(frozen=True, slots=True)
class Site:
    """`country` None: unknown. `energy_price` is for one kWh. `carbon` None: neither told nor known of its grid."""

    id: SiteId
    name: str
    created_at: datetime
    country: str | None = None
    grid_zone: str | None = None
    pue: Decimal | None = None
    power_cap_kw: Decimal | None = None
    energy_price: Money | None = None
    carbon_source: str | None = None
    carbon: Carbon | None = None


@dataclass(frozen=True, slots=True)
class Hall:
    """A room of a site."""

    id: HallId
    name: str
    site: str
    """Name of the site."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Leaf:
    """The placement unit: nodes under one leaf switch or in one NVLink domain."""

    id: LeafId
    name: str
    hall: str
    site: str
    fabric: str | None
    spares: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Sku:
    """What is sold. `memory` is in bytes, `tdp_w` and `idle_w` in watts a node; None: unknown."""

    id: SkuId
    name: str
    accelerator: str
    accelerators_per_node: int
    cpu: int
    memory: int
    nvlink: bool
    tdp_w: int | None
    idle_w: int | None
    on_demand_nodes: int | None
    """A pool for each site that reservations cannot buy; None: there is none."""
    created_at: datetime
    accelerator_memory: int | None = None
    """Bytes of one accelerator."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where a figure comes from, by its name; `assumed` where it is a guess."""


@dataclass(frozen=True, slots=True)
class Node:
    """`hostname` is also the engine's name of it. `health` holds what checks found last, by check."""

    id: NodeId
    hostname: str
    sku: str
    leaf: str
    site: str
    accelerators: tuple[Accelerator, ...]
    status: NodeStatus
    status_reason: Mapping[str, str] | None
    """`code` and `message`, once something has changed it."""
    created_at: datetime
    updated_at: datetime
    health: Mapping[str, Any] = field(default_factory=dict)
    until: datetime | None = None
    """When it counts again, if it was taken out for a time."""
    maintenance: MaintenanceId | None = None
    """The window it was taken out for."""
    delivery: str | None = None
    """Name of the delivery it came with."""


@dataclass(frozen=True, slots=True)
class LocalFleet:
    """What `discover_local` made or found; `changed` says whether it wrote anything. `node` is the first one.

    `nodes_before`: how many there were at the start before; 0 at the first. `endangered`: whom a smaller number leaves
    short.
    """

    site: SiteId
    node: NodeId
    changed: bool
    nodes: int = 1
    nodes_before: int = 0
    endangered: tuple["Endangered", ...] = ()


@dataclass(frozen=True, slots=True)
class NodeCheck:
    """What a health check found on a node."""

    id: str
    node: NodeId
    check: str
    at: datetime
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Maintenance:
    """`nodes` nodes of one SKU of a leaf are away for a window. A count: which ones is chosen when it begins."""

    id: MaintenanceId
    leaf: str
    sku: str
    """Names."""
    nodes: int
    start: datetime
    end: datetime
    reason: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class MilestoneDates:
    """When a milestone is to be reached, and when it was. None: not known, not yet."""

    planned: datetime | None = None
    reached: datetime | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """Nodes that are ordered and not there yet. From `service_at` on they may be sold, as far as policy allows."""

    id: DeliveryId
    name: str
    site: str
    sku: str
    """Names."""
    leaves: Mapping[str, int]
    """Nodes by the name of the leaf they will stand in."""
    confidence: Decimal
    """That it is in service by then, 0…1."""
    service_at: datetime
    milestones: Mapping[Milestone, MilestoneDates]
    created_at: datetime
    updated_at: datetime
    arrived: int = 0
    """Nodes of it that are in the fleet."""

    @property
    def nodes(self) -> int:
        return sum(self.leaves.values())

    @property
    def accepted(self) -> bool:
        return self.reached is Milestone.ACCEPTED

    @property
    def reached(self) -> Milestone | None:
        """The last milestone that was reached."""
        done = [name for name in Milestone if self.milestones.get(name, MilestoneDates()).reached is not None]
        return done[-1] if done else None


@dataclass(frozen=True, slots=True)
class Step:
    """`nodes` from `start` on, until the next step."""

    start: datetime
    nodes: int


@dataclass(frozen=True, slots=True)
class LeafSupply:
    """How many nodes of a SKU a leaf has, over time. Steps are ordered, and the first begins at or before now."""

    leaf: LeafId
    leaf_name: str
    hall: str
    site: str
    country: str | None
    sku: str
    """Names; `country` None: unknown."""
    size: int
    """The most nodes it ever has, planned ones and those that are away included."""
    spares: int
    """Kept back from sale of each SKU of the leaf, to stand in for nodes that fail."""
    sellable: tuple[Step, ...]
    """What may be promised: healthy nodes less the spares."""
    deliverable: tuple[Step, ...]
    """What a promise may be kept with: healthy nodes, spares included."""


@dataclass(frozen=True, slots=True)
class LeafOverview:
    """What a leaf has of one SKU now. `planned`: how many more may be promised at some time from now on."""

    site: str
    country: str | None
    hall: str
    leaf: str
    sku: str
    spares: int
    size: int
    statuses: Mapping[str, int]
    sellable: int
    planned: int


@dataclass(frozen=True, slots=True)
class Endangered:
    """A confirmed reservation that a change would leave short."""

    reservation: ReservationId
    project: ProjectId
    starts: datetime
    leaf: LeafId
    leaf_name: str
    nodes_short: int
    whole_from: datetime | None = None
    """When it has all its nodes again; None: not within its window."""
