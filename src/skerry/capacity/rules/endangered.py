"""Who would be short, were a leaf's nodes fewer. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, pairwise
from typing import Protocol

from skerry.capacity.promises import Promise
from skerry.fleet.model import Endangered, LeafSupply, Step
from skerry.kernel.clock import rfc3339
from skerry.kernel.windows import Window


class Taken(Protocol):
    """So many nodes for a window."""

    @property
    def nodes(self) -> int: ...

    @property
    def window(self) -> Window: ...


@dataclass(frozen=True, slots=True)
class Occupied:
    """Nodes that on-demand work has."""

    nodes: int
    window: Window


def endangered(supply: LeafSupply, promises: Iterable[Promise], occupied: Iterable[Occupied] = ()) -> list[Endangered]:
    """Reservations that `deliverable` does not cover, each with the most nodes it lacks at a moment.

    Who bought first is served first: what is missing falls on those that came later. Work that is there stays: what it
    occupies of `deliverable` is nobody else's.
    """
    served: list[Taken] = [*occupied]
    found: dict[str, Endangered] = {}
    for promise in sorted(promises, key=lambda one: (one.created_at, one.reservation, one.window.start)):
        free = levels(supply.deliverable, served, promise)
        short = promise.nodes - min(level for _, level in free)
        served.append(promise)
        if short <= 0:
            continue
        before = found.get(promise.reservation)
        if before is None or short > before.nodes_short:
            found[promise.reservation] = Endangered(
                reservation=promise.reservation,
                project=promise.project,
                starts=promise.window.start,
                leaf=supply.leaf,
                leaf_name=supply.leaf_name,
                nodes_short=short,
                whole_from=_whole_from(free, promise.nodes),
            )
    return list(found.values())


def levels(steps: Sequence[Step], taken: Iterable[Taken], wanted: Promise) -> list[tuple[datetime, int]]:
    """How many nodes are left from when on, over a promise's window, others served; never below zero.

    Before the first step there is what the first step has: it begins at or before now.
    """
    window = wanted.window
    changes = {window.start: 0}
    level = steps[0].nodes if steps else 0
    for before, after in pairwise(steps):
        if after.start <= window.start:
            level = after.nodes
        elif after.start < window.end:
            changes[after.start] = changes.get(after.start, 0) + after.nodes - before.nodes
    for other in taken:
        if other.window.overlaps(window):
            start = max(other.window.start, window.start)
            changes[start] = changes.get(start, 0) - other.nodes
            if other.window.end < window.end:
                changes[other.window.end] = changes.get(other.window.end, 0) + other.nodes
    found = []
    for moment, delta in sorted(changes.items()):
        level += delta
        found.append((moment, max(0, level)))
    return found


def _whole_from(free: Sequence[tuple[datetime, int]], nodes: int) -> datetime | None:
    """From when on there are so many, to the end."""
    whole: datetime | None = None
    for moment, level in free:
        if level < nodes:
            whole = None
        elif whole is None:
            whole = moment
    return whole


def sentences(found: Iterable[Endangered]) -> list[str]:
    """One for each reservation, with what it would lack where."""
    ordered = sorted(found, key=lambda one: (one.starts, one.reservation, one.leaf_name))
    return [
        f"Reservation {id} would be short of {_places(list(ones))}."
        for id, ones in groupby(ordered, key=lambda one: one.reservation)
    ]


def _places(ones: Sequence[Endangered]) -> str:
    return ", ".join(
        f"{one.nodes_short} node{'' if one.nodes_short == 1 else 's'} in leaf {one.leaf_name},"
        f" from {rfc3339(one.starts)} on"
        for one in ones
    )
