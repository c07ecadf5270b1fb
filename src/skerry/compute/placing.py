"""Choosing the node for a pending workload, and writing the attempt's row before any engine hears of it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from skerry.capacity.admission.model import AdmissionRequest, Host, Leaving, NotNow, WhyNot
from skerry.capacity.admission.service import Admission
from skerry.compute.changes import Changes
from skerry.compute.engines.base import NodeCondition, NodeState
from skerry.compute.model import Attempt, ReasonCode, StatusReason, Workload, WorkloadStatus
from skerry.compute.rules.placement import Candidate, Place, fitting, place
from skerry.compute.steps import Next, Nodes
from skerry.compute.store import NodeUse, Work, WorkloadStore
from skerry.db.database import Tx
from skerry.fleet.model import Node, NodeStatus
from skerry.fleet.service import Fleet
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import Clock
from skerry.kernel.ids import AttemptId, IdFactory, ProjectId, ReservationId

_NO_NODE_SECONDS: Final = 10.0

Jurisdictions = Callable[[Tx, ProjectId], Awaitable[Sequence[str]]]
"""Where a project's data may be: countries or regions; none: anywhere."""


async def anywhere(tx: Tx, project: ProjectId) -> Sequence[str]:
    return ()


class Placing:
    """One placement at a time over the whole database. What has accelerators is admitted by capacity, in the ledger
    that reservations stand in; what has none only needs a node that works."""

    def __init__(
        self,
        clock: Clock,
        changes: Changes,
        fleet: Fleet,
        new_id: IdFactory,
        admission: Admission,
        jurisdictions: Jurisdictions,
    ) -> None:
        self._clock = clock
        self._changes = changes
        self._fleet = fleet
        self._new_id = new_id
        self._admission = admission
        self._jurisdictions = jurisdictions
        self._store = WorkloadStore()
        self._work = Work()

    async def place(self, tx: Tx, workload: Workload, found: Nodes) -> Next:
        await self._work.lock_placement(tx)
        names = [node.name for nodes in found.by_engine.values() for node in nodes]
        known = await self._fleet.find_nodes(tx, names)
        use = await self._work.use_of(tx, names)
        where: Place | StatusReason | str
        if workload.spec.accelerators:
            where = await self._admit(tx, workload, found, known, use)
        else:
            where = place(workload.spec, _candidates(found, known, use))
        if isinstance(where, str):
            where = StatusReason.of(ReasonCode.NO_NODE, f"{where}.")
        if isinstance(where, StatusReason):
            await self._changes.explain(tx, workload, where)
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

    async def give_back(self, tx: Tx, workload: Workload) -> None:
        """Its attempt has ended: what it held is free."""
        if workload.spec.accelerators:
            await self._admission.release(tx, workload.id)

    async def _admit(
        self, tx: Tx, workload: Workload, found: Nodes, known: Mapping[str, Node], use: Sequence[NodeUse]
    ) -> Place | StatusReason:
        """What attempts hold by a claim is known to admission; what they hold without one is known here."""
        spec = workload.spec
        if (spec.capacity_class is CapacityClass.RESERVED) != (spec.reservation is not None):
            words = "Reserved capacity is that of a reservation, and it names none."
            return StatusReason.of(ReasonCode.RESERVATION_NOT_READY, words)
        holding = await self._admission.holding(tx, {one.workload for one in use})
        candidates = _candidates(found, known, [one for one in use if one.workload not in holding])
        hosts = {node.name: node for node in fitting(spec, candidates)}
        if not hosts:
            return StatusReason.of(ReasonCode.NO_NODE, f"{place(spec, candidates)}.")
        request = AdmissionRequest(
            project=workload.project,
            workload=workload.id,
            capacity_class=spec.capacity_class,
            accelerators=spec.accelerators,
            hosts=tuple(Host(node.name, node.free) for node in hosts.values()),
            sku=spec.sku,
            site=spec.site,
            max_duration_seconds=spec.max_duration_seconds,
            reservation=ReservationId(spec.reservation) if spec.reservation is not None else None,
            jurisdictions=tuple(await self._jurisdictions(tx, workload.project)),
        )
        answer = await self._admission.admit(tx, request)
        if isinstance(answer, NotNow):
            return _reason(answer, place(spec, _candidates(found, known, use)))
        share = answer.shares[0]
        node = hosts[share.host]
        return Place(node, () if node.shared else share.devices)

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


def goes_back(leaving: Leaving) -> bool:
    """It is not the workload's own time that is over: it may run again elsewhere or later."""
    return leaving.noticed or leaving.capacity_class is not CapacityClass.ON_DEMAND


def _reason(answer: NotNow, seen: Place | str) -> StatusReason:
    """Where nothing is free, the nodes one by one say more."""
    code = ReasonCode(answer.reason.value)
    if answer.reason is WhyNot.NO_NODE and isinstance(seen, str):
        return StatusReason.of(code, f"{seen}. {answer.message}")
    return StatusReason.of(code, answer.message)


def _candidates(found: Nodes, known: Mapping[str, Node], use: Iterable[NodeUse]) -> list[Candidate]:
    by_node: dict[str, list[NodeUse]] = {}
    for one in use:
        by_node.setdefault(one.node, []).append(one)
    return [
        _candidate(engine, node, known.get(node.name), by_node.get(node.name, []))
        for engine, nodes in found.by_engine.items()
        for node in nodes
    ]


def _candidate(engine: str, node: NodeState, known: Node | None, use: Sequence[NodeUse]) -> Candidate:
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
        used=sum(one.accelerators for one in use),
        taken=frozenset(device for one in use for device in one.devices),
        why_not=why_not,
    )
