"""This machine as the fleet's first nodes: one, or as many virtual ones as it is divided into.

Virtual nodes share the machine's cores; its GPUs are shared out evenly, and numbered from 0 on each node. Nodes that a
later start does not have any more are cordoned, and are ready again with the start that has them again.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from skerry.db.database import Tx
from skerry.fleet.basis import Basis
from skerry.fleet.errors import BadFleetField
from skerry.fleet.model import (
    LOCAL,
    LOCAL_NODES,
    MOST_VIRTUAL_NODES,
    Accelerator,
    Endangered,
    LocalFleet,
    Machine,
    Node,
    NodeStatus,
)
from skerry.fleet.store.topology import FleetWriter, NodeFilter, NodeReader
from skerry.fleet.store.upkeep import UpkeepStore
from skerry.kernel.ids import LeafId, NodeId, SiteId
from skerry.kernel.paging import MAX_LIMIT, PageRequest
from skerry.runtime.state import Reason

GONE: Final = "no_virtual_node"
"""Why a node is cordoned that this start does not have."""


def shares(machine: Machine, nodes: int) -> list[tuple[Accelerator, ...]]:
    """The accelerators of each node. Raises BadFleetField where GPUs cannot be shared out evenly."""
    if not 1 <= nodes <= MOST_VIRTUAL_NODES:
        words = f"--virtual-nodes is from 1 to {MOST_VIRTUAL_NODES}"
        raise BadFleetField("virtual_nodes", "out_of_range", words)
    if not machine.gpus:
        return [machine.accelerators] * nodes
    each, over = divmod(len(machine.gpus), nodes)
    if over or not each:
        counts = [str(count) for count in range(1, len(machine.gpus) + 1) if len(machine.gpus) % count == 0]
        words = f"{len(machine.gpus)} GPUs cannot be shared out evenly over {nodes} virtual nodes"
        raise BadFleetField("virtual_nodes", "uneven", f"{words}: choose --virtual-nodes {' or '.join(counts)}")
    return [machine.gpus[each * n : each * (n + 1)] for n in range(nodes)]


class LocalMachine:
    """Makes this machine the site, hall, leaf, SKU and nodes `local`, or brings them up to date."""

    def __init__(self, basis: Basis) -> None:
        self._basis = basis
        self._writer = FleetWriter()
        self._nodes = NodeReader()
        self._upkeep = UpkeepStore()

    async def discover(self, tx: Tx, machine: Machine, nodes: int = 1) -> LocalFleet:
        """Idempotent. What an operator has set since (status, country, prices) is left alone. Raises BadFleetField."""
        now, new_id, own = self._basis.clock.now(), self._basis.new_id, shares(machine, nodes)
        site, new_site = await self._writer.site(tx, new_id("site"), LOCAL, now)
        hall, _ = await self._writer.hall(tx, new_id("hall"), LOCAL, site, now)
        leaf, _ = await self._writer.leaf(tx, new_id("leaf"), LOCAL, hall, now)
        shape = {
            "accelerator": machine.accelerator_type,
            "accelerators_per_node": len(own[0]),
            "cpu": machine.cores,
            "memory": machine.memory_bytes,
            "nvlink": False,
        }
        sku, new_sku = await self._writer.sku(tx, new_id("sku"), LOCAL, shape, now)
        before = await self._nodes_here(tx, LeafId(leaf))
        made = [
            await self._writer.node(tx, new_id("node"), f"{LOCAL_NODES}{n}", sku, leaf, numbered(accelerators), now)
            for n, accelerators in enumerate(own, start=1)
        ]
        new_node = any(new for _, new in made)
        if new_node:
            await self._basis.supply.changed(tx, [LeafId(leaf)])
        moved, late = await self._cordon_the_rest(tx, LeafId(leaf), before, nodes)
        return LocalFleet(
            SiteId(site),
            NodeId(made[0][0]),
            changed=new_site or new_sku or new_node or bool(moved),
            nodes=nodes,
            nodes_before=sum(not _is_gone(one) for one in before),
            endangered=tuple(late),
        )

    async def _nodes_here(self, tx: Tx, leaf: LeafId) -> list[Node]:
        """Those that discovery has made, in this start or in earlier ones."""
        page = await self._nodes.filtered(tx, NodeFilter(leaf=leaf, sku=LOCAL), PageRequest(MAX_LIMIT))
        return [one for one in page.data if _number(one) is not None]

    async def _cordon_the_rest(
        self, tx: Tx, leaf: LeafId, before: Sequence[Node], nodes: int
    ) -> tuple[list[Node], list[Endangered]]:
        gone = [one for one in before if (_number(one) or 0) > nodes and one.status is NodeStatus.READY]
        back = [one for one in before if (_number(one) or 0) <= nodes and _is_gone(one)]
        if not gone and not back:
            return [], []
        sold = await self._basis.before(tx, [leaf])
        words = f"This machine has {nodes} virtual nodes now; a start with more of them has it back."
        for one in gone:
            await self._move(tx, one, NodeStatus.CORDONED, Reason(GONE, words))
        for one in back:
            await self._move(tx, one, NodeStatus.READY, Reason("virtual_node", "This start has it again."))
        # A fact, and never refused: the machine is as it was started.
        return gone + back, await self._basis.after(tx, sold, force=True)

    async def _move(self, tx: Tx, node: Node, after: NodeStatus, reason: Reason) -> None:
        await self._upkeep.move(tx, node, after, reason, self._basis.clock.now(), until=None, maintenance=None)
        data = {"before": node.status, "after": after, "reason": reason.to_json(), "hostname": node.hostname}
        await self._basis.record(tx, "node", node.id, after, data)


def numbered(accelerators: Sequence[Accelerator]) -> list[Accelerator]:
    """From 0 on, as on a machine of their own."""
    return [replace(one, index=n) for n, one in enumerate(accelerators)]


def said(found: LocalFleet) -> list[str]:
    """What a user should know of a start with another number of nodes."""
    if not found.nodes_before or found.nodes == found.nodes_before:
        return []
    now = "1 node" if found.nodes == 1 else f"{found.nodes} virtual nodes"
    lines = [f"this machine is {now} now; it was {found.nodes_before} before"]
    if found.nodes < found.nodes_before:
        back = f"`--virtual-nodes {found.nodes_before}` has them back"
        lines[0] += f", the others are cordoned and {back}"
    return lines + [
        f"reservation {one.reservation} is {one.nodes_short} nodes short at {one.leaf_name}" for one in found.endangered
    ]


def _number(node: Node) -> int | None:
    """n of `local-n`."""
    text = node.hostname.removeprefix(LOCAL_NODES)
    return int(text) if text != node.hostname and text.isdigit() else None


def _is_gone(node: Node) -> bool:
    return node.status is NodeStatus.CORDONED and (node.status_reason or {}).get("code") == GONE
