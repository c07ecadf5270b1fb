"""Values of changes: what is quoted before a reservation is changed."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from skerry.billing.model import ReservedPrice
from skerry.capacity.asking import ChangeAsk
from skerry.capacity.model import Leg, OfferEnergy, Reservation
from skerry.kernel.ids import ProjectId, ReservationId


class ChangeKind(StrEnum):
    """What can be changed of a reservation."""

    CANCEL = "cancel"
    """Give up all that is to come."""
    EXTEND = "extend"
    """Keep the last nodes for longer."""
    SHRINK = "shrink"
    """Give up some nodes, from a moment on."""
    MOVE = "move"
    """The same, at another time or site; before it is delivered."""
    SPLIT = "split"
    """Hand nodes to other projects of the organization; before it is delivered."""


@dataclass(frozen=True, slots=True)
class PartLegs:
    """What a split hands to a project."""

    project: ProjectId
    legs: tuple[Leg, ...]
    price: ReservedPrice
    energy: OfferEnergy


@dataclass(frozen=True, slots=True)
class ChangePlan:
    """What a change does. `legs` are all that the reservation has afterwards, used parts included.

    `charge` and `refund`: what its price rises or falls by, and to `charge` comes the `fee` for what is given up.
    """

    legs: tuple[Leg, ...]
    price: ReservedPrice | None
    """Of `legs`; None: nothing is left of it."""
    energy: OfferEnergy
    charge: Decimal
    refund: Decimal
    fee: Decimal
    currency: str
    parts: tuple[PartLegs, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeQuote:
    """Good once, until `expires_at`, for this version of the reservation."""

    id: str
    reservation: ReservationId
    project: ProjectId
    ask: ChangeAsk
    version: int
    plan: ChangePlan
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None

    @property
    def kind(self) -> ChangeKind:
        return ChangeKind(self.ask.kind)


@dataclass(frozen=True, slots=True)
class Changed:
    """The reservation afterwards, and those that were made of it."""

    reservation: Reservation
    created: tuple[Reservation, ...] = field(default=())
