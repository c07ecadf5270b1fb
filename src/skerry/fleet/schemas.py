"""The fleet on the wire (API §3)."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, PlainSerializer

from skerry.fleet import model
from skerry.fleet.model import NodeStatus
from skerry.kernel.clock import rfc3339
from skerry.kernel.money import Money, plain

T = TypeVar("T")
Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]
Number = Annotated[Decimal, PlainSerializer(float, return_type=float)]
"""A physical quantity (never money): a JSON number."""


class Wire(BaseModel):
    model_config = ConfigDict(from_attributes=True, frozen=True)


class ListOf(Wire, Generic[T]):
    data: list[T]
    has_more: bool
    next_cursor: str | None


class Amount(Wire):
    amount: str
    currency: str

    @classmethod
    def of(cls, money: Money) -> "Amount":
        return cls(amount=plain(money.amount), currency=money.currency)


class Site(Wire):
    id: str
    name: str
    country: str | None
    grid_zone: str | None
    pue: Number | None
    power_cap_kw: Number | None
    energy_price: Amount | None
    carbon_source: str | None
    created_at: Time

    @classmethod
    def of(cls, site: model.Site) -> "Site":
        price = Amount.of(site.energy_price) if site.energy_price is not None else None
        return cls(
            id=site.id,
            name=site.name,
            country=site.country,
            grid_zone=site.grid_zone,
            pue=site.pue,
            power_cap_kw=site.power_cap_kw,
            energy_price=price,
            carbon_source=site.carbon_source,
            created_at=site.created_at,
        )


class Hall(Wire):
    id: str
    name: str
    site: str
    created_at: Time


class Leaf(Wire):
    id: str
    name: str
    hall: str
    site: str
    fabric: str | None
    spares: int
    created_at: Time


class Sku(Wire):
    id: str
    name: str
    accelerator: str
    accelerators_per_node: int
    cpu: int
    memory: int
    nvlink: bool
    tdp_w: int | None
    idle_w: int | None
    on_demand_nodes: int | None
    created_at: Time


class Accelerator(Wire):
    index: int
    type: str
    memory_bytes: int | None
    uuid: str | None


class StatusReason(Wire):
    code: str
    message: str


class Node(Wire):
    id: str
    hostname: str
    sku: str
    leaf: str
    site: str
    accelerators: list[Accelerator]
    status: NodeStatus
    status_reason: StatusReason | None
    health: dict[str, Any]
    created_at: Time
    updated_at: Time

    @classmethod
    def of(cls, node: model.Node) -> "Node":
        reason = StatusReason.model_validate(node.status_reason) if node.status_reason else None
        return cls(
            id=node.id,
            hostname=node.hostname,
            sku=node.sku,
            leaf=node.leaf,
            site=node.site,
            accelerators=[Accelerator.model_validate(accelerator) for accelerator in node.accelerators],
            status=node.status,
            status_reason=reason,
            health=dict(node.health),
            created_at=node.created_at,
            updated_at=node.updated_at,
        )
