"""The fleet: what leaves have, nodes, and what applying a file changes."""

from datetime import datetime
from typing import Any

import msgspec

from skerry.client.answers.base import Answer, StatusReason


class LeafRow(Answer, frozen=True, kw_only=True):
    """What a leaf has of one SKU. `sellable`: how many may be promised now; `planned`: how many more at some time."""

    site: str
    country: str | None = None
    hall: str = ""
    leaf: str = ""
    sku: str = ""
    spares: int = 0
    size: int = 0
    statuses: dict[str, int] = msgspec.field(default_factory=dict)
    sellable: int = 0
    planned: int = 0


class Endangered(msgspec.Struct, frozen=True, kw_only=True):
    """A confirmed reservation that is short now."""

    reservation: str = ""
    project: str = ""
    starts: datetime | None = None
    leaf: str = ""
    nodes_short: int = 0


class FieldChange(msgspec.Struct, frozen=True, kw_only=True):
    before: Any = None
    after: Any = None


class FleetChange(msgspec.Struct, frozen=True, kw_only=True):
    """`name` of nodes is a range; `count` says how many there are in it."""

    action: str = ""
    section: str = ""
    name: str = ""
    count: int = 1
    fields: dict[str, FieldChange] = msgspec.field(default_factory=dict)
    line: int | None = None


class FleetPlan(Answer, frozen=True, kw_only=True):
    """What applying a fleet file changes. `refused`: why it cannot be applied."""

    applied: bool = False
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    changes: tuple[FleetChange, ...] = ()
    refused: tuple[str, ...] = ()
    makes_late: tuple[Endangered, ...] = ()
    warnings: tuple[str, ...] = ()


class CatalogueSku(Answer, frozen=True, kw_only=True):
    """A SKU to start from; memory in bytes, power in watts a node. `sources` says where a figure is from."""

    name: str
    title: str = ""
    accelerator: str = ""
    accelerators_per_node: int = 0
    accelerator_memory: int | None = None
    cpu: int = 0
    memory: int = 0
    nvlink: bool = False
    tdp_w: int = 0
    idle_w: int = 0
    leaf_size: int = 0
    sources: dict[str, str] = msgspec.field(default_factory=dict)


class FleetNode(Answer, frozen=True, kw_only=True):
    """`makes_late`: confirmed reservations that are short now, after a verb."""

    id: str
    hostname: str = ""
    sku: str = ""
    leaf: str = ""
    site: str = ""
    status: str = ""
    status_reason: StatusReason | None = None
    until: datetime | None = None
    maintenance: str | None = None
    delivery: str | None = None
    makes_late: tuple[Endangered, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None


class Delivery(Answer, frozen=True, kw_only=True):
    """Nodes that are ordered. `milestone` is the last one reached, `arrived` how many are in the fleet."""

    id: str
    name: str = ""
    site: str = ""
    sku: str = ""
    nodes: int = 0
    leaves: dict[str, int] = msgspec.field(default_factory=dict)
    confidence: float = 1
    service_at: datetime | None = None
    milestone: str | None = None
    arrived: int = 0
    makes_late: tuple[Endangered, ...] = ()


class Maintenance(Answer, frozen=True, kw_only=True):
    """A count of nodes of a leaf that is away for a window."""

    id: str
    leaf: str = ""
    sku: str = ""
    nodes: int = 0
    start: datetime | None = None
    end: datetime | None = None
    reason: str = ""
    makes_late: tuple[Endangered, ...] = ()
