"""Nodes as engines and fleet know them, put together: what a workload can be placed on. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from skerry.compute.engines.base import SERVER_NODE, NodeCondition, NodeState
from skerry.compute.model import WorkloadSpec
from skerry.compute.rules.placement import Candidate
from skerry.compute.steps import Nodes
from skerry.compute.store import NodeUse
from skerry.fleet.model import Node, NodeStatus


def beside_fleet(spec: WorkloadSpec, found: Nodes) -> Nodes:
    """The server's own machine for what must be there, the fleet's nodes for all else. It may be one of these."""
    names = {node.name for nodes in found.by_engine.values() for node in nodes}
    on_server = spec.on_server and SERVER_NODE in names
    return Nodes(
        {
            engine: [node for node in nodes if (node.name == SERVER_NODE) == on_server]
            for engine, nodes in found.by_engine.items()
        }
    )


def only_on(names: Sequence[str], found: Nodes) -> Nodes:
    """Of these nodes alone, where any are named."""
    if not names:
        return found
    kept = {engine: [one for one in nodes if one.name in names] for engine, nodes in found.by_engine.items()}
    return Nodes(kept)


def pools(spec: WorkloadSpec, hosts: Iterable[Candidate]) -> list[list[Candidate]]:
    """Nodes among which it may be placed, those of each engine by themselves: a gang is not split over two."""
    by_engine: dict[str, list[Candidate]] = {}
    for host in hosts:
        by_engine.setdefault(host.engine, []).append(host)
    return [pool for pool in by_engine.values() if len(pool) >= spec.nodes]


def candidates_of(found: Nodes, known: Mapping[str, Node], use: Iterable[NodeUse]) -> list[Candidate]:
    by_node: dict[str, list[NodeUse]] = {}
    for one in use:
        by_node.setdefault(one.node, []).append(one)
    return [
        _candidate(engine, node, known.get(node.name), by_node.get(node.name, []))
        for engine, nodes in found.by_engine.items()
        for node in nodes
    ]


def _only(names: Sequence[str], found: Nodes) -> Nodes:
    if not names:
        return found
    return Nodes({engine: [one for one in nodes if one.name in names] for engine, nodes in found.by_engine.items()})


def _candidate(engine: str, node: NodeState, known: Node | None, use: Sequence[NodeUse]) -> Candidate:
    why_not = ""
    if node.name == SERVER_NODE:
        why_not = ""
    elif known is None:
        why_not = "the fleet does not know this node"
    elif known.status is not NodeStatus.READY:
        why_not = f"it is {known.status}"
    elif node.condition is not NodeCondition.READY:
        why_not = f"it is {node.condition}" + (f" ({node.reason})" if node.reason else "")
    return Candidate(
        name=node.name,
        engine=engine,
        site=known.site if known is not None else "",
        sku=known.sku if known is not None else "",
        leaf=known.leaf if known is not None else "",
        ready=not why_not,
        memory_bytes=node.memory_bytes,
        accelerators=node.accelerators,
        shared=node.shared,
        used=sum(one.accelerators for one in use),
        taken=frozenset(device for one in use for device in one.devices),
        why_not=why_not,
    )
