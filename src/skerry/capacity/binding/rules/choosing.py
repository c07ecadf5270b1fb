"""Which nodes a leg gets: greedy colouring of a leaf in the order of starts. Pure.

Windows on a line form a perfect graph: where no moment promises more nodes than there are, taking the windows in the
order of their starts and giving each any node that is free finds nodes for all. What has begun stays where it is: at
this moment it is the beginning of such a colouring. What is bound and has not begun may be moved, and must be movable:
a reservation made late may begin before one that was bound early.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from skerry.kernel.ids import NodeId, ProjectId, ReservationId


@dataclass(frozen=True, slots=True)
class Place:
    """A node of the leaf. `takes`: it may be given to somebody now. `keeps`: what has begun on it goes on.

    `avoid`: it is given last, for instance while somebody is still leaving it.
    """

    node: NodeId
    takes: bool = True
    keeps: bool = True
    avoid: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """What holds a node already: a leg, or (`leg` None) somebody who is not moved. `end` None: open-ended."""

    id: str
    node: NodeId
    start: datetime
    end: datetime | None
    reservation: ReservationId | None = None
    leg: str | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """A leg that is to have its nodes now."""

    leg: str
    reservation: ReservationId
    nodes: int
    start: datetime
    end: datetime
    project: ProjectId


@dataclass(frozen=True, slots=True)
class Binding:
    """A node for a leg, from `start` on: the leg's start, or the moment of a replacement."""

    leg: str
    reservation: ReservationId
    node: NodeId
    start: datetime
    end: datetime


@dataclass(slots=True)
class Plan:
    """`begin` new bindings after `end`ing (ids of what is held), and what is missing, by leg.

    `stretch`: held and staying where they are, but to another end. `lost`: those of `end` whose nodes are gone.
    """

    begin: list[Binding] = field(default_factory=list)
    end: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    stretch: dict[str, datetime] = field(default_factory=dict)
    short: dict[str, int] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        return bool(self.begin or self.end or self.stretch)


def assign(
    places: Sequence[Place],
    held: Iterable[Held],
    needs: Iterable[Need],
    now: datetime,
    *,
    previous: Mapping[ReservationId, Collection[NodeId]] | None = None,
) -> Plan:
    """Nodes for all these legs. `places` in the order in which they stand: neighbours are near each other.

    What is held by a leg that is not among `needs` is ended. Nodes already bound to a leg stay, then those come first
    that the reservation had before (`previous`), then the tightest run of neighbours.
    """
    colouring = _Colouring(places, list(held), {need.leg: need for need in needs}, now, previous or {})
    colouring.settle()
    for need in sorted(colouring.needs.values(), key=lambda one: (max(one.start, now), one.reservation, one.leg)):
        colouring.give(need)
    return colouring.finish()


