"""Capacity: what is free, what is offered, and what is reserved."""

from datetime import datetime
from decimal import Decimal

import msgspec

from skerry.client.answers.base import Answer, Money, StatusReason


class FreeNodes(msgspec.Struct, frozen=True, kw_only=True):
    """So many nodes are free at every moment of [start, end)."""

    start: datetime
    end: datetime
    free_nodes: int


class SiteSchedule(Answer, frozen=True, kw_only=True):
    """Free nodes of one SKU at one site over time. `nodes`: the most that will ever be for sale there."""

    site: str
    sku: str
    nodes: int = 0
    schedule: tuple[FreeNodes, ...] = ()


class Availability(Answer, frozen=True, kw_only=True):
    """A picture of the moment `as_of`, not a promise."""

    as_of: datetime
    start: datetime
    end: datetime
    data: tuple[SiteSchedule, ...] = ()


class PriceLine(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a price. `node_hour`: for one node and hour."""

    line: str
    node_hour: Decimal = Decimal(0)
    amount: Decimal = Decimal(0)


class ReservedPrice(msgspec.Struct, frozen=True, kw_only=True):
    """`hourly`: what all nodes together cost in an hour at full size."""

    total: Decimal
    hourly: Decimal = Decimal(0)
    currency: str = ""
    lines: tuple[PriceLine, ...] = ()


class OfferEnergy(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate: kilowatt-hours, and grams of CO2e."""

    kwh: float = 0
    gco2e: int = 0


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """`nodes` nodes of one leaf in [start, end). Counts: which nodes is decided shortly before the start."""

    leaf: str
    hall: str = ""
    site: str = ""
    nodes: int
    start: datetime
    end: datetime


class Offer(Answer, frozen=True, kw_only=True):
    """`site` None: over several. `fragmentation`: the share of its node-seconds in leaves that it does not fill."""

    id: str
    kind: str = ""
    start: datetime
    end: datetime
    site: str | None = None
    legs: tuple[Leg, ...] = ()
    fragmentation: float = 0
    price: ReservedPrice
    energy: OfferEnergy
    expires_at: datetime


class NoOffer(Answer, frozen=True, kw_only=True):
    """`earliest`: when so much is free; `nodes`: how many are free at the time asked for."""

    code: str
    message: str = ""
    earliest: datetime | None = None
    nodes: int | None = None


class Quote(Answer, frozen=True, kw_only=True):
    """Priced offers, the main one first. Nothing is kept until one is reserved."""

    id: str
    sku: str = ""
    nodes: int = 0
    capacity_class: str = ""
    scope: str = ""
    scope_required: bool = False
    offers: tuple[Offer, ...] = ()
    no_offer_reason: NoOffer | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None


class ReservationEstimate(Answer, frozen=True, kw_only=True):
    """What reserving or confirming would cost."""

    offer_id: str | None = None
    kind: str | None = None
    start: datetime
    end: datetime
    legs: tuple[Leg, ...] = ()
    price: ReservedPrice
    energy: OfferEnergy


class Reservation(Answer, frozen=True, kw_only=True):
    """`nodes`: the most at any moment. `start` and `end` are of all legs together; `expires_at` is a hold's."""

    id: str
    name: str = ""
    status: str = ""
    status_reason: StatusReason | None = None
    sku: str = ""
    nodes: int = 0
    scope: str = ""
    scope_required: bool = False
    start: datetime
    end: datetime
    legs: tuple[Leg, ...] = ()
    node_seconds: int = 0
    price: ReservedPrice
    energy: OfferEnergy
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    parent: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    expires_at: datetime | None = None
    confirmed_at: datetime | None = None
    ended_at: datetime | None = None
    created: tuple[str, ...] = ()
    """After a split: the reservations that were made of it."""


class SplitPart(msgspec.Struct, frozen=True, kw_only=True):
    project: str
    legs: tuple[Leg, ...] = ()
    price: ReservedPrice


class ChangeQuote(Answer, frozen=True, kw_only=True):
    """What a change would cost: `charge` is to be paid more, the `fee` included; `refund` is not to be paid any more.

    `new_legs` are all there are afterwards, `price` is of them.
    """

    id: str
    reservation: str = ""
    kind: str = ""
    charge: Money
    refund: Money
    fee: Money
    new_legs: tuple[Leg, ...] = ()
    price: ReservedPrice | None = None
    energy: OfferEnergy
    parts: tuple[SplitPart, ...] = ()
    created_at: datetime | None = None
    expires_at: datetime | None = None


class DeliveryHour(Answer, frozen=True, kw_only=True):
    """Node-seconds promised and delivered at a site within one clock hour."""

    site: str
    start: datetime
    end: datetime
    promised: int
    delivered: int


class DeliveryRecord(Answer, frozen=True, kw_only=True):
    """Sums over all hours that are over, in node-seconds. `data` has the first page of them."""

    reservation: str = ""
    promised_node_seconds: int = 0
    delivered_node_seconds: int = 0
    data: tuple[DeliveryHour, ...] = ()
