"""Which nodes a request may have, and which it gets. Pure, but for the arithmetic of placement."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby

from skerry.capacity.admission.counts import Level, least, levels
from skerry.capacity.admission.model import AdmissionRequest, widths
from skerry.capacity.calendar.model import Booking, LeafKey
from skerry.capacity.claims.model import Claim, HolderKind
from skerry.capacity.model import Scope
from skerry.capacity.moments import seconds
from skerry.capacity.placement.board import Board
from skerry.capacity.placement.model import Machine, Spot, Task, Typical
from skerry.fleet.model import LeafSupply, Node, Step
from skerry.kernel.classes import CapacityClass
from skerry.kernel.ids import NodeId

Devices = tuple[int, ...]

USUAL = {1: 8.0, 2: 2.0, 4: 2.0, 8: 4.0}
"""How often tasks of so many accelerators are expected, before any have been seen; an assumption."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node of the request, and which of its accelerators the engine's side has free."""

    node: Node
    key: LeafKey
    free: Devices
    hall: str = ""

    @property
    def devices(self) -> Devices:
        """All that it has."""
        return tuple(sorted({*self.free, *(one.index for one in self.node.accelerators)}))


@dataclass(slots=True)
class LeafState:
    """A leaf and SKU as the database has it: `supply` is what reservations may buy, `pool` the rest of what is sold."""

    supply: LeafSupply
    pool: int
    sold: int
    """Nodes that it can have for sale now, the pool's included."""
    pooled: bool
    """The SKU has a pool, in this leaf or in others: outside of it no work is open-ended."""
    whole: Sequence[Step]
    """What is sold of it, the pool included."""
    candidates: list[Candidate]
    claims: list[Claim] = field(default_factory=list)
    bookings: list[Booking] = field(default_factory=list)

    def by_candidate(self) -> list[tuple[Candidate, list[Claim]]]:
        """Each candidate with the claims on it."""
        claims: dict[NodeId, list[Claim]] = {}
        for one in self.claims:
            claims.setdefault(one.node, []).append(one)
        return [(one, claims.get(one.node.id, [])) for one in self.candidates]

    def free(self, now: int, without: str | None = None) -> list[Level]:
        """Counts of free nodes; `without`: as if a node had no on-demand claims."""
        mine = f"{without}:" if without is not None else None
        kept = [one for one in self.bookings if mine is None or not one.id.startswith(mine)]
        return levels(self.supply.sellable, kept, now)

    def unpromised(self, now: int) -> list[Level]:
        """Counts of nodes that are promised to nobody, the pool's included."""
        return levels(self.whole, (replace(one, pool=False) for one in self.bookings), now)


