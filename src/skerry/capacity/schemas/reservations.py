"""Reservations and their changes on the wire (API §4)."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, WrapValidator
from pydantic import StringConstraints as Text

from skerry.capacity import model
from skerry.capacity.asking import ChangeAsk, SplitPart
from skerry.capacity.binding.model import DeliveryRow
from skerry.capacity.binding.service import Delivered
from skerry.capacity.changing import Changed, ChangeKind, ChangeQuote
from skerry.capacity.model import OfferKind, ReservationStatus, Scope
from skerry.capacity.rules.reasons import why_not
from skerry.capacity.schemas.fields import (
    Energy,
    Label,
    Leg,
    Money,
    Nodes,
    Price,
    Ref,
    Second,
    Time,
    Wire,
    fields_as_sent,
)
from skerry.capacity.service import NewReservation
from skerry.kernel.ids import OfferId
from skerry.kernel.paging import Page

VERBS = ("confirm", "drop", *(kind.value for kind in ChangeKind))
Tags = Annotated[
    dict[Annotated[str, Text(min_length=1, max_length=128)], Annotated[str, Text(max_length=256)]],
    Field(max_length=50),
]


class ReservationIn(Wire):
    """An offer, held for some minutes, or with `confirm` bought at once."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"offer_id": "off_01kb3x0000000000000000000", "name": "pretraining"}]}
    )

    offer_id: Ref
    name: Label | None = None
    tags: Tags | None = None
    confirm: bool = False

    def to_new(self) -> NewReservation:
        return NewReservation(OfferId(self.offer_id), self.name, self.tags, self.confirm)


class StatusReason(BaseModel):
    code: str
    message: str


class Action(BaseModel):
    available: bool
    why_not: str | None


class ReservationOut(BaseModel):
    """`start` and `end` are of all its legs together; `expires_at` is a hold's."""

    id: str
    name: str
    status: ReservationStatus
    status_reason: StatusReason
    actions: dict[str, Action]
    sku: str
    nodes: int
    scope: Scope
    scope_required: bool
    start: Time
    end: Time
    legs: list[Leg]
    node_seconds: int
    price: Price
    energy: Energy
    tags: dict[str, str]
    parent: str | None
    created_at: Time
    updated_at: Time
    expires_at: Time | None
    confirmed_at: Time | None
    ended_at: Time | None

    @classmethod
    def of(cls, own: model.Reservation) -> "ReservationOut":
        refusals = {verb: why_not(own, verb) for verb in VERBS}
        return cls(
            id=own.id,
            name=own.name,
            status=own.status,
            status_reason=StatusReason(code=own.reason_code, message=own.reason),
            actions={verb: Action(available=no is None, why_not=no) for verb, no in refusals.items()},
            sku=own.sku,
            nodes=own.most_nodes,
            scope=own.scope,
            scope_required=own.scope_required,
            start=own.start,
            end=own.end,
            legs=[Leg.of(leg) for leg in own.legs],
            node_seconds=own.node_seconds,
            price=Price.of(own.price),
            energy=Energy.of(own.energy),
            tags=dict(own.tags),
            parent=own.parent,
            created_at=own.created_at,
            updated_at=own.updated_at,
            expires_at=own.expires_at,
            confirmed_at=own.confirmed_at,
            ended_at=own.ended_at,
        )


class EstimateOut(BaseModel):
    """The answer to `dry_run`: what it would cost. Nothing has changed."""

    offer_id: str | None
    kind: OfferKind | None
    start: Time
    end: Time
    legs: list[Leg]
    price: Price
    energy: Energy

    @classmethod
    def of_offer(cls, offer: model.Offer) -> "EstimateOut":
        return cls(
            offer_id=offer.id,
            kind=offer.kind,
            start=offer.start,
            end=offer.end,
            legs=[Leg.of(leg) for leg in offer.legs],
            price=Price.of(offer.price),
            energy=Energy.of(offer.energy),
        )

    @classmethod
    def of_reservation(cls, own: model.Reservation) -> "EstimateOut":
        return cls(
            offer_id=None,
            kind=None,
            start=own.start,
            end=own.end,
            legs=[Leg.of(leg) for leg in own.legs],
            price=Price.of(own.price),
            energy=Energy.of(own.energy),
        )


class CancelIn(Wire):
    """Give up all that is to come."""

    kind: Literal["cancel"]

    def to_ask(self) -> ChangeAsk:
        return ChangeAsk(self.kind)


