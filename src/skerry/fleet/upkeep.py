"""Working on nodes: taking them out and back, what checks find, and windows of maintenance."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from skerry.db.database import Tx
from skerry.fleet.basis import Basis
from skerry.fleet.errors import BadFleetField, NodeMoved, UnknownFleetThing, wire
from skerry.fleet.model import AWAY, Endangered, Leaf, Maintenance, Node, NodeCheck, NodeStatus
from skerry.fleet.rules import nodes as rules
from skerry.fleet.rules.nodes import NodeVerb
from skerry.fleet.store.topology import LeafReader, NodeReader
from skerry.fleet.store.upkeep import MaintenanceReader, UpkeepStore
from skerry.kernel.clock import rfc3339
from skerry.kernel.ids import LeafId, MaintenanceId, NodeId, SkuId
from skerry.kernel.paging import Page, PageRequest
from skerry.kernel.states import IllegalTransition
from skerry.runtime.events import Event
from skerry.runtime.state import Reason

BATCH: Final = 200
CHECKS_DAYS: Final = 30
CLOCKS_APART: Final = timedelta(minutes=5)
"""How far ahead of ours the clock of whoever checks a node may be."""


@dataclass(frozen=True, slots=True)
class NodeWish:
    """What is to be done to a node. `until`: from then on it counts again. `maintenance`: the window it is for."""

    verb: NodeVerb
    reason: str
    until: datetime | None = None
    maintenance: str | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class MaintenanceWish:
    """`sku` may be left out where the leaf has only one."""

    leaf: str
    sku: str | None
    nodes: int
    start: datetime
    end: datetime
    reason: str
    force: bool = False


class Upkeep:
    """What takes capacity away asks first whom that leaves short (DESIGN §4: fleet asks, capacity answers)."""

    def __init__(self, basis: Basis) -> None:
        self._basis = basis
        self._store = UpkeepStore()
        self._nodes, self._leaves, self._windows = NodeReader(), LeafReader(), MaintenanceReader()

    # Nodes

    async def move(self, ref: str, wish: NodeWish) -> tuple[Node, list[Endangered]]:
        """The node as it is then, and whom that makes late. A failure is a fact and never refused.

        Raises UnknownFleetThing, IllegalTransition, BadFleetField, BreaksReservations.
        """
        async with self._basis.db.transaction() as tx:
            node, leaf = await self._locked(tx, ref)
            if why_not := rules.why_not(node.status, wish.verb):
                raise IllegalTransition(f"{wish.verb} of {node.hostname}: {why_not}")
            window = await self._window_for(tx, wish, node) if wish.maintenance is not None else None
            until = wish.until or (window.end if window is not None else None)
            if until is not None and (wrong := rules.wrong_until(until, wish.verb, self._basis.clock.now())):
                raise BadFleetField("until", "invalid_until", wrong)
            before = await self._basis.before(tx, [leaf])
            await self._move(tx, node, wish.verb, Reason("by_operator", wish.reason), until, window)
            late = await self._basis.after(tx, before, force=wish.force or wish.verb in rules.FACTS)
            await self._record_late(tx, "node", node.id, late)
            return await self._read(tx, node.id), late

    async def bring_back(self) -> int:
        """Note of nodes that were away until a moment which has come that they are ready; how many. Idempotent."""
        now = self._basis.clock.now()
        reason = Reason("until_reached", "The time it was taken out for is over.")
        async with self._basis.db.transaction() as tx:
            due = await self._store.due(tx, now, BATCH)
            for node, _ in due:
                await self._move(tx, node, NodeVerb.RESUME, reason, None, None)
            await self._basis.supply.changed(tx, {leaf for _, leaf in due})
            return len(due)

    async def events(self, ref: str, request: PageRequest) -> Page[Event]:
        """The node's timeline, oldest first."""
        async with self._basis.db.reading() as tx:
            node = await self._nodes.find(tx, ref)
            # What was removed is known to the timeline only.
            id = node.id if node is not None else ref
            page = await self._basis.events.list(tx, await self._basis.platform(tx), id, request)
            if node is None and not page.data:
                raise UnknownFleetThing("node", ref)
            return page

    async def note(self, tx: Tx, node: NodeId, what: str, data: Mapping[str, Any]) -> None:
        """Put something that was noticed on a node's timeline, in the transaction of whoever noticed it."""
        await self._basis.record(tx, "node", node, what, data)

    # Checks

    async def check(self, ref: str, name: str, at: datetime | None, *, ok: bool, detail: str) -> NodeCheck:
        """Record what a check found. It changes no status: who takes a node out says so."""
        now = self._basis.clock.now()
        if at is not None and at > now + CLOCKS_APART:
            raise BadFleetField("at", "in_the_future", "a check was made before it is reported")
        async with self._basis.db.transaction() as tx:
            node, _ = await self._locked(tx, ref)
            check = NodeCheck(self._basis.new_id("check"), node.id, name, at or now, ok, detail)
            await self._store.add_check(tx, check)
            last = node.health.get(name)
            if last is None or datetime.fromisoformat(last["at"]) <= check.at:
                found = {"ok": ok, "at": rfc3339(check.at), "detail": detail}
                await self._store.set_health(tx, node.id, {**node.health, name: found})
                if last is None or last["ok"] != ok:
                    what = "check_passed" if ok else "check_failed"
                    await self._basis.record(tx, "node", node.id, what, {"check": name, "detail": detail})
            return check

    async def checks(self, ref: str, request: PageRequest) -> Page[NodeCheck]:
        """Newest first."""
        async with self._basis.db.reading() as tx:
            return await self._store.checks(tx, (await self._read(tx, ref)).id, request)

    async def keep_house(self) -> None:
        """Forget checks of more than 30 days ago."""
        async with self._basis.db.transaction() as tx:
            await self._store.forget_checks(tx, self._basis.clock.now() - timedelta(days=CHECKS_DAYS))

    # Maintenance

    async def plan(self, wish: MaintenanceWish) -> tuple[Maintenance, list[Endangered]]:
        """Take a count of nodes out of a leaf for a window, and say whom that makes late.

        Raises UnknownFleetThing, BadFleetField, BreaksReservations.
        """
        now = self._basis.clock.now()
        _check_window(wish, now)
        async with self._basis.db.transaction() as tx:
            leaf = await self._leaves.find(tx, wish.leaf)
            if leaf is None:
                raise BadFleetField("leaf", "unknown_leaf", f"There is no leaf {wish.leaf!r}.")
            sku, name = await self._sku_in(tx, leaf, wish)
            id = MaintenanceId(self._basis.new_id("mnt"))
            window = Maintenance(id, leaf.name, name, wish.nodes, wish.start, wish.end, wish.reason, now)
            before = await self._basis.before(tx, [leaf.id])
            await self._store.add_maintenance(tx, window, leaf.id, sku)
            late = await self._basis.after(tx, before, force=wish.force)
            await self._basis.record(tx, "maintenance", id, "planned", _told(window))
            await self._record_late(tx, "maintenance", id, late)
            return window, late

    async def windows(self, request: PageRequest, leaf: str | None = None) -> Page[Maintenance]:
        async with self._basis.db.reading() as tx:
            return await self._windows.of_leaf(tx, leaf, request)

    async def window(self, id: str) -> Maintenance:
        async with self._basis.db.reading() as tx:
            return await self._window(tx, id)

    async def call_off(self, id: str) -> Maintenance:
        """A window that has not begun is gone; one that has ends now."""
        now = self._basis.clock.now().replace(microsecond=0)
        async with self._basis.db.transaction() as tx:
            leaf = await self._store.lock_maintenance(tx, id)
            window = await self._window(tx, id)
            if leaf is None or window.end <= now:
                return window
            await self._store.end_maintenance(tx, window, now)
            await self._basis.record(tx, "maintenance", window.id, "called_off", _told(window))
            await self._basis.supply.changed(tx, [leaf])
            return replace(window, end=now) if window.start < now else window

    # Parts

    async def _locked(self, tx: Tx, ref: str) -> tuple[Node, LeafId]:
        found = await self._store.lock(tx, ref)
        if found is None:
            raise UnknownFleetThing("node", ref)
        return found

    async def _read(self, tx: Tx, ref: str) -> Node:
        node = await self._nodes.find(tx, ref)
        if node is None:
            raise UnknownFleetThing("node", ref)
        return node

    async def _move(
        self, tx: Tx, node: Node, verb: NodeVerb, reason: Reason, until: datetime | None, window: Maintenance | None
    ) -> None:
        after = rules.BECOMES[verb]
        stays = after is not NodeStatus.READY  # a node that fails within a window is still one of its count
        maintenance = window.id if window is not None else node.maintenance if stays else None
        if not await self._store.move(
            tx, node, after, reason, self._basis.clock.now(), until=until, maintenance=maintenance
        ):
            raise NodeMoved(node.hostname)
        data = {"before": node.status, "after": after, "reason": reason.to_json(), "hostname": node.hostname}
        if until is not None:
            data["until"] = rfc3339(until)
        await self._basis.record(tx, "node", node.id, after, data)

    async def _window_for(self, tx: Tx, wish: NodeWish, node: Node) -> Maintenance:
        window = await self._windows.find(tx, wish.maintenance or "")
        if window is None:
            raise BadFleetField("maintenance", "unknown_maintenance", f"There is no maintenance {wish.maintenance!r}.")
        if (window.leaf, window.sku) != (node.leaf, node.sku) or rules.BECOMES[wish.verb] not in AWAY:
            message = f"{window.id} is for nodes of {window.sku} in {window.leaf} that are taken out"
            raise BadFleetField("maintenance", "other_maintenance", message)
        return window

    async def _window(self, tx: Tx, id: str) -> Maintenance:
        window = await self._windows.find(tx, id)
        if window is None:
            raise UnknownFleetThing("maintenance", id)
        return window

    async def _sku_in(self, tx: Tx, leaf: Leaf, wish: MaintenanceWish) -> tuple[SkuId, str]:
        here = await self._store.skus_of(tx, leaf.id)
        wanted = [row for row in here if wish.sku in (None, row[0], row[1])]
        names = ", ".join(name for _, name, _ in here) or "none"
        if not wanted:
            raise BadFleetField("sku", "unknown_sku", f"{leaf.name} has no nodes of {wish.sku!r}; it has: {names}")
        if len(wanted) > 1:
            raise BadFleetField("sku", "sku_required", f"{leaf.name} has nodes of several SKUs: {names}. Say which.")
        ((id, name, most),) = wanted
        if wish.nodes > most:
            raise BadFleetField("nodes", "too_many_nodes", f"{leaf.name} has {most} nodes of {name}")
        return id, name

    async def _record_late(self, tx: Tx, kind: str, id: str, late: list[Endangered]) -> None:
        if late:
            await self._basis.record(tx, kind, id, "makes_late", {"reservations": [wire(one) for one in late]})


def _check_window(wish: MaintenanceWish, now: datetime) -> None:
    if wish.nodes < 1:
        raise BadFleetField("nodes", "out_of_range", "nodes must be at least 1")
    for name, at in (("start", wish.start), ("end", wish.end)):
        if at.microsecond:
            raise BadFleetField(name, "sub_second", f"{name} is a whole second")
    if wish.end <= wish.start:
        raise BadFleetField("end", "end_before_start", "end must come after start")
    if wish.end <= now:
        raise BadFleetField("end", "in_the_past", "the window is over")


def _told(window: Maintenance) -> dict[str, object]:
    return {
        "leaf": window.leaf,
        "sku": window.sku,
        "nodes": window.nodes,
        "start": rfc3339(window.start),
        "end": rfc3339(window.end),
        "reason": window.reason,
    }
