"""The fleet on the wire (API §3): what is done to it, and what is planned."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from skerry.fleet import model
from skerry.fleet.deliveries import DeliveryChange, NewDelivery
from skerry.fleet.file.model import Action, Change, Plan, Section
from skerry.fleet.model import Milestone, MilestoneDates
from skerry.fleet.rules.deliveries import MOST_NODES
from skerry.fleet.rules.nodes import NodeVerb
from skerry.fleet.schemas.things import EndangeredOut, Node, Number, Time, Wire
from skerry.fleet.upkeep import MaintenanceWish, NodeWish
from skerry.identity.schemas.base import UtcTime
from skerry.identity.schemas.base import Wire as Body
from skerry.kernel.clock import rfc3339
from skerry.kernel.money import Money, plain


def _storable(text: str) -> str:
    """Without what a database cannot keep and a terminal would act on; lines may end."""
    if not all(char.isprintable() or char in "\n\t" for char in text):
        raise ValueError("it must be printable")
    return text


Words = Annotated[
    str, StringConstraints(min_length=1, max_length=300, strip_whitespace=True), AfterValidator(_storable)
]
Ref = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_storable)]
Count = Annotated[int, Field(strict=True, ge=1, le=MOST_NODES)]
Share = Annotated[Decimal, Field(ge=0, le=1, max_digits=12, allow_inf_nan=False)]
NewName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class NodeVerbBody(Body):
    """`until`: from then on the node counts again. `maintenance`: the window it is taken out for, which then counts one
    node less by itself. `force`: even if it leaves confirmed reservations short."""

    reason: Words
    until: UtcTime | None = None
    maintenance: Ref | None = None
    force: bool = False

    def to_wish(self, verb: NodeVerb) -> NodeWish:
        return NodeWish(verb, self.reason, self.until, self.maintenance, self.force)


class MovedNode(Node):
    """The node, and which confirmed reservations are short now."""

    makes_late: list[EndangeredOut] = Field(default_factory=list)

    @classmethod
    def moved(cls, node: model.Node, late: list[model.Endangered]) -> "MovedNode":
        return cls(**dict(Node.of(node)), makes_late=[EndangeredOut.of(one) for one in late])


class CheckBody(Body):
    """What a check found; `at` is now unless given."""

    check: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    ok: bool
    detail: Annotated[str, StringConstraints(max_length=2000), AfterValidator(_storable)] = ""
    at: UtcTime | None = None


class CheckOut(Wire):
    id: str
    node: str
    check: str
    at: Time
    ok: bool
    detail: str


class MaintenanceBody(Body):
    """`sku` may be left out where the leaf has only one."""

    leaf: Ref
    sku: Ref | None = None
    nodes: Count
    start: UtcTime
    end: UtcTime
    reason: Words
    force: bool = False

    def to_wish(self) -> MaintenanceWish:
        return MaintenanceWish(self.leaf, self.sku, self.nodes, self.start, self.end, self.reason, self.force)


class MaintenanceOut(Wire):
    id: str
    leaf: str
    sku: str
    nodes: int
    start: Time
    end: Time
    reason: str
    created_at: Time


class PlannedMaintenance(MaintenanceOut):
    """The window, and which confirmed reservations are short by it."""

    makes_late: list[EndangeredOut] = Field(default_factory=list)

    @classmethod
    def planned(cls, window: model.Maintenance, late: list[model.Endangered]) -> "PlannedMaintenance":
        out = MaintenanceOut.model_validate(window)
        return cls(**dict(out), makes_late=[EndangeredOut.of(one) for one in late])


class MilestoneBody(Body):
    """When it is to be reached, and when it was."""

    planned_at: UtcTime | None = None
    reached_at: UtcTime | None = None

    def to_dates(self) -> MilestoneDates:
        return MilestoneDates(self.planned_at, self.reached_at)


Milestones = dict[Milestone, MilestoneBody]


class DeliveryBody(Body):
    """Either `leaves` that there are, with their nodes, or `hall` and `leaf_size`: leaves are made."""

    name: NewName | None = None
    site: Ref
    sku: Ref
    nodes: Count
    service_at: UtcTime
    confidence: Share = Decimal(1)
    leaves: Annotated[dict[Ref, Count], Field(max_length=10_000)] | None = None
    hall: Ref | None = None
    leaf_size: Count | None = None
    leaf_prefix: NewName | None = None
    milestones: Milestones = Field(default_factory=dict)

    def to_new(self) -> NewDelivery:
        return NewDelivery(
            name=self.name,
            site=self.site,
            sku=self.sku,
            nodes=self.nodes,
            service_at=self.service_at,
            confidence=self.confidence,
            leaves=self.leaves or {},
            hall=self.hall,
            leaf_size=self.leaf_size,
            leaf_prefix=self.leaf_prefix,
            milestones={name: dates.to_dates() for name, dates in self.milestones.items()},
        )


class DeliveryChangeBody(Body):
    """What is left out stays. A milestone that is named is replaced whole."""

    service_at: UtcTime | None = None
    confidence: Share | None = None
    milestones: Milestones = Field(default_factory=dict)
    force: bool = False

    def to_change(self) -> DeliveryChange:
        dates = {name: dates.to_dates() for name, dates in self.milestones.items()}
        return DeliveryChange(self.service_at, self.confidence, dates, self.force)


class MilestoneOut(Wire):
    name: Milestone
    planned_at: Time | None
    reached_at: Time | None


class DeliveryOut(Wire):
    """`milestone`: the last one reached. `arrived`: nodes of it that are in the fleet by themselves."""

    id: str
    name: str
    site: str
    sku: str
    nodes: int
    leaves: dict[str, int]
    confidence: Number
    service_at: Time
    milestone: Milestone | None
    milestones: list[MilestoneOut]
    arrived: int
    created_at: Time
    updated_at: Time
    makes_late: list[EndangeredOut] = Field(default_factory=list)

    @classmethod
    def of(cls, delivery: model.Delivery, late: list[model.Endangered] | None = None) -> "DeliveryOut":
        dates = {name: delivery.milestones.get(name, MilestoneDates()) for name in Milestone}
        return cls(
            id=delivery.id,
            name=delivery.name,
            site=delivery.site,
            sku=delivery.sku,
            nodes=delivery.nodes,
            leaves=dict(delivery.leaves),
            confidence=delivery.confidence,
            service_at=delivery.service_at,
            milestone=delivery.reached,
            milestones=[
                MilestoneOut(name=name, planned_at=one.planned, reached_at=one.reached) for name, one in dates.items()
            ],
            arrived=delivery.arrived,
            created_at=delivery.created_at,
            updated_at=delivery.updated_at,
            makes_late=[EndangeredOut.of(one) for one in late or []],
        )


class Cancelled(Wire):
    """Which confirmed reservations are short now."""

    makes_late: list[EndangeredOut]


class FileBody(Body):
    """A fleet file, as text. `prune`: what it does not name is removed, never what is sold or discovered."""

    document: Annotated[str, StringConstraints(max_length=8 * 1024 * 1024)]
    prune: bool = False


class FieldChange(Wire):
    before: Any
    after: Any


class ChangeOut(Wire):
    """`name` of nodes is a range; `count` says how many there are in it."""

    action: Action
    section: Section
    name: str
    count: int
    fields: dict[str, FieldChange]
    line: int | None

    @classmethod
    def of(cls, change: Change) -> "ChangeOut":
        fields = {
            name: FieldChange(before=shown(before), after=shown(after))
            for name, (before, after) in change.fields.items()
        }
        return cls(
            action=change.action,
            section=change.section,
            name=change.name,
            count=change.count,
            fields=fields,
            line=change.line,
        )


class PlanOut(Wire):
    """`refused`: why it cannot be applied. `makes_late`: confirmed reservations made late by deliveries that slip."""

    applied: bool
    counts: dict[Action, int]
    changes: list[ChangeOut]
    refused: list[str]
    makes_late: list[EndangeredOut]
    warnings: list[str]

    @classmethod
    def of(cls, plan: Plan) -> "PlanOut":
        return cls(
            applied=plan.applied,
            counts=plan.counts(),
            changes=[ChangeOut.of(change) for change in plan.changes],
            refused=list(plan.refused),
            makes_late=[EndangeredOut.of(one) for one in plan.late],
            warnings=list(plan.warnings),
        )


def shown(value: Any) -> Any:
    """A value of a fleet file as JSON; numbers stay as they are written."""
    match value:
        case Decimal():
            return plain(value)
        case datetime():
            return rfc3339(value)
        case Money():
            return {"amount": plain(value.amount), "currency": value.currency}
        case MilestoneDates():
            return {"planned": shown(value.planned), "reached": shown(value.reached)}
        case dict():
            return {str(key): shown(one) for key, one in value.items()}
        case list():
            return [shown(one) for one in value]
    return value


class CatalogueOut(Wire):
    """A SKU to start from. `sources` says where each figure is from; `assumed` ones are guesses."""

    name: str
    title: str
    accelerator: str
    accelerators_per_node: int
    accelerator_memory: int | None
    cpu: int
    memory: int
    nvlink: bool
    tdp_w: int
    idle_w: int
    leaf_size: int
    sources: dict[str, str]


class LeafRow(Wire):
    """What a leaf has of one SKU now."""

    site: str
    country: str | None
    hall: str
    leaf: str
    sku: str
    spares: int
    size: int
    """Nodes it may ever have, planned ones included."""
    statuses: dict[str, int]
    sellable: int
    """How many may be promised now."""
    planned: int
    """How many more may be promised at some time from now on."""


class Overview(Wire):
    data: list[LeafRow]
