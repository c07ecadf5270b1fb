"""Values of capacity: what was asked, what is offered, what is promised."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from skerry.billing.model import ReservedPrice
from skerry.kernel.classes import CapacityClass
from skerry.kernel.ids import LeafId, OfferId, OrganizationId, ProjectId, QuoteId, ReservationId
from skerry.kernel.states import StateMachine
from skerry.kernel.windows import Schedule, Span, Window


class Scope(StrEnum):
    """How near its nodes stand to each other."""

    LEAF = "leaf"
    HALL = "hall"
    SITE = "site"
    ANY = "any"


class OfferKind(StrEnum):
    """What an offer is the best at."""

    EARLIEST = "earliest"
    AS_REQUESTED = "as_requested"
    CHEAPER = "cheaper"
    GREENER = "greener"


class ReservationStatus(StrEnum):
    """Where a reservation is (DESIGN §2)."""

    HELD = "held"
    CONFIRMED = "confirmed"
    DELIVERING = "delivering"
    LATE = "late"
    ACTIVE = "active"
    ENDED = "ended"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


RESERVATION_TRANSITIONS: Final = StateMachine(
    {
        ReservationStatus.HELD: {
            ReservationStatus.CONFIRMED,
            ReservationStatus.EXPIRED,
            ReservationStatus.CANCELLED,
        },
        ReservationStatus.CONFIRMED: {ReservationStatus.DELIVERING, ReservationStatus.CANCELLED},
        ReservationStatus.DELIVERING: {
            ReservationStatus.ACTIVE,
            ReservationStatus.LATE,
            ReservationStatus.CANCELLED,
        },
        ReservationStatus.LATE: {ReservationStatus.ACTIVE, ReservationStatus.CANCELLED},
        ReservationStatus.ACTIVE: {ReservationStatus.ENDED},
        ReservationStatus.ENDED: set(),
        ReservationStatus.EXPIRED: set(),
        ReservationStatus.CANCELLED: set(),
    }
)

LIVE: Final = frozenset(
    {
        ReservationStatus.HELD,
        ReservationStatus.CONFIRMED,
        ReservationStatus.DELIVERING,
        ReservationStatus.LATE,
        ReservationStatus.ACTIVE,
    }
)
"""In these its legs count against the calendar; `held` only until `expires_at`."""


@dataclass(frozen=True, slots=True)
class Leg:
    """`nodes` nodes of one leaf for one window. Counts, not names: nodes are bound late (DESIGN §5)."""

    leaf: LeafId
    leaf_name: str
    hall: str
    site: str
    """Names."""
    nodes: int
    window: Window
    id: str = ""
    """Of a reservation's leg; an offer's has none."""

    @property
    def node_seconds(self) -> int:
        return self.nodes * self.window.seconds


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """What a customer asks for; checked, with names resolved. Either `schedule` or `nodes` with `duration_seconds`.

    `start_at` fixes the start; without it the earliest from `earliest_after` on is sought. `sites` empty: any.
    """

    sku: str
    nodes: int
    duration_seconds: int
    start_at: datetime | None
    earliest_after: datetime
    schedule: Schedule | None = None
    sites: tuple[str, ...] = ()
    scope: Scope = Scope.ANY
    scope_required: bool = False
    capacity_class: CapacityClass = CapacityClass.RESERVED


@dataclass(frozen=True, slots=True)
class OfferEnergy:
    """An estimate from power figures and the grid's hourly carbon: watt-hours and grams."""

    wh: int
    gco2e: int


@dataclass(frozen=True, slots=True)
class Offer:
    """One choice of a quote; not a promise until it is held."""

    id: OfferId
    quote: QuoteId
    kind: OfferKind
    start: datetime
    end: datetime
    site: str | None
    """None: over several sites."""
    legs: tuple[Leg, ...]
    fragmentation: Decimal
    """Share of the nodes that do not fill whole leaves, 0…1."""
    price: ReservedPrice
    energy: OfferEnergy
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class NoOffer:
    """Why there is no offer, and the nearest that would work."""

    code: str
    message: str
    earliest: datetime | None = None
    nodes: int | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """A priced answer. Without offers `no_offer` says why."""

    id: QuoteId
    project: ProjectId
    request: QuoteRequest
    offers: tuple[Offer, ...]
    created_at: datetime
    expires_at: datetime
    no_offer: NoOffer | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """Capacity bought for windows. `status` as it is at this moment: a hold past `expires_at` reads as expired."""

    id: ReservationId
    project: ProjectId
    name: str
    sku: str
    status: ReservationStatus
    reason_code: str
    reason: str
    scope: Scope
    scope_required: bool
    legs: tuple[Leg, ...]
    price: ReservedPrice
    energy: OfferEnergy
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    """Of the hold; None once confirmed."""
    organization: OrganizationId
    version: int = 1
    """Another one after every change."""
    parent: ReservationId | None = None
    """What it was split from."""
    tags: Mapping[str, str] = field(default_factory=dict)
    confirmed_at: datetime | None = None
    ended_at: datetime | None = None
    """When it ended, was cancelled or lapsed."""

    @property
    def start(self) -> datetime:
        return min(leg.window.start for leg in self.legs)

    @property
    def end(self) -> datetime:
        return max(leg.window.end for leg in self.legs)

    @property
    def node_seconds(self) -> int:
        return sum(leg.node_seconds for leg in self.legs)

    @property
    def most_nodes(self) -> int:
        """At the moment at which they are most."""
        return Schedule.of(Span(leg.window, leg.nodes) for leg in self.legs).peak()