class _Colouring:
    def __init__(
        self,
        places: Sequence[Place],
        held: Sequence[Held],
        needs: Mapping[str, Need],
        now: datetime,
        previous: Mapping[ReservationId, Collection[NodeId]],
    ) -> None:
        self.needs = needs
        self._places = places
        self._order = {place.node: at for at, place in enumerate(places)}
        self._held = held
        self._now = now
        self._previous = previous
        self._busy: dict[NodeId, list[tuple[datetime, datetime | None]]] = {}
        self._begun: dict[str, list[Held]] = {}
        self._bound: dict[str, dict[NodeId, Held]] = {}
        self._wanted_later: set[NodeId] = set()
        self._plan = Plan()

    def settle(self) -> None:
        """What has begun, and what is not ours to move, takes its nodes first."""
        keeps = {place.node for place in self._places if place.keeps}
        for one in self._held:
            need = self.needs.get(one.leg) if one.leg is not None else None
            if one.leg is None:
                self._take(one.node, one.start, one.end)
            elif need is None:
                self._plan.end.append(one.id)
            elif one.start > self._now:
                self._bound.setdefault(one.leg, {})[one.node] = one
                self._wanted_later.add(one.node)
            elif one.node not in keeps:
                self._plan.end.append(one.id)
                self._plan.lost.append(one.id)
            else:
                self._begun.setdefault(one.leg, []).append(one)
        for leg, ones in self._begun.items():
            for one in ones[self.needs[leg].nodes :]:
                self._plan.end.append(one.id)
            self._begun[leg] = ones[: self.needs[leg].nodes]
        # Only to the end they have: what they are to have beyond it is given in its turn.
        for ones in self._begun.values():
            for one in ones:
                self._take(one.node, one.start, one.end)

    def give(self, need: Need) -> None:
        begun = self._stretched(need)
        start = max(need.start, self._now)
        missing = need.nodes - len(begun)
        bound = self._bound.get(need.leg, {})
        free = [place for place in self._places if place.takes and self._free(place.node, start, need.end)]
        chosen = self._choose(free, missing, need, {one.node for one in begun}, bound)
        for node in chosen:
            self._take(node, start, need.end)
            old = bound.pop(node, None)
            if old is None:
                self._plan.begin.append(Binding(need.leg, need.reservation, node, start, need.end))
            elif old.end != need.end or old.start != need.start:
                self._plan.end.append(old.id)
                self._plan.begin.append(Binding(need.leg, need.reservation, node, start, need.end))
        if missing > len(chosen):
            self._plan.short[need.leg] = missing - len(chosen)

    def finish(self) -> Plan:
        """What was bound and was given no node again, or another, ends."""
        for bound in self._bound.values():
            self._plan.end += [one.id for one in bound.values()]
        return self._plan

    def _stretched(self, need: Need) -> list[Held]:
        """What has begun for this leg and can stay until its end, as the end is now."""
        staying: list[Held] = []
        for one in self._begun.get(need.leg, []):
            assert one.end is not None, "a leg has an end"
            if need.end <= one.end:
                pass
            elif self._free(one.node, one.end, need.end):
                self._take(one.node, one.end, need.end)
            else:
                self._plan.end.append(one.id)
                self._busy[one.node].remove((one.start, one.end))
                continue
            if need.end != one.end:
                self._plan.stretch[one.id] = need.end
            staying.append(one)
        return staying

    def _choose(
        self, free: Sequence[Place], count: int, need: Need, near: set[NodeId], bound: Collection[NodeId]
    ) -> list[NodeId]:
        if count <= 0:
            return []
        known = [
            *(place.node for place in free if place.node in bound),
            *(place.node for place in free if place.node in self._previous.get(need.reservation, ())),
        ]
        chosen = list(dict.fromkeys(known))[:count]
        for last_resort in (False, True):
            open_now = {
                place.node for place in free if place.node not in chosen and (last_resort or not self._to_avoid(place))
            }
            chosen += self._neighbours(open_now, count - len(chosen), near | set(chosen))
        return chosen

    def _to_avoid(self, place: Place) -> bool:
        return place.avoid or place.node in self._wanted_later

    def _neighbours(self, free: set[NodeId], count: int, near: set[NodeId]) -> list[NodeId]:
        """`count` nodes, or what there is: beside what it has, of the tightest run that fits, else of the longest."""
        chosen: list[NodeId] = []
        while len(chosen) < count and free:
            runs = self._runs(free)
            wanted = count - len(chosen)
            after = [run for run in runs if self._beside(run[0], -1) in near]
            before = [run[::-1] for run in runs if self._beside(run[-1], 1) in near]
            open_runs = after + before or runs
            fitting = [run for run in open_runs if len(run) >= wanted]
            part = (min(fitting, key=len) if fitting else max(open_runs, key=len))[:wanted]
            chosen += part
            near = near | set(part)
            free = free - set(part)
        return chosen

    def _runs(self, free: set[NodeId]) -> list[list[NodeId]]:
        return [
            [place.node for place in run]
            for inside, run in groupby(self._places, lambda place: place.node in free)
            if inside
        ]

    def _beside(self, node: NodeId, step: int) -> NodeId | None:
        at = self._order[node] + step
        return self._places[at].node if 0 <= at < len(self._places) else None

    def _free(self, node: NodeId, start: datetime, end: datetime) -> bool:
        return all(end <= s or (e is not None and e <= start) for s, e in self._busy.get(node, ()))

    def _take(self, node: NodeId, start: datetime, end: datetime | None) -> None:
        self._busy.setdefault(node, []).append((start, end))
