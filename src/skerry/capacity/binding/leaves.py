"""Binding the nodes of leaves: reads what is there, lets the rules choose, and writes the claims."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from skerry.capacity.binding.model import KIND
from skerry.capacity.binding.rules.choosing import Binding, Held, Need, Place, Plan, assign
from skerry.capacity.binding.store import BindingStore
from skerry.capacity.claims.model import Claim, HolderKind
from skerry.capacity.claims.store import ClaimStore
from skerry.db.database import Tx
from skerry.fleet.model import AWAY, Node, NodeStatus
from skerry.fleet.service import Fleet
from skerry.kernel.classes import CapacityClass
from skerry.kernel.ids import ClaimId, IdFactory, LeafId, NodeId, ReservationId
from skerry.runtime.events import EventLog

Key = tuple[LeafId, str]
"""A leaf and the name of a SKU."""

GONE: Final = frozenset({NodeStatus.FAILED, NodeStatus.MAINTENANCE, NodeStatus.RETIRED, NodeStatus.REGISTERING})
"""What has begun on such a node has lost it. Cordoned and draining nodes keep what they have until it ends."""


@dataclass(slots=True)
class Bound:
    """What a pass over some leaves came to. `touched`: reservations whose claims have changed."""

    short: dict[str, int] = field(default_factory=dict)
    touched: set[ReservationId] = field(default_factory=set)


@dataclass(slots=True)
class _Leaf:
    """One leaf while it is worked on."""

    key: Key
    nodes: Sequence[Node]
    needs: Sequence[Need]
    claims: Sequence[Claim]

    @property
    def name(self) -> str:
        return self.nodes[0].leaf if self.nodes else str(self.key[0])

    def owning(self) -> list[Claim]:
        return [one for one in self.claims if one.level[0] == 0]

    def missing(self) -> bool:
        """Whether any leg may need another node: else nobody asks where its nodes were."""
        have: dict[str | None, int] = {}
        for one in self.owning():
            have[one.leg] = have.get(one.leg, 0) + 1
        return any(have.get(need.leg, 0) < need.nodes for need in self.needs)


class LeafBinder:
    """`lead`: how long before its start a leg gets its nodes. `notice`: what spot work on them is given to leave."""

    def __init__(
        self, fleet: Fleet, events: EventLog, store: BindingStore, new_id: IdFactory, lead: timedelta, notice: timedelta
    ) -> None:
        self._fleet = fleet
        self._events = events
        self._store = store
        self._claims = ClaimStore()
        self._new_id = new_id
        self._lead = lead
        self._notice = notice

    async def bind(self, tx: Tx, keys: Collection[Key], now: datetime) -> Bound:
        """Give every leg of these leaves its nodes as far as there are any. The caller holds the leaves' locks.

        Raises NodeTaken where somebody claimed a node without them.
        """
        bound = Bound()
        for leaf in await self._read(tx, keys, now):
            before = await self._previous(tx, leaf) if leaf.missing() else {}
            avoid = {one.node for one in leaf.claims if one.capacity_class is CapacityClass.SPOT}
            avoid |= (
                {one.node for one in await self._claims.unreleased(tx, *leaf.key, now)} if leaf.missing() else set()
            )
            plan = assign(
                [_place(node, now, avoid) for node in leaf.nodes],
                [_held(one) for one in leaf.owning()],
                leaf.needs,
                now,
                previous=before,
            )
            bound.short |= plan.short
            if plan.changes:
                bound.touched |= await self._carry_out(tx, leaf, plan, now)
        return bound

    async def _read(self, tx: Tx, keys: Collection[Key], now: datetime) -> list[_Leaf]:
        nodes = await self._fleet.leaf_nodes(tx, keys)
        needs = await self._store.needs(tx, keys, now + self._lead, now)
        claims: dict[Key, list[Claim]] = {key: [] for key in keys}
        for one in await self._claims.live(tx, keys, now):
            claims[one.leaf, one.sku].append(one)
        return [_Leaf(key, sorted(nodes[key], key=_natural), needs[key], claims[key]) for key in sorted(keys)]

    async def _previous(self, tx: Tx, leaf: _Leaf) -> dict[ReservationId, list[NodeId]]:
        """Nodes that each reservation has or had here, or that it was split from had, the latest first."""
        families = await self._store.families(tx, {need.reservation for need in leaf.needs})
        holders = {str(id) for pair in families.items() for id in pair if id is not None}
        had: dict[str, list[NodeId]] = {}
        for one in reversed(await self._claims.of_holders(tx, holders, key=leaf.key)):
            if not one.void:
                had.setdefault(one.holder, []).append(one.node)
        return {id: had.get(id, []) + had.get(parent or "", []) for id, parent in families.items()}

    async def _carry_out(self, tx: Tx, leaf: _Leaf, plan: Plan, now: datetime) -> set[ReservationId]:
        claims = {str(one.id): one for one in leaf.claims}
        nodes = {node.id: node for node in leaf.nodes}
        for id in plan.lost:
            node = nodes.get(claims[id].node)
            at = max(claims[id].start, min(now, node.updated_at)) if node is not None else now
            await self._claims.end(tx, [ClaimId(id)], at, released=True)
        await self._claims.end(tx, [ClaimId(id) for id in plan.end if id not in plan.lost], now, released=True)
        for until in sorted(set(plan.stretch.values())):
            await self._claims.extend(tx, [ClaimId(id) for id, end in plan.stretch.items() if end == until], until)
        new = [self._claim(leaf, one, plan, now) for one in plan.begin]
        await self._claims.insert(tx, new)
        await self._lend_no_longer(tx, leaf, plan.begin, now)
        await self._tell(tx, leaf, plan, claims, nodes)
        changed = [*plan.end, *plan.stretch]
        return {one.reservation for one in plan.begin} | {ReservationId(claims[id].holder) for id in changed}

    def _claim(self, leaf: _Leaf, binding: Binding, plan: Plan, now: datetime) -> Claim:
        node = next(node for node in leaf.nodes if node.id == binding.node)
        need = next(need for need in leaf.needs if need.leg == binding.leg)
        return Claim(
            id=ClaimId(self._new_id("claim")),
            project=need.project,
            holder_kind=HolderKind.RESERVATION,
            holder=binding.reservation,
            capacity_class=CapacityClass.RESERVED,
            leaf=leaf.key[0],
            sku=leaf.key[1],
            node=binding.node,
            accelerators=(0, max(1, len(node.accelerators))),
            start=binding.start,
            end=binding.end,
            created_at=now,
            reservation=binding.reservation,
            leg=binding.leg,
            delivered_at=now if _goes_on(leaf.claims, binding, plan, now) else None,
        )

    async def _lend_no_longer(self, tx: Tx, leaf: _Leaf, begin: Sequence[Binding], now: datetime) -> None:
        """Spot work on a node that somebody reserved is gone by the start, or as soon as its notice is over."""
        starts = {one.node: one.start for one in begin}
        for one in leaf.claims:
            if one.capacity_class is CapacityClass.SPOT and one.node in starts:
                await self._claims.reclaim(tx, [one.id], max(starts[one.node], now + self._notice))

    async def _tell(
        self, tx: Tx, leaf: _Leaf, plan: Plan, claims: Mapping[str, Claim], nodes: Mapping[NodeId, Node]
    ) -> None:
        """On the timeline of each reservation: nodes it got, lost and gave back, by host name."""
        told: dict[str, dict[str, list[str]]] = {}

        def note(reservation: str, what: str, node: NodeId) -> None:
            name = nodes[node].hostname if node in nodes else str(node)
            told.setdefault(reservation, {}).setdefault(what, []).append(name)

        for binding in plan.begin:
            note(binding.reservation, "bound", binding.node)
        for id in plan.end:
            note(claims[id].holder, "lost" if id in plan.lost else "given_back", claims[id].node)
        projects = {one.holder: one.project for one in leaf.claims}
        projects |= {str(need.reservation): need.project for need in leaf.needs}
        for reservation, what in told.items():
            short = sum(plan.short.get(need.leg, 0) for need in leaf.needs if need.reservation == reservation)
            await self._events.record(
                tx,
                project=projects[reservation],
                resource=reservation,
                resource_kind=KIND,
                type=f"{KIND}.nodes_replaced" if "lost" in what else f"{KIND}.nodes_bound",
                data={"leaf": leaf.name, **what, "short": short},
            )


def _goes_on(claims: Sequence[Claim], binding: Binding, plan: Plan, now: datetime) -> bool:
    """Whether the reservation has this node already, until the binding begins: then it was handed over long ago."""
    for one in claims:
        if (one.node, one.holder) != (binding.node, binding.reservation) or not one.delivered_at or one.start > now:
            continue
        end = now if one.id in plan.end else plan.stretch.get(one.id, one.end)
        if one.id not in plan.lost and end is not None and end >= binding.start:
            return True
    return False


def _place(node: Node, now: datetime, avoid: Collection[NodeId]) -> Place:
    back = node.status in AWAY and node.until is not None and node.until <= now
    return Place(
        node.id,
        takes=node.status is NodeStatus.READY or back,
        keeps=back or node.status not in GONE,
        avoid=node.id in avoid,
    )


def _held(claim: Claim) -> Held:
    ours = claim.holder_kind is HolderKind.RESERVATION
    return Held(
        id=claim.id,
        node=claim.node,
        start=claim.start,
        end=claim.end,
        reservation=ReservationId(claim.holder) if ours else None,
        leg=claim.leg or "" if ours else None,
    )


def _natural(node: Node) -> tuple[Any, ...]:
    """Numbers in host names by their size, so that neighbours are neighbours."""
    parts: list[tuple[int, int | str]] = []
    text = ""
    for letter in node.hostname:
        if text and letter.isdigit() != text[-1].isdigit():
            parts.append(_part(text))
            text = ""
        text += letter
    return (*parts, _part(text)) if text else tuple(parts)


def _part(text: str) -> tuple[int, int | str]:
    return (0, int(text)) if text.isdigit() else (1, text)
