"""Admission of what runs now: on-demand, spot, and inside reservations, in the one ledger that reservations share.

Counts decide, as for reservations, and the node is named at once: what begins now is the next in the order of starts in
which nodes are given out (`binding/rules/choosing.py`), so it never makes a promise impossible that counts allow.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from skerry.capacity.admission.counts import least, levels
from skerry.capacity.admission.model import AdmissionRequest, Leaving, NotNow, Placed, Share
from skerry.capacity.admission.refusing import Span, nothing_fits, nowhere, reclaiming, refuse
from skerry.capacity.admission.rules import (
    Candidate,
    Chosen,
    LeafState,
    choose,
    offers,
    ranges,
    typical_tasks,
    with_lent,
)
from skerry.capacity.calendar.model import LeafKey
from skerry.capacity.claims.errors import NodeTaken
from skerry.capacity.claims.model import Claim, HolderKind
from skerry.capacity.claims.store import ClaimStore
from skerry.capacity.locking import lock_leaves
from skerry.capacity.moments import ceil_second, seconds
from skerry.capacity.placement.warming import warm
from skerry.capacity.promises import Promises, Version
from skerry.capacity.rules.places import countries
from skerry.capacity.rules.supply import for_reservations, pool_shares
from skerry.db.database import Tx
from skerry.fleet.model import LeafSupply, Node
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import Clock
from skerry.kernel.ids import ClaimId, IdFactory, LeafId, NodeId, new_id
from skerry.kernel.windows import Window

NOTICE_SECONDS: Final = 60
HORIZON_DAYS: Final = 1096
_LOOKS: Final = 8
"""Places that turn out to be taken, before a request is told to come again."""


class FleetFacts(Protocol):
    """What is needed of the fleet (`Fleet`)."""

    async def supplies(self, tx: Tx, leaves: Collection[LeafId] | None = None) -> list[LeafSupply]: ...

    async def find_nodes(self, tx: Tx, hostnames: Collection[str]) -> dict[str, Node]: ...

    async def pools(self, tx: Tx) -> dict[str, int | None]: ...


class _Taken(Exception):
    """What was chosen is there no longer: look again, without these leaves."""


class _SupplyChanged(Exception):
    """The fleet has changed since it was read: read it again."""


@dataclass(slots=True)
class _Scene:
    """The leaves of a request, with what does not change while its locks are waited for."""

    leaves: dict[LeafKey, LeafState]
    span: Span
    supply: Mapping[LeafKey, int]
    """Of which version their supply is."""

    def of(self, keys: Collection[LeafKey]) -> list[LeafState]:
        return [self.leaves[key] for key in sorted(keys)]


class Admission:
    """`notice`: what spot work is given to leave. Every method works in the caller's transaction."""

    def __init__(
        self,
        clock: Clock,
        fleet: FleetFacts,
        new_id: IdFactory = new_id,
        *,
        notice: timedelta = timedelta(seconds=NOTICE_SECONDS),
        horizon: timedelta = timedelta(days=HORIZON_DAYS),
    ) -> None:
        self._clock = clock
        self._fleet = fleet
        self._new_id = new_id
        self._notice = notice
        self._horizon = horizon
        self._claims = ClaimStore()
        self._promises = Promises()
        self._warm: asyncio.Task[None] | None = None

    async def admit(self, tx: Tx, request: AdmissionRequest) -> Placed | NotNow:
        """Give a workload its nodes, all or none, and write down that it has them. One that has some keeps these."""
        held = await self._held(tx, request)
        if held is not None:
            return held
        scene = await self._scene(tx, request)
        if isinstance(scene, NotNow):
            return scene
        await self._warmed()
        keys = set(scene.leaves)
        for _ in range(_LOOKS):
            await self._read(tx, scene, keys)
            chosen = self._choose(request, scene.of(keys), scene.span)
            if chosen is None:
                return await self._refuse(tx, request, scene)
            try:
                return await self._take(tx, request, scene, {one.offered.candidate.key for one in chosen})
            except _SupplyChanged:
                scene = await self._scene(tx, request)
                if isinstance(scene, NotNow):
                    return scene
                keys = set(scene.leaves)
            except (_Taken, NodeTaken):
                keys -= {one.offered.candidate.key for one in chosen}
        return await self._refuse(tx, request, scene)

    async def release(self, tx: Tx, workload: str) -> bool:
        """The workload is gone: what it held is free. Whether it held anything."""
        now = self._clock.now()
        claims = [one for one in await self._claims.of_holders(tx, [workload]) if not one.void]
        gone = [one for one in claims if one.released_at is None]
        await self._claims.end(tx, [one.id for one in gone], now, released=True)
        await self._promises.touch(tx, {LeafKey(one.leaf, one.sku) for one in gone})
        return bool(gone)

    async def leaving(self, tx: Tx, ahead: timedelta, workload: str | None = None) -> list[Leaving]:
        """Workloads (or one) that are to be gone soon: under notice, or at the end of their time within `ahead`."""
        now = self._clock.now()
        if workload is None:
            claims = await self._claims.reclaimed(tx, now + max(ahead, self._notice))
        else:
            claims = [one for one in await self._claims.of_holders(tx, [workload]) if one.released_at is None]
        found: dict[str, Leaving] = {}
        for one in claims:
            if one.reclaim_at is None or one.void or one.holder_kind is not HolderKind.WORKLOAD:
                continue
            noticed = one.end is None or one.reclaim_at < one.end
            soon = one.reclaim_at <= now + (max(ahead, self._notice) if noticed else ahead)
            if soon and (one.holder not in found or one.reclaim_at < found[one.holder].by):
                found[one.holder] = Leaving(one.holder, one.project, one.capacity_class, one.reclaim_at, noticed)
        return list(found.values())

    async def vacate(self, tx: Tx, node: NodeId, by: datetime) -> int:
        """Have the workloads on a node leave it by then: it is not well. How many claims were told now."""
        claims = await self._claims.on_nodes(tx, [node], self._clock.now())
        told = [
            one.id
            for one in claims
            if one.holder_kind is HolderKind.WORKLOAD and one.released_at is None and one.reclaim_at is None
        ]
        await self._claims.reclaim(tx, told, by)
        return len(told)

    async def holding(self, tx: Tx, workloads: Collection[str]) -> set[str]:
        """Those of these workloads that hold anything."""
        claims = await self._claims.of_holders(tx, workloads)
        return {one.holder for one in claims if not one.void and one.released_at is None}

    # Reading

    async def _held(self, tx: Tx, request: AdmissionRequest) -> Placed | None:
        live = await self._claims.of_holders(tx, [request.workload], live_at=self._clock.now())
        nodes = {node.id: node for node in (await self._nodes(tx, request)).values()}
        by_node: dict[NodeId, list[Claim]] = {}
        for one in live:
            by_node.setdefault(one.node, []).append(one)
        if not by_node or not by_node.keys() <= nodes.keys():
            return None
        return Placed(tuple(_share(nodes[node], claims) for node, claims in by_node.items()))

    async def _nodes(self, tx: Tx, request: AdmissionRequest) -> Mapping[str, Node]:
        return await self._fleet.find_nodes(tx, [host.name for host in request.hosts])

    async def _scene(self, tx: Tx, request: AdmissionRequest) -> _Scene | NotNow:
        nodes = await self._nodes(tx, request)
        versions = await self._promises.versions(tx)
        supplies = await self._fleet.supplies(tx)
        sizes = await self._fleet.pools(tx)
        pools = pool_shares(supplies, sizes)
        known = {(one.site, one.leaf_name, one.sku): one for one in supplies}
        fitting: dict[tuple[str, str, str], list[Candidate]] = {}
        for host in request.hosts:
            node = nodes.get(host.name)
            if node is None or (request.sku or node.sku) != node.sku or (request.site or node.site) != node.site:
                continue
            place = (node.site, node.leaf, node.sku)
            if place in known:
                key = LeafKey(known[place].leaf, node.sku)
                fitting.setdefault(place, []).append(Candidate(node, key, host.devices, known[place].hall))
        if not fitting:
            return nothing_fits(request)
        allowed = {place for place in fitting if _allowed(request, known[place])}
        if not allowed:
            return nowhere(request, (site for site, _, _ in fitting))
        span = self._span(request)
        leaves = {
            LeafKey(supply.leaf, supply.sku): _leaf(
                supply,
                pools.get((supply.leaf, supply.sku), 0),
                fitting[place],
                span,
                pooled=sizes.get(supply.sku) is not None,
            )
            for place, supply in known.items()
            if place in allowed
        }
        return _Scene(leaves, span, {key: versions.get(key, Version()).supply for key in leaves})

    def _span(self, request: AdmissionRequest) -> Span:
        now = self._clock.now()
        length = request.max_duration_seconds
        end = None if length is None else ceil_second(now + timedelta(seconds=length))
        return Span(now, end, ceil_second(now + self._horizon))

    async def _read(self, tx: Tx, scene: _Scene, keys: Collection[LeafKey]) -> None:
        now = scene.span.now
        claims = await self._claims.live(tx, [(LeafId(key.leaf), key.sku) for key in keys], now)
        bookings = await self._promises.bookings(tx, keys, now)
        for key in keys:
            scene.leaves[key].claims = []
            scene.leaves[key].bookings = bookings.get(key, [])
        for one in claims:
            scene.leaves[LeafKey(one.leaf, one.sku)].claims.append(one)

    # Deciding and writing

    def _choose(
        self, request: AdmissionRequest, leaves: Sequence[LeafState], span: Span, *, lent: bool = False
    ) -> list[Chosen] | None:
        offered = offers(request, leaves, span.now, span.end, span.horizon)
        largest = max((len(one.candidate.devices) for one in offered), default=1)
        typical = typical_tasks((claim for leaf in leaves for claim in leaf.claims), largest)
        return choose(request, with_lent(offered) if lent else offered, typical)

    async def _take(self, tx: Tx, request: AdmissionRequest, scene: _Scene, keys: Collection[LeafKey]) -> Placed:
        """Lock, look again, write. In a savepoint: what fails leaves neither rows nor locks, so that nobody who locks
        leaves in their order ever waits in a circle."""
        async with tx.begin_nested():
            await lock_leaves(tx, keys)
            await self._require_same_supply(tx, scene, keys)
            await self._read(tx, scene, keys)
            chosen = self._choose(request, scene.of(keys), scene.span)
            if chosen is None:
                raise _Taken
            claims = [self._claims_of(request, one, scene.span) for one in chosen]
            await self._claims.insert(tx, [claim for own in claims for claim in own])
            await self._check(tx, scene, {one.key for one in _counted(request, chosen)})
            await self._promises.touch(tx, keys)
        shares = zip(chosen, claims, strict=True)
        return Placed(tuple(_share(one.offered.candidate.node, own) for one, own in shares))

    async def _require_same_supply(self, tx: Tx, scene: _Scene, keys: Collection[LeafKey]) -> None:
        """Nodes that were taken out while the locks were waited for are not given to anybody."""
        versions = await self._promises.versions(tx, keys)
        if any(versions.get(key, Version()).supply != scene.supply[key] for key in keys):
            raise _SupplyChanged

    async def _check(self, tx: Tx, scene: _Scene, keys: Collection[LeafKey]) -> None:
        """Counted by the same function as reservations are, with the new claims among what is counted."""
        start = ceil_second(scene.span.now)
        end = scene.span.end or scene.span.horizon
        for key in sorted(keys):
            supply = scene.leaves[key].supply.sellable
            window = Window(start, max(end, start + timedelta(seconds=1)))
            if await self._promises.least_free(tx, key, window, scene.span.now, supply) < 0:
                raise _Taken

    def _claims_of(self, request: AdmissionRequest, chosen: Chosen, span: Span) -> list[Claim]:
        offered = chosen.offered
        return [
            Claim(
                id=ClaimId(self._new_id("claim")),
                project=request.project,
                holder_kind=HolderKind.WORKLOAD,
                holder=request.workload,
                capacity_class=request.capacity_class,
                leaf=LeafId(offered.candidate.key.leaf),
                sku=offered.candidate.key.sku,
                node=offered.candidate.node.id,
                accelerators=accelerators,
                start=span.now,
                end=offered.until,
                created_at=span.now,
                reservation=request.reservation,
                pool=offered.pool,
                reclaim_at=offered.until,
            )
            for accelerators in ranges(chosen.devices)
        ]

    async def _refuse(self, tx: Tx, request: AdmissionRequest, scene: _Scene) -> NotNow:
        leaves, span = scene.of(scene.leaves), scene.span
        if request.capacity_class is not CapacityClass.SPOT:
            chosen = self._choose(request, leaves, span, lent=True)
            if chosen is not None and (notices := _in_the_way(chosen, leaves)):
                by = span.now + self._notice
                await self._claims.reclaim(tx, [one.id for one in notices], by)
                return reclaiming(max([by, *(one.reclaim_at for one in notices if one.reclaim_at is not None)]))
        coming = await self._coming(tx, request, scene) if request.reservation is not None else None
        return refuse(request, leaves, offers(request, leaves, span.now, span.end, span.horizon), span, coming)

    async def _coming(self, tx: Tx, request: AdmissionRequest, scene: _Scene) -> datetime | None:
        legs = await self._promises.legs(tx, set(scene.leaves), scene.span.now)
        return min(
            (
                one.window.start
                for one in legs
                if (one.reservation, one.project) == (request.reservation, request.project)
                and one.window.start > scene.span.now
            ),
            default=None,
        )

    async def _warmed(self) -> None:
        """The machine code of placement is loaded, or compiled, beside the event loop: it can take seconds."""
        if self._warm is None:
            self._warm = asyncio.create_task(asyncio.to_thread(warm))
        await asyncio.shield(self._warm)


