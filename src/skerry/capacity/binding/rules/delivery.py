"""What was promised and what was delivered, in node-seconds, hour by hour. Pure.

A piece of the record is a clock hour, cut where the promise changes, at one site. Its bounds are fixed by the promise
and the clock alone, so its id is the same whoever works it out, and whenever. What was not delivered is a correction:
a fact of its own, less than zero, with an id that derives from that of the piece.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from skerry.capacity.claims.model import Claim
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import hours, rfc3339
from skerry.kernel.ids import LeafId, ProjectId, ReservationId, derived_uuid
from skerry.metering.model import Dims, Meter, UsageFact

CHARGE_BY: Final = "reservation"
_MICROSECOND: Final = timedelta(microseconds=1)
_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Promise:
    """`nodes` nodes of a leaf for one window: a leg, as it stands in the books."""

    leaf: LeafId
    site: str
    nodes: int
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Had:
    """A node that its holder really had, from when it was handed over."""

    leaf: LeafId
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Record:
    """Node-seconds of one site between `t0` and `t1`, which lie in one clock hour."""

    site: str
    t0: datetime
    t1: datetime
    promised: int
    delivered: int


def had(claims: Iterable[Claim], active_at: datetime | None, now: datetime) -> list[Had]:
    """What a reservation had of its nodes: nothing before it was first there as a whole (`active_at`)."""
    if active_at is None:
        return []
    found = []
    for claim in claims:
        if claim.void or claim.delivered_at is None:
            continue
        start = max(claim.start, claim.delivered_at, active_at)
        end = min(claim.end or now, now)
        if start < end:
            found.append(Had(claim.leaf, start, end))
    return found


def records(
    promises: Sequence[Promise], delivered: Sequence[Had], begin: datetime | None, through: datetime, *, final: bool
) -> list[Record]:
    """The pieces that are over by `through`, and begin at or after `begin` (None: the first).

    Unless `final`, a piece is over only with its clock hour: a later change may still cut it.
    """
    if not promises:
        return []
    first = min(one.start for one in promises)
    found = []
    for site in sorted({one.site for one in promises}):
        own = [one for one in promises if one.site == site]
        leaves = {one.leaf for one in own}
        there = [one for one in delivered if one.leaf in leaves]
        for t0, t1 in _pieces(own, first, _closed(through, final=final)):
            if begin is None or begin <= t0:
                record = Record(site, t0, t1, *_node_seconds(own, there, t0, t1))
                if record.promised:
                    found.append(record)
    return sorted(found, key=lambda one: (one.t0, one.site))


def facts(reservation: ReservationId, project: ProjectId, sku: str, pieces: Iterable[Record]) -> Iterator[UsageFact]:
    """What was promised, and, where it was not delivered, its correction."""
    meter = Meter.NODE_SECONDS_RESERVED
    for piece in pieces:
        dims = Dims.of(
            {
                "sku": sku,
                "site": piece.site,
                "capacity_class": CapacityClass.RESERVED.value,
                "charge_by": CHARGE_BY,
            }
        )
        key = ("reservation", reservation, meter.value, piece.site, rfc3339(piece.t0))
        for quantity, parts in ((piece.promised, key), (piece.delivered - piece.promised, (*key, "undelivered"))):
            if quantity:
                yield UsageFact(
                    id=derived_uuid(*parts),
                    meter=meter,
                    quantity=quantity,
                    project=project,
                    resource=reservation,
                    t0=piece.t0,
                    t1=piece.t1,
                    dims=dims,
                )


def _closed(through: datetime, *, final: bool) -> datetime:
    return through if final else through.replace(minute=0, second=0, microsecond=0)


def _pieces(promises: Sequence[Promise], first: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    cuts = sorted({at for one in promises for at in (one.start, one.end)} | {first})
    for start, stop in pairwise(cuts):
        for t0, t1 in hours(start, stop):
            if t1 <= end:
                yield t0, t1


def _node_seconds(promises: Sequence[Promise], delivered: Sequence[Had], t0: datetime, t1: datetime) -> tuple[int, int]:
    """Leaf by leaf and moment by moment: more nodes than were promised make up for nothing."""
    promised = had_of_it = 0
    for leaf in {one.leaf for one in promises}:
        own = [one for one in promises if one.leaf == leaf and one.start < t1 and t0 < one.end]
        there = [one for one in delivered if one.leaf == leaf and one.start < t1 and t0 < one.end]
        changes = [(one.start, one.end) for one in own] + [(one.start, one.end) for one in there]
        marks = {t0, t1, *(at for pair in changes for at in pair if t0 < at < t1)}
        for start, end in pairwise(sorted(marks)):
            length = (end - start) // _MICROSECOND
            nodes = sum(one.nodes for one in own if one.start <= start < one.end)
            promised += length * nodes
            had_of_it += length * min(nodes, sum(one.start <= start < one.end for one in there))
    return promised // _SECOND, had_of_it // _SECOND
