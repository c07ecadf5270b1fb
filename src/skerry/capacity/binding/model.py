"""Values of the binder: why a reservation is where it is, what a node's engine says, what was delivered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from skerry.capacity.model import ReservationStatus
from skerry.fleet.model import Node
from skerry.kernel.ids import NodeId, ProjectId, ReservationId

KIND: Final = "reservation"
"""Kind of the resource, payload of the hint to the reconciler, and topic of the outbox."""


class BindingReason(StrEnum):
    """Why a confirmed reservation is where it is. `advice` says what to do about it (I8)."""

    HANDING_OVER = "handing_over"
    """Its nodes are chosen; whoever runs them is asked whether they are there."""
    WAITING_FOR_START = "waiting_for_start"
    """All nodes are chosen and there; its window has not begun."""
    SHORT_OF_NODES = "short_of_nodes"
    """A leaf has fewer healthy nodes than were promised there, and no spare is left."""
    NO_ENGINE = "no_engine"
    """No engine has one of its nodes."""
    ENGINE_UNAVAILABLE = "engine_unavailable"
    """The engine that has its nodes does not answer."""
    NODE_NOT_READY = "node_not_ready"
    """An engine has the node and does not take work on it."""
    DELIVERY_FAILED = "delivery_failed"
    """Handing it over has failed; the message says how."""
    DELIVERED = "delivered"
    """All that was promised for now is there."""
    WINDOW_OVER = "window_over"
    """Its window is over."""
    NEVER_DELIVERED = "never_delivered"
    """Its window is over and it was never there as a whole. Nothing is charged for it."""
    HOLD_LAPSED = "hold_lapsed"
    """It was not confirmed in time."""

    @property
    def advice(self) -> str:
        return _ADVICE[self]


_ADVICE: Final[Mapping[BindingReason, str]] = {
    BindingReason.HANDING_OVER: "Wait: it becomes active at its start.",
    BindingReason.WAITING_FOR_START: "Wait for its start.",
    BindingReason.SHORT_OF_NODES: "Wait: a mended node is added by itself. What is missing is not charged.",
    BindingReason.NO_ENGINE: "Wait: operators connect the engine of these nodes. What is missing is not charged.",
    BindingReason.ENGINE_UNAVAILABLE: "Wait: it goes on when the engine answers. Operators see it in `skerry status`.",
    BindingReason.NODE_NOT_READY: "Wait: operators mend or replace the node. What is missing is not charged.",
    BindingReason.DELIVERY_FAILED: "Wait: it is tried again. What is missing is not charged.",
    BindingReason.DELIVERED: "Nothing to do.",
    BindingReason.WINDOW_OVER: "Nothing to do. Ask for a quote to go on.",
    BindingReason.NEVER_DELIVERED: "Ask for a quote for another window.",
    BindingReason.HOLD_LAPSED: "Ask for a new quote.",
}


@dataclass(frozen=True, slots=True)
class Handover:
    """What is known of a node that is to be handed over. `ready`: its holder may use it."""

    ready: bool
    code: BindingReason = BindingReason.DELIVERED
    message: str = ""


class Deliverer(Protocol):
    """Whoever runs nodes says whether they are there for those who reserved them (compute)."""

    async def look(self, nodes: Sequence[Node], reservation: ReservationId) -> Mapping[NodeId, Handover]:
        """A word on each of these nodes, which it is to have. May take a while; raises nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Booked:
    """A reservation as the binder reads it."""

    id: ReservationId
    project: ProjectId
    sku: str
    status: ReservationStatus
    reason_code: str
    reason: str
    start: datetime
    end: datetime
    parent: ReservationId | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Work:
    """A reservation under lease. `hints` is the count of hints when it was claimed."""

    id: ReservationId
    project: ProjectId
    lease_token: str
    hints: int
    failures: int
    active_at: datetime | None
    metered_through: datetime | None


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """Node-seconds promised and delivered at one site, within one clock hour."""

    site: str
    start: datetime
    end: datetime
    promised: int
    delivered: int


@dataclass(frozen=True, slots=True)
class BoundNode:
    """A node of a reservation, now or later, and whether it was handed over."""

    node: NodeId
    leaf: str
    start: datetime
    end: datetime
    delivered_at: datetime | None
