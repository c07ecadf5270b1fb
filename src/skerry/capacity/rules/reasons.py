"""Why a reservation is in the state it is in, and what to do (I8)."""

from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from skerry.capacity.model import Reservation, ReservationStatus


class ReasonCode(StrEnum):
    """Codes of `status_reason` that come of what customers do; delivery has its own (`binding`)."""

    ON_HOLD = "on_hold"
    """Kept until `expires_at`."""
    BOUGHT = "bought"
    """Confirmed; its nodes are chosen shortly before the start."""
    SPLIT_OFF = "split_off"
    """It was a part of its parent, and is sold on the same terms."""
    DROPPED = "dropped"
    """The hold was given back."""
    HOLD_LAPSED = "hold_lapsed"
    """The hold was not confirmed in time."""
    CANCELLED_BY_CUSTOMER = "cancelled_by_customer"
    ALL_SPLIT_OFF = "all_split_off"
    """All of its nodes went to other reservations."""

    @property
    def advice(self) -> str:
        return _ADVICE[self]


_ADVICE: Final = {
    ReasonCode.ON_HOLD: "Confirm it before it lapses, or drop it.",
    ReasonCode.BOUGHT: "Nothing to do; it becomes active at its start.",
    ReasonCode.SPLIT_OFF: "Nothing to do; it becomes active at its start.",
    ReasonCode.DROPPED: "Ask for a new quote to reserve again.",
    ReasonCode.HOLD_LAPSED: "Ask for a new quote to reserve again.",
    ReasonCode.CANCELLED_BY_CUSTOMER: "Ask for a new quote to reserve again.",
    ReasonCode.ALL_SPLIT_OFF: "Look at the reservations that were made of it.",
}

BEFORE_DELIVERY: Final = frozenset({ReservationStatus.CONFIRMED})
SOLD: Final = frozenset(
    {
        ReservationStatus.CONFIRMED,
        ReservationStatus.DELIVERING,
        ReservationStatus.LATE,
        ReservationStatus.ACTIVE,
    }
)
"""Confirmed and not over."""


def why_not(reservation: Reservation, verb: str) -> str | None:
    """Why a verb is not possible in the status a reservation has; None where it is."""
    status = reservation.status
    if verb in ("confirm", "drop"):
        return None if status is ReservationStatus.HELD else f"It is {status}, not held."
    if status is ReservationStatus.HELD:
        return "It is only held: confirm it first, or drop it and ask for another quote."
    if status not in SOLD:
        return f"It is {status}."
    if verb in ("move", "split") and status not in BEFORE_DELIVERY:
        return f"It is {status}: its nodes are chosen already."
    return None


def as_of(reservation: Reservation, now: datetime) -> Reservation:
    """As it reads at this moment: a hold past its time is expired, whether or not that is written down."""
    if reservation.status is not ReservationStatus.HELD or reservation.expires_at is None:
        return reservation
    if now < reservation.expires_at:
        return reservation
    return replace(
        reservation,
        status=ReservationStatus.EXPIRED,
        reason_code=ReasonCode.HOLD_LAPSED,
        reason="It was not confirmed in time.",
        ended_at=reservation.expires_at,
    )