@dataclass(frozen=True, slots=True)
class Offered:
    """A node that a request may have: what is free of it, what spot work would have to leave, and on what terms."""

    candidate: Candidate
    free: Devices
    lent: Devices
    pool: bool = False
    until: datetime | None = None
    begun: bool = False
    """Part of it is in use: taking more costs no further node."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """`devices` of a node."""

    offered: Offered
    devices: Devices


def offers(
    request: AdmissionRequest, leaves: Iterable[LeafState], now: datetime, end: datetime | None, horizon: datetime
) -> list[Offered]:
    """All nodes that the request may have, those first that are to be taken first where all else is equal.

    Of two leaves the one with less free capacity comes first, so that large gaps stay whole.
    """
    found: list[tuple[int, str, list[Offered]]] = []
    for leaf in leaves:
        if request.capacity_class is CapacityClass.RESERVED:
            own = _inside(request, leaf, now, end)
        elif request.capacity_class is CapacityClass.SPOT:
            own = _idle(leaf, now)
        else:
            own = _on_demand(leaf, now, end, horizon)
        found.append((len(own), leaf.supply.leaf_name, own))
    return [one for _, _, own in sorted(found, key=lambda item: item[:2]) for one in own]


def choose(request: AdmissionRequest, offered: Sequence[Offered], typical: Sequence[Typical]) -> list[Chosen] | None:
    """The nodes of a request, all or none. A gang stays in one leaf if it can, else in one hall, else in one site."""
    if request.nodes == 1:
        return _place(request, offered, typical)
    for width in widths(request.scope, required=request.scope_required):
        key = _KEYS[width]
        groups = [list(group) for _, group in groupby(sorted(offered, key=key), key=key)]
        for group in sorted(groups, key=len):
            if len(group) >= request.nodes and (chosen := _place(request, group, typical)) is not None:
                return chosen
    return None


def with_lent(offered: Iterable[Offered]) -> list[Offered]:
    """As if all spot work had left."""
    return [
        Offered(one.candidate, tuple(sorted({*one.free, *one.lent})), one.lent, one.pool, one.until, begun=one.begun)
        for one in offered
    ]


def typical_tasks(claims: Iterable[Claim], largest: int) -> list[Typical]:
    """What tasks are expected: the usual mix, and what runs now."""
    weights = dict(USUAL)
    sizes: dict[tuple[str, str], int] = {}
    for claim in claims:
        if claim.holder_kind is HolderKind.WORKLOAD:
            share = (claim.holder, claim.node)
            sizes[share] = sizes.get(share, 0) + claim.accelerators[1] - claim.accelerators[0]
    for size in sizes.values():
        weights[size] = weights.get(size, 0.0) + 1.0
    return [Typical(Task(min(size, largest)), weight) for size, weight in sorted(weights.items())]


def ranges(devices: Iterable[int]) -> list[tuple[int, int]]:
    """Half-open ranges that cover exactly these."""
    found: list[tuple[int, int]] = []
    for index in sorted(devices):
        if found and found[-1][1] == index:
            found[-1] = (found[-1][0], index + 1)
        else:
            found.append((index, index + 1))
    return found


def _place(request: AdmissionRequest, offered: Sequence[Offered], typical: Sequence[Typical]) -> list[Chosen] | None:
    if not offered:
        return None
    machines = [
        Machine(one.candidate.node.hostname, one.candidate.key.sku, len(one.candidate.devices), 0, 0) for one in offered
    ]
    board = Board(machines, typical)
    for n, one in enumerate(offered):
        taken = [at for at, device in enumerate(one.candidate.devices) if device not in one.free]
        if taken:
            board.take(Spot(n, tuple(taken)), Task(len(taken)))
    spots = board.place_gang(Task(request.accelerators), request.nodes)
    if spots is None:
        return None
    return [
        Chosen(offered[spot.machine], tuple(offered[spot.machine].candidate.devices[at] for at in spot.devices))
        for spot in spots
    ]


def _on_demand(leaf: LeafState, now: datetime, end: datetime | None, horizon: datetime) -> list[Offered]:
    """Nodes in use by on-demand work first, as far as no reservation needs them until the end; then fresh ones: so many
    as counts allow, and so many as the pool has left."""
    start, until = seconds(now), seconds(end or horizon)
    may_backfill = not leaf.pooled or end is not None
    # The pool may be another one than when nodes were sold, or given to work: what is promised comes first.
    unpromised = max(0, least(leaf.unpromised(start), start, until))
    room = max(0, min(least(leaf.free(start), start, until), unpromised)) if may_backfill else 0
    in_pool = {one.node for one in leaf.claims if one.pool and one.capacity_class is CapacityClass.ON_DEMAND}
    pool_room = max(0, min(min(leaf.pool, leaf.sold) - len(in_pool), unpromised - room))
    begun: list[Offered] = []
    fresh: list[Offered] = []
    for candidate, claims in leaf.by_candidate():
        node = candidate.node.id
        free, lent = _devices(candidate, claims, now, end)
        own = [one for one in claims if one.capacity_class is CapacityClass.ON_DEMAND]
        if not free and not lent:
            continue
        if node in in_pool:
            begun.append(Offered(candidate, free, lent, True, end, begun=True))
        elif own:
            if may_backfill and least(leaf.free(start, without=node), start, until) >= 1:
                begun.append(Offered(candidate, free, lent, False, end, begun=True))
        else:
            fresh.append(Offered(candidate, free, lent, False, end))
    fresh.sort(key=lambda one: len(one.lent))
    backfilled, pooled = fresh[:room], fresh[room : room + pool_room]
    return begun + backfilled + [Offered(one.candidate, one.free, one.lent, True, end) for one in pooled]


def _inside(request: AdmissionRequest, leaf: LeafState, now: datetime, end: datetime | None) -> list[Offered]:
    """Nodes that the reservation owns now, until it ends."""
    found: list[Offered] = []
    for candidate, claims in leaf.by_candidate():
        for owner in claims:
            mine = owner.holder_kind is HolderKind.RESERVATION and owner.holder == request.reservation
            if not mine or owner.project != request.project or not owner.covers(now):
                continue
            until = min((at for at in (owner.end, end) if at is not None), default=None)
            users = [one for one in claims if one.holder_kind is HolderKind.WORKLOAD]
            free, lent = _devices(candidate, users, now, until)
            if free or lent:
                found.append(Offered(candidate, free, lent, until=until, begun=bool(users)))
    return found


def _idle(leaf: LeafState, now: datetime) -> list[Offered]:
    """Nodes that nobody owns or is about to, and nodes whose owners have nothing on them."""
    found: list[Offered] = []
    for candidate, claims in leaf.by_candidate():
        if any(one.start > now or _in_owners_use(one) or one.reclaim_at is not None for one in claims):
            continue
        users = [one for one in claims if one.holder_kind is HolderKind.WORKLOAD]
        free, lent = _devices(candidate, users, now, None)
        free = tuple(device for device in free if device not in lent)
        if free:
            found.append(Offered(candidate, free, (), begun=bool(users)))
    return found


def _in_owners_use(claim: Claim) -> bool:
    return claim.holder_kind is HolderKind.WORKLOAD and claim.reservation is not None


def _devices(
    candidate: Candidate, claims: Iterable[Claim], now: datetime, end: datetime | None
) -> tuple[Devices, Devices]:
    """Accelerators that nobody has until the end, and those that only spot work has."""
    taken: set[int] = set()
    lent: set[int] = set()
    for one in claims:
        if (end is not None and one.start >= end) or (one.end is not None and one.end <= now):
            continue
        held = lent if one.capacity_class is CapacityClass.SPOT else taken
        held.update(range(*one.accelerators))
    free = tuple(device for device in candidate.free if device not in taken and device not in lent)
    # What spot work holds is in use by it on the engine's side too, and will be free when it has left.
    return free, tuple(device for device in candidate.devices if device in lent and device not in taken)


_KEYS: Mapping[Scope, Callable[[Offered], tuple[str, str]]] = {
    Scope.LEAF: lambda one: (one.candidate.key.leaf, one.candidate.key.sku),
    Scope.HALL: lambda one: (f"{one.candidate.node.site}/{one.candidate.hall}", one.candidate.key.sku),
    Scope.SITE: lambda one: (one.candidate.node.site, one.candidate.key.sku),
    Scope.ANY: lambda one: ("", one.candidate.key.sku),
}
