"""Choosing the node for a pending workload, and writing the attempt's row before any engine hears of it."""

from dataclasses import replace
from typing import Final

from skerry.compute.changes import Changes
from skerry.compute.engines.base import NodeCondition, NodeState
from skerry.compute.model import Attempt, ReasonCode, StatusReason, Workload, WorkloadStatus
from skerry.compute.rules.placement import Candidate, Place, place
from skerry.compute.steps import Next, Nodes
from skerry.compute.store import NodeUse, Work, WorkloadStore
from skerry.db.database import Tx
from skerry.fleet.model import Node, NodeStatus
from skerry.fleet.service import Fleet
from skerry.kernel.clock import Clock
from skerry.kernel.ids import AttemptId, IdFactory

_NO_NODE_SECONDS: Final = 10.0


class Placing:
    """One placement at a time over the whole database, so that nothing is handed out twice."""

    def __init__(self, clock: Clock, changes: Changes, fleet: Fleet, new_id: IdFactory) -> None:
        self._clock = clock
        self._changes = changes
        self._fleet = fleet
        self._new_id = new_id
        self._store = WorkloadStore()
        self._work = Work()

    async def place(self, tx: Tx, workload: Workload, found: Nodes) -> Next:
        await self._work.lock_placement(tx)
        names = [node.name for nodes in found.by_engine.values() for node in nodes]
        known = await self._fleet.find_nodes(tx, names)
        use = await self._work.use_of(tx, names)
        candidates = [
            _candidate(engine, node, known.get(node.name), use.get(node.name, NodeUse()))
            for engine, nodes in found.by_engine.items()
            for node in nodes
        ]
        where = place(workload.spec, candidates)
        if isinstance(where, str):
            await self._changes.explain(tx, workload, StatusReason.of(ReasonCode.NO_NODE, f"{where}."))
            return Next(_NO_NODE_SECONDS)
        attempt = self._new_attempt(workload, where)
        await self._store.insert_attempt(tx, attempt)
        await self._changes.move(
            tx,
            replace(workload, attempt=attempt),
            WorkloadStatus.STARTING,
            StatusReason.of(ReasonCode.SUBMITTING, f"Attempt {attempt.n} on {where.node.name}."),
            attempts=attempt.n,
        )
        return Next(0, changed=True)

    def _new_attempt(self, workload: Workload, where: Place) -> Attempt:
        return Attempt(
            id=AttemptId(self._new_id("att")),
            workload=workload.id,
            project=workload.project,
            n=workload.attempts + 1,
            engine=where.node.engine,
            nodes=(where.node.name,),
            accelerators=workload.spec.accelerators,
            devices=where.devices,
            created_at=self._clock.now(),
            site=where.node.site,
            sku=where.node.sku,
        )


def _candidate(engine: str, node: NodeState, known: Node | None, use: NodeUse) -> Candidate:
    why_not = ""
    if known is None:
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
        ready=not why_not,
        memory_bytes=node.memory_bytes,
        accelerators=node.accelerators,
        shared=node.shared,
        used=use.accelerators,
        taken=use.devices,
        why_not=why_not,
    )