class ExtendIn(Wire):
    """Keep the last nodes until `end_at`."""

    kind: Literal["extend"]
    end_at: Second

    def to_ask(self) -> ChangeAsk:
        return ChangeAsk(self.kind, end_at=self.end_at)


class ShrinkIn(Wire):
    """Keep `nodes` nodes from a moment on (`from`; default: now, or the start)."""

    kind: Literal["shrink"]
    nodes: Nodes
    since: Second | None = Field(default=None, alias="from")

    def to_ask(self) -> ChangeAsk:
        return ChangeAsk(self.kind, nodes=self.nodes, since=self.since)


class MoveIn(Wire):
    """The same at another time, or at another site."""

    kind: Literal["move"]
    start_at: Second
    site: Ref | None = None

    def to_ask(self) -> ChangeAsk:
        return ChangeAsk(self.kind, start_at=self.start_at, site=self.site)


class PartIn(Wire):
    project: Ref
    nodes: Nodes


class SplitIn(Wire):
    """Hand nodes to other projects of the organization, for all the time."""

    kind: Literal["split"]
    parts: list[PartIn] = Field(min_length=1, max_length=50)

    def to_ask(self) -> ChangeAsk:
        return ChangeAsk(self.kind, parts=tuple(SplitPart(part.project, part.nodes) for part in self.parts))


ChangeIn = Annotated[
    CancelIn | ExtendIn | ShrinkIn | MoveIn | SplitIn,
    Discriminator("kind"),
    WrapValidator(fields_as_sent("kind")),
]


class ApplyIn(Wire):
    change_quote_id: Ref


class PartOut(BaseModel):
    project: str
    legs: list[Leg]
    price: Price


class ChangeQuoteOut(BaseModel):
    """`charge` is what is to be paid more, the `fee` for what is given up included; `refund` is what is not to be paid
    any more. `new_legs` are all there are afterwards, `price` is of them; a split's `parts` are beside them.
    """

    id: str
    reservation: str
    kind: ChangeKind
    charge: Money
    refund: Money
    fee: Money
    new_legs: list[Leg]
    price: Price | None
    energy: Energy
    parts: list[PartOut]
    created_at: Time
    expires_at: Time

    @classmethod
    def of(cls, quote: ChangeQuote) -> "ChangeQuoteOut":
        plan = quote.plan
        return cls(
            id=quote.id,
            reservation=quote.reservation,
            kind=quote.kind,
            charge=Money.of(plan.charge, plan.currency),
            refund=Money.of(plan.refund, plan.currency),
            fee=Money.of(plan.fee, plan.currency),
            new_legs=[Leg.of(leg) for leg in plan.legs],
            price=Price.of(plan.price) if plan.price is not None else None,
            energy=Energy.of(plan.energy),
            parts=[
                PartOut(project=part.project, legs=[Leg.of(leg) for leg in part.legs], price=Price.of(part.price))
                for part in plan.parts
            ],
            created_at=quote.created_at,
            expires_at=quote.expires_at,
        )


class ChangedOut(ReservationOut):
    """The reservation afterwards; of a split `created` holds the ids of what was made of it."""

    created: list[str] = Field(default_factory=list)

    @classmethod
    def of_changed(cls, changed: Changed) -> "ChangedOut":
        own = ReservationOut.of(changed.reservation)
        return cls(**dict(own), created=[one.id for one in changed.created])


class DeliveryHour(BaseModel):
    """Node-seconds promised and delivered at a site within one clock hour."""

    site: str
    start: Time
    end: Time
    promised: int
    delivered: int


class DeliveryOut(BaseModel):
    """What is on record: hours that are over. The sums are of all of it, whatever page this is."""

    reservation: str
    promised_node_seconds: int
    delivered_node_seconds: int
    data: list[DeliveryHour]
    has_more: bool
    next_cursor: str | None

    @classmethod
    def of(cls, id: str, total: Delivered, page: Page[DeliveryRow]) -> "DeliveryOut":
        data = [
            DeliveryHour(site=row.site, start=row.start, end=row.end, promised=row.promised, delivered=row.delivered)
            for row in page.data
        ]
        return cls(
            reservation=id,
            promised_node_seconds=total.promised,
            delivered_node_seconds=total.delivered,
            data=data,
            has_more=page.has_more,
            next_cursor=page.next_cursor,
        )
