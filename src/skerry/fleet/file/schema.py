"""What each section of a fleet file may say: the fields, how they are read, and which a new thing must have."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from skerry.fleet.file import fields as f
from skerry.fleet.file.model import Section
from skerry.fleet.model import NodeStatus

NO_DEFAULT: Final = object()


@dataclass(frozen=True, slots=True)
class Field:
    """`default`: what a new thing has that does not say; without one it must. `nullable`: `null` clears it."""

    read: f.Read
    default: Any = NO_DEFAULT
    nullable: bool = False


OPTIONAL: Final[Mapping[str, Any]] = {"default": None, "nullable": True}

SKUS: Final = {
    "name": Field(f.name),
    "accelerator": Field(f.words(100)),
    "accelerators_per_node": Field(f.whole(1, 1024)),
    "accelerator_memory": Field(f.size, **OPTIONAL),
    "cpu": Field(f.whole(1, 65_536)),
    "memory": Field(f.size),
    "nvlink": Field(f.truth, default=False),
    "tdp_w": Field(f.whole(1, 10_000_000), **OPTIONAL),
    "idle_w": Field(f.whole(0, 10_000_000), **OPTIONAL),
    "on_demand_nodes": Field(f.whole(0), **OPTIONAL),
}
SITES: Final = {
    "name": Field(f.name),
    "country": Field(f.country, **OPTIONAL),
    "grid_zone": Field(f.words(40), **OPTIONAL),
    "pue": Field(f.number("1", "10"), **OPTIONAL),
    "power_cap_kw": Field(f.number("0", above=True), **OPTIONAL),
    "energy_price": Field(f.price, **OPTIONAL),
    "carbon": Field(f.carbon, **OPTIONAL),
    "carbon_source": Field(f.words(300), **OPTIONAL),
}
HALLS: Final = {"name": Field(f.name), "site": Field(f.name)}
LEAVES: Final = {
    "name": Field(f.name),
    "hall": Field(f.name),
    "fabric": Field(f.words(40), **OPTIONAL),
    "spares": Field(f.whole(0), default=0),
}
NODES: Final = {
    "hostname": Field(f.words(2000)),
    "sku": Field(f.name),
    "leaf": Field(f.name),
    "accelerators": Field(f.whole(0, 1024), default=None),
    "status": Field(f.one_of(NodeStatus.READY, NodeStatus.REGISTERING), default=NodeStatus.READY),
    "delivery": Field(f.name, **OPTIONAL),
}
DELIVERIES: Final = {
    "name": Field(f.name),
    "site": Field(f.name),
    "sku": Field(f.name),
    "nodes": Field(f.whole(1, 1_000_000)),
    "service_at": Field(f.moment),
    "confidence": Field(f.number("0", "1"), default=Decimal(1)),
    "leaves": Field(f.counts, default=None),
    "hall": Field(f.name, default=None),
    "leaf_size": Field(f.whole(1, 100_000), default=None),
    "leaf_prefix": Field(f.name, default=None),
    "milestones": Field(f.milestones, default={}),
}
MAINTENANCE: Final = {
    "leaf": Field(f.name),
    "sku": Field(f.name),
    "nodes": Field(f.whole(1)),
    "start": Field(f.moment),
    "end": Field(f.moment),
    "reason": Field(f.words(300)),
}

SECTIONS: Final[Mapping[Section, Mapping[str, Field]]] = {
    Section.SKUS: SKUS,
    Section.SITES: SITES,
    Section.HALLS: HALLS,
    Section.LEAVES: LEAVES,
    Section.DELIVERIES: DELIVERIES,
    Section.NODES: NODES,
    Section.MAINTENANCE: MAINTENANCE,
}

ALWAYS: Final[Mapping[Section, tuple[str, ...]]] = {
    Section.NODES: ("hostname", "sku", "leaf"),
    Section.MAINTENANCE: ("leaf", "sku", "nodes", "start", "end", "reason"),
    Section.DELIVERIES: ("name", "site", "sku", "nodes", "service_at"),
}
"""Fields without which an entry says nothing, whether it is new or not. Elsewhere only its name is needed."""

REFERS: Final[Mapping[Section, Mapping[str, Section]]] = {
    Section.HALLS: {"site": Section.SITES},
    Section.LEAVES: {"hall": Section.HALLS},
    Section.DELIVERIES: {"site": Section.SITES, "sku": Section.SKUS, "hall": Section.HALLS},
    Section.NODES: {"sku": Section.SKUS, "leaf": Section.LEAVES, "delivery": Section.DELIVERIES},
    Section.MAINTENANCE: {"leaf": Section.LEAVES, "sku": Section.SKUS},
}
"""Fields that name another thing."""

ONE: Final[Mapping[Section, str]] = {
    Section.SKUS: "SKU",
    Section.SITES: "site",
    Section.HALLS: "hall",
    Section.LEAVES: "leaf",
    Section.DELIVERIES: "delivery",
    Section.NODES: "node",
    Section.MAINTENANCE: "maintenance",
}


def defaults(section: Section) -> dict[str, Any]:
    """What a new thing has that does not say."""
    return {name: field.default for name, field in SECTIONS[section].items() if field.default is not NO_DEFAULT}


def required(section: Section) -> list[str]:
    """What a new thing must say."""
    return [name for name, field in SECTIONS[section].items() if field.default is NO_DEFAULT]
