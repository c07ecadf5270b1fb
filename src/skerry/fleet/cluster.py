"""The nodes that an engine has of its own (a Slurm cluster) as the fleet's first nodes. Once: afterwards the fleet is
the operator's, who declares and takes out nodes as everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skerry.db.database import Tx
from skerry.fleet.basis import Basis
from skerry.fleet.model import CPU, LOCAL, Accelerator
from skerry.fleet.store.topology import FleetWriter, NodeFilter, NodeReader
from skerry.kernel.ids import LeafId
from skerry.kernel.paging import PageRequest


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """As its engine describes it. `accelerator`: type of its GPUs; empty without GPUs: its cores are counted then."""

    hostname: str
    cores: int
    memory_bytes: int
    accelerators: int
    accelerator: str = ""

    @property
    def sku(self) -> str:
        """`h100.8x`; `local` without GPUs."""
        return f"{self.accelerator}.{self.accelerators}x" if self.accelerator else LOCAL


class Cluster:
    """Makes the site, hall and leaf `local`, a SKU for each kind of node, and the nodes."""

    def __init__(self, basis: Basis) -> None:
        self._basis = basis
        self._writer = FleetWriter()
        self._nodes = NodeReader()

    async def discover(self, tx: Tx, nodes: Sequence[ClusterNode]) -> int:
        """How many nodes were made: none where the fleet has nodes already."""
        if not nodes or (await self._nodes.filtered(tx, NodeFilter(), PageRequest(1))).data:
            return 0
        now, new_id = self._basis.clock.now(), self._basis.new_id
        site, _ = await self._writer.site(tx, new_id("site"), LOCAL, now)
        hall, _ = await self._writer.hall(tx, new_id("hall"), LOCAL, site, now)
        leaf, _ = await self._writer.leaf(tx, new_id("leaf"), LOCAL, hall, now)
        skus = {
            name: (await self._writer.sku(tx, new_id("sku"), name, shape(nodes, name), now))[0]
            for name in sorted({node.sku for node in nodes})
        }
        for node in nodes:
            kind = node.accelerator or CPU
            own = [Accelerator(index, kind) for index in range(node.accelerators)]
            await self._writer.node(tx, new_id("node"), node.hostname, skus[node.sku], leaf, own, now)
        await self._basis.supply.changed(tx, [LeafId(leaf)])
        return len(nodes)


def shape(nodes: Sequence[ClusterNode], sku: str) -> dict[str, Any]:
    """What every node of this SKU has: the least of each figure."""
    alike = [node for node in nodes if node.sku == sku]
    return {
        "accelerator": alike[0].accelerator or CPU,
        "accelerators_per_node": min(node.accelerators for node in alike),
        "cpu": min(node.cores for node in alike),
        "memory": min(node.memory_bytes for node in alike),
        "nvlink": False,
    }
