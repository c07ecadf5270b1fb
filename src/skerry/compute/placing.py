"""Choosing the node for a pending workload, and writing the attempt's row before any engine hears of it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from skerry.capacity.admission.model import AdmissionRequest, Host, Leaving, NotNow, Placed, WhyNot
from skerry.capacity.admission.service import Admission
from skerry.capacity.model import Scope
from skerry.capacity.rules.places import countries
from skerry.compute.candidates import beside_fleet, candidates_of, only_on, pools
from skerry.compute.changes import KIND, Changes
from skerry.compute.metered import waiting_since
from skerry.compute.model import UNPLACED, Attempt, ReasonCode, StatusReason, Workload, WorkloadSpec, WorkloadStatus
from skerry.compute.queueing import Queue
from skerry.compute.rules.placement import Candidate, Place, Spot, fitting, place
from skerry.compute.steps import Next, Nodes
from skerry.compute.store import NodeUse, Work, WorkloadStore
from skerry.db.database import Tx
from skerry.db.notify import WORK, notify
from skerry.fleet.model import Node, NodeStatus
from skerry.fleet.service import Fleet
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import Clock, rfc3339
from skerry.kernel.ids import AttemptId, IdFactory, ProjectId, ReservationId

_TURN_SECONDS: Final = 0.2
"""Until those before it have been looked at."""
_SHOWN: Final = 4
_DEADLY: Final = 2
"""A node under which so many attempts of a workload died is left alone by its next."""

Jurisdictions = Callable[[Tx, ProjectId], Awaitable[Sequence[str]]]
"""Where a project's data may be: countries or regions; none: anywhere."""


async def anywhere(tx: Tx, project: ProjectId) -> Sequence[str]:
    return ()


class KeepsApart(Protocol):
    """Who knows which engines keep whose code apart (`Isolation`)."""

    async def look(self) -> None: ...

    async def engines_for(self, tx: Tx, project: ProjectId, spec: WorkloadSpec) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True)
