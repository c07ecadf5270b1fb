"""Values of the fleet: the physical topology and what is in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from skerry.kernel.ids import HallId, LeafId, NodeId, SiteId, SkuId
from skerry.kernel.money import Money
from skerry.kernel.states import StateMachine

LOCAL: Final = "local"
"""Name of the discovered site, hall, leaf and SKU."""
LOCAL_NODE: Final = "local-1"
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
class Site:
    """`country` None: unknown. `energy_price` is for one kWh."""

    id: SiteId
    name: str
    created_at: datetime
    country: str | None = None
    grid_zone: str | None = None
    pue: Decimal | None = None
    power_cap_kw: Decimal | None = None
    energy_price: Money | None = None
    carbon_source: str | None = None


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
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Node:
    """`hostname` is also the engine's name of it. `health` holds what checks found, by check."""

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


@dataclass(frozen=True, slots=True)
class LocalFleet:
    """What `discover_local` made or found; `changed` says whether it wrote anything."""

    site: SiteId
    node: NodeId
    changed: bool
