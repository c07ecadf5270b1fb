"""The fleet on the wire (API §3): what there is."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, PlainSerializer

from skerry.fleet import model
from skerry.fleet.model import NodeStatus
from skerry.fleet.rules.nodes import NodeVerb, actions
from skerry.kernel.clock import rfc3339
from skerry.kernel.money import Money, plain
from skerry.runtime.events import Event

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


class CarbonOut(Wire):
    """Grams of CO2e a kWh for each hour of the day (UTC). `estimated`: a mean of a year, not the site's own figures."""

    g_per_kwh: Number
    hourly: list[Number]
    source: str
    estimated: bool

    @classmethod
    def of(cls, carbon: model.Carbon) -> "CarbonOut":
        return cls(
            g_per_kwh=round(carbon.mean, 3),
            hourly=list(carbon.hourly),
            source=carbon.source,
            estimated=carbon.estimated,
        )


class EndangeredOut(Wire):
    """A confirmed reservation that is short now, and for how many nodes."""

    reservation: str
    project: str
    starts: Time
    leaf: str
    nodes_short: int

    @classmethod
    def of(cls, one: model.Endangered) -> "EndangeredOut":
        return cls(
            reservation=one.reservation,
            project=one.project,
            starts=one.starts,
            leaf=one.leaf_name,
            nodes_short=one.nodes_short,
        )


class EventOut(Wire):
    """Something that happened, in the operator's own timeline."""

    id: str
    at: Time
    type: str
    resource: str
    resource_kind: str
    data: dict[str, Any]
    position: str

    @classmethod
    def of(cls, event: Event) -> "EventOut":
        return cls(
            id=event.id,
            at=event.at,
            type=event.type,
            resource=event.resource,
            resource_kind=event.resource_kind,
            data=dict(event.data),
            position=event.position,
        )


class Site(Wire):
    id: str
    name: str
    country: str | None
    grid_zone: str | None
    pue: Number | None
    power_cap_kw: Number | None
    energy_price: Amount | None
    carbon_source: str | None
    carbon: CarbonOut | None
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
            carbon=CarbonOut.of(site.carbon) if site.carbon is not None else None,
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
    accelerator_memory: int | None
    sources: dict[str, str]
    created_at: Time


class Accelerator(Wire):
    index: int
    type: str
    memory_bytes: int | None
    uuid: str | None


class StatusReason(Wire):
    code: str
    message: str


class Action(Wire):
    """Whether a verb can be used now, and why not."""

    available: bool
    why_not: str | None = None


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
    until: Time | None
    """When it counts again, if it was taken out for a time."""
    maintenance: str | None
    delivery: str | None
    actions: dict[NodeVerb, Action]
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
            until=node.until,
            maintenance=node.maintenance,
            delivery=node.delivery,
            actions={
                verb: Action(available=not why_not, why_not=why_not or None)
                for verb, why_not in actions(node.status).items()
            },
            created_at=node.created_at,
            updated_at=node.updated_at,
        )