class NotPlaced:
    """Why not, and when it would be as things stand; None: nothing that is known to end makes room."""

    reason: StatusReason
    start: datetime | None = None


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
        isolation: KeepsApart | None = None,
    ) -> None:
        self._clock = clock
        self._changes = changes
        self._fleet = fleet
        self._new_id = new_id
        self._admission = admission
        self._jurisdictions = jurisdictions
        self._isolation = isolation
        self._store = WorkloadStore()
        self._work = Work()
        self._queue = Queue()

    async def place(self, tx: Tx, workload: Workload, found: Nodes) -> Next:
        await self._work.lock_placement(tx)
        if workload.spec.accelerators and (wait := await self._wait_for_turn(tx, workload)) is not None:
            return wait
        apart = await self._kept_apart(tx, workload, beside_fleet(workload.spec, found))
        if apart is None:
            words = "No engine here can keep the code of this project apart from that of others."
            return await self._wait(tx, workload, NotPlaced(StatusReason.of(ReasonCode.ISOLATION_UNAVAILABLE, words)))
        found = only_on(workload.spec.only_nodes, await self._without_deadly(tx, workload, apart))
        names = [node.name for nodes in found.by_engine.values() for node in nodes]
        known = await self._fleet.find_nodes(tx, names)
        if workload.spec.probe:  # on a node that is drained for it
            known = {name: replace(node, status=NodeStatus.READY) for name, node in known.items()}
        use = await self._work.use_of(tx, names)
        where: Place | NotPlaced | str
        if workload.spec.accelerators:
            where = await self._admit(tx, workload, found, known, use)
        else:
            where = place(workload.spec, await self._allowed(tx, workload, candidates_of(found, known, use)))
        if isinstance(where, str):
            where = NotPlaced(StatusReason.of(ReasonCode.NO_NODE, f"{where}."))
        if isinstance(where, NotPlaced):
            return await self._wait(tx, workload, where)
        attempt = self._new_attempt(workload, where)
        await self._store.insert_attempt(tx, attempt)
        await self._changes.move(
            tx,
            replace(workload, attempt=attempt),
            WorkloadStatus.STARTING,
            StatusReason.of(ReasonCode.SUBMITTING, f"Attempt {attempt.n} on {_listed(where.names)}."),
            attempts=attempt.n,
            estimated_start=None,
        )
        now = self._clock.now()
        if workload.reason.code in UNPLACED and await self._queue.hint(tx, now, sku=attempt.sku, placing=True):
            await notify(tx, WORK, KIND)
        return Next(0, changed=True)

    async def _kept_apart(self, tx: Tx, workload: Workload, found: Nodes) -> Nodes | None:
        """Engines where its code may run (I11); None: there are none."""
        if self._isolation is None or not workload.spec.customer_code:
            return found
        allowed = await self._isolation.engines_for(tx, workload.project, workload.spec)
        kept = {engine: nodes for engine, nodes in found.by_engine.items() if engine in allowed}
        return Nodes(kept) if kept else None

    async def _without_deadly(self, tx: Tx, workload: Workload, found: Nodes) -> Nodes:
        """Without nodes that have died under it twice, where enough others could take it."""
        if not workload.attempts:
            return found
        deaths = await self._work.deaths(tx, workload.id)
        avoided = {node for node, times in deaths.items() if times >= _DEADLY}
        if not avoided:
            return found
        kept = Nodes(
            {engine: [one for one in nodes if one.name not in avoided] for engine, nodes in found.by_engine.items()}
        )
        known = await self._fleet.find_nodes(tx, [node.name for nodes in kept.by_engine.values() for node in nodes])
        enough = len(fitting(workload.spec, candidates_of(kept, known, ()))) >= workload.spec.nodes
        return kept if enough else found

    async def _wait_for_turn(self, tx: Tx, workload: Workload) -> Next | None:
        now = self._clock.now()
        if await self._queue.due_before(tx, workload, now):
            if workload.reason.code not in UNPLACED:
                words = "What goes first is looked at first."
                await self._changes.explain(tx, workload, StatusReason.of(ReasonCode.BEHIND_OTHERS, words))
            return Next(_TURN_SECONDS)
        if (start := await self._queue.stands_back(tx, workload, now)) is None:
            return None
        words = f"What has waited longer starts at {rfc3339(start)}." if start > now else "Others have asked for it."
        return await self._wait(tx, workload, NotPlaced(StatusReason.of(ReasonCode.BEHIND_OTHERS, words)))

    async def _wait(self, tx: Tx, workload: Workload, why: NotPlaced) -> Next:
        await self._changes.explain(tx, workload, why.reason, estimated_start=why.start)
        return Next(await self._queue.look_again_seconds(tx, self._clock.now(), why.start))

    async def give_back(self, tx: Tx, workload: Workload) -> None:
        """Its attempt has ended: what it held is free."""
        if workload.spec.accelerators:
            await self._admission.release(tx, workload.id)

    async def _admit(
        self, tx: Tx, workload: Workload, found: Nodes, known: Mapping[str, Node], use: Sequence[NodeUse]
    ) -> Place | NotPlaced:
        """What attempts hold by a claim is known to admission; what they hold without one is known here."""
        spec = workload.spec
        if (spec.capacity_class is CapacityClass.RESERVED) != (spec.reservation is not None):
            words = "Reserved capacity is that of a reservation, and it names none."
            return NotPlaced(StatusReason.of(ReasonCode.RESERVATION_NOT_READY, words))
        holding = await self._admission.holding(tx, {one.workload for one in use})
        candidates = candidates_of(found, known, [one for one in use if one.workload not in holding])
        hosts = {node.name: node for node in fitting(spec, candidates)}
        refused: NotNow | None = None
        for pool in pools(spec, hosts.values()):
            answer = await self._admission.admit(tx, await self._request(tx, workload, pool))
            if isinstance(answer, Placed):
                spots = [(hosts[share.host], share.devices) for share in answer.shares]
                return Place.of(Spot(node, () if node.shared else devices) for node, devices in spots)
            refused = answer
        if refused is None:
            full = candidates_of(found, known, use)  # what has a claim is in the way too
            return NotPlaced(StatusReason.of(ReasonCode.NO_NODE, f"{place(spec, full)}."))
        return _reason(refused, place(spec, candidates_of(found, known, use)))

    async def _request(self, tx: Tx, workload: Workload, hosts: Sequence[Candidate]) -> AdmissionRequest:
        spec = workload.spec
        return AdmissionRequest(
            project=workload.project,
            workload=workload.id,
            capacity_class=spec.capacity_class,
            accelerators=spec.each,
            hosts=tuple(Host(node.name, node.free) for node in hosts),
            nodes=spec.nodes,
            scope=Scope(spec.scope),
            scope_required=spec.scope_required,
            sku=spec.sku,
            site=spec.site,
            max_duration_seconds=spec.max_duration_seconds,
            reservation=ReservationId(spec.reservation) if spec.reservation is not None else None,
            jurisdictions=tuple(await self._jurisdictions(tx, workload.project)),
        )

    async def _allowed(self, tx: Tx, workload: Workload, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Where its project's data may be, and with the halls that a gang may have to share."""
        allowed = countries(await self._jurisdictions(tx, workload.project))
        if allowed is None and (workload.spec.nodes == 1 or workload.spec.scope != Scope.HALL):
            return list(candidates)
        supplies = await self._fleet.supplies(tx)
        outside = {one.site for one in supplies if allowed is not None and one.country not in allowed}
        halls = {one.leaf_name: one.hall for one in supplies}
        return [
            replace(
                one,
                hall=halls.get(one.leaf, ""),
                ready=one.ready and one.site not in outside,
                why_not=one.why_not or ("the project's data may not be there" if one.site in outside else ""),
            )
            for one in candidates
        ]

    def _new_attempt(self, workload: Workload, where: Place) -> Attempt:
        return Attempt(
            id=AttemptId(self._new_id("att")),
            workload=workload.id,
            project=workload.project,
            n=workload.attempts + 1,
            engine=where.engine,
            nodes=where.names,
            accelerators=workload.spec.accelerators,
            devices=where.devices,
            created_at=self._clock.now(),
            site=where.spots[0].node.site,
            sku=where.spots[0].node.sku,
            waited_seconds=max(0, int((self._clock.now() - waiting_since(workload)).total_seconds())),
        )


def goes_back(leaving: Leaving) -> bool:
    """It is not the workload's own time that is over: it may run again elsewhere or later."""
    return leaving.noticed or leaving.capacity_class is not CapacityClass.ON_DEMAND


def _reason(answer: NotNow, seen: Place | str) -> NotPlaced:
    """Where nothing is free, the nodes one by one say more."""
    code = ReasonCode(answer.reason.value)
    words = f"{seen}. {answer.message}" if answer.reason is WhyNot.NO_NODE and isinstance(seen, str) else answer.message
    return NotPlaced(StatusReason.of(code, words), answer.estimated_start)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