def _leaf(supply: LeafSupply, pool: int, candidates: list[Candidate], span: Span, *, pooled: bool) -> LeafState:
    start = seconds(span.now)
    sold = least(levels(supply.sellable, (), start), start, seconds(span.end or span.horizon))
    return LeafState(for_reservations(supply, pool), pool, sold, pooled, supply.sellable, candidates)


def _allowed(request: AdmissionRequest, supply: LeafSupply) -> bool:
    allowed = countries(request.jurisdictions)
    return allowed is None or (supply.country is not None and supply.country in allowed)


def _counted(request: AdmissionRequest, chosen: Sequence[Chosen]) -> list[Candidate]:
    """Where the claims count against what reservations may buy."""
    if request.capacity_class is not CapacityClass.ON_DEMAND:
        return []
    return [one.offered.candidate for one in chosen if not one.offered.pool]


def _in_the_way(chosen: Sequence[Chosen], leaves: Sequence[LeafState]) -> list[Claim]:
    """Spot claims on accelerators that somebody else is to have."""
    wanted = {(one.offered.candidate.node.id, device) for one in chosen for device in one.devices}
    return [
        claim
        for leaf in leaves
        for claim in leaf.claims
        if claim.capacity_class is CapacityClass.SPOT
        and any((claim.node, device) in wanted for device in range(*claim.accelerators))
    ]


def _share(node: Node, claims: Sequence[Claim]) -> Share:
    return Share(
        host=node.hostname,
        node=node.id,
        leaf=claims[0].leaf,
        sku=node.sku,
        site=node.site,
        devices=tuple(sorted(device for one in claims for device in range(*one.accelerators))),
        claims=tuple(one.id for one in claims),
        until=min((one.end for one in claims if one.end is not None), default=None),
    )
