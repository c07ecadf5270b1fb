"""What a reservation becomes, given what there is of its nodes. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from skerry.capacity.binding.model import BindingReason, Handover
from skerry.capacity.model import ReservationStatus

_SOON: Final = timedelta(seconds=5)
"""Between looks while something is missing."""
_SHORTLY: Final = timedelta(seconds=15)
"""Between looks while an active reservation is short: its engine or a mended node is asked for again."""
_SELDOM: Final = timedelta(minutes=5)
"""Between looks that nothing asked for."""
GRACE: Final = timedelta(seconds=5)
"""After an hour's end, before it is closed: a change that was being made then is on record."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A reservation and its nodes. `wanted`: nodes promised for now, or for its start if that is to come.

    `bound` of them are chosen, `there` of those were handed over, the last of them at `there_at`. `waiting`: what is
    known of those that are chosen and not there. `fresh`: nodes were chosen this moment, and nobody was asked yet.
    """

    status: ReservationStatus
    start: datetime
    end: datetime
    wanted: int
    bound: int
    there: int
    there_at: datetime | None = None
    waiting: Sequence[Handover] = ()
    fresh: bool = False

    @property
    def whole(self) -> bool:
        return self.there >= self.wanted


@dataclass(frozen=True, slots=True)
class Decision:
    """`status` None: it stays. `active_at`: it was there as a whole from then on. `again`: when to look again."""

    status: ReservationStatus | None
    code: BindingReason
    message: str
    again: datetime
    active_at: datetime | None = None


def decide(one: Standing, now: datetime, lead: timedelta) -> Decision:
    """The one next step."""
    match one.status:
        case ReservationStatus.CONFIRMED:
            if now < one.start - lead:
                return Decision(None, BindingReason.WAITING_FOR_START, "", one.start - lead)
            return _go(ReservationStatus.DELIVERING, BindingReason.HANDING_OVER, _counts(one), now)
        case ReservationStatus.DELIVERING:
            return _delivering(one, now)
        case ReservationStatus.LATE:
            return _late(one, now)
        case ReservationStatus.ACTIVE:
            return _active(one, now)
        case _:
            raise ValueError(f"a reservation that is {one.status} has no nodes to come")


def next_hour(now: datetime) -> datetime:
    """When the hour that now is may be closed."""
    return now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1) + GRACE


def _delivering(one: Standing, now: datetime) -> Decision:
    if now < one.start:
        if one.whole:
            return Decision(None, BindingReason.WAITING_FOR_START, _counts(one), one.start)
        code, message = _missing(one)
        if one.bound >= one.wanted and code is not BindingReason.SHORT_OF_NODES and not one.waiting:
            code, message = BindingReason.HANDING_OVER, _counts(one)
        return Decision(None, code, message, now if one.fresh else min(one.start, now + _SOON))
    if one.whole and now < one.end:
        active_at = max(one.start, one.there_at or one.start)
        return _go(ReservationStatus.ACTIVE, BindingReason.DELIVERED, _counts(one), now, active_at)
    if one.fresh and now < one.end:
        return Decision(None, BindingReason.HANDING_OVER, _counts(one), now)
    return _go(ReservationStatus.LATE, *_missing(one), now)


def _late(one: Standing, now: datetime) -> Decision:
    if now >= one.end:
        message = "Its window is over, and it was never there as a whole. Nothing is charged for it."
        return _go(ReservationStatus.CANCELLED, BindingReason.NEVER_DELIVERED, message, now)
    if one.whole:
        return _go(ReservationStatus.ACTIVE, BindingReason.DELIVERED, _counts(one), now, now)
    return Decision(None, *_missing(one), now if one.fresh else min(one.end, now + _SOON))


def _active(one: Standing, now: datetime) -> Decision:
    if now >= one.end:
        return _go(ReservationStatus.ENDED, BindingReason.WINDOW_OVER, "Its window is over.", now)
    again = min(one.end, next_hour(now), now + _SELDOM)
    if one.whole:
        # Known already, but for one that was split off while its parent was active.
        active_at = max(one.start, one.there_at or one.start)
        return Decision(None, BindingReason.DELIVERED, _counts(one), again, active_at)
    return Decision(None, *_missing(one), now if one.fresh else min(again, now + _SHORTLY))


def _go(
    status: ReservationStatus, code: BindingReason, message: str, now: datetime, active_at: datetime | None = None
) -> Decision:
    return Decision(status, code, message, now, active_at)


def _missing(one: Standing) -> tuple[BindingReason, str]:
    """The worst of what is in the way: too few nodes, then what the engines say."""
    if one.bound < one.wanted:
        return BindingReason.SHORT_OF_NODES, f"{one.wanted - one.bound} of {one.wanted} nodes are missing."
    refused = [word for word in one.waiting if not word.ready]
    if refused:
        count = f"{len(refused)} of {one.wanted} nodes are not there yet"
        return refused[0].code, f"{count}: {refused[0].message}" if refused[0].message else f"{count}."
    return BindingReason.HANDING_OVER, _counts(one)


def _counts(one: Standing) -> str:
    return f"{min(one.there, one.wanted)} of {one.wanted} nodes are there."
