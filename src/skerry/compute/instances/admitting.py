"""Asking for capacity at once, in the transaction that makes a workload, rather than some moments later."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from skerry.capacity.admission.service import Admission
from skerry.compute.changes import Changes
from skerry.compute.engines.base import Engine, EngineUnavailable, NodeState
from skerry.compute.model import ReasonCode, Workload, WorkloadSpec, WorkloadStatus
from skerry.compute.placing import Placing
from skerry.compute.service import Compute
from skerry.compute.steps import Nodes
from skerry.db.database import Tx
from skerry.fleet.service import Fleet
from skerry.identity.service import Identity
from skerry.kernel.ids import ProjectId, new_id
from skerry.runtime.events import EventLog
from skerry.runtime.outbox import Outbox
from skerry.runtime.settings import Settings
from skerry.runtime.state import Reason

_SMALLER = 4
"""How often a request that does not fit is halved in search of one that would."""


def admit_now(
    settings: Settings, compute: Compute, events: EventLog, outbox: Outbox, fleet: Fleet, identity: Identity
) -> "AdmitNow":
    admission = Admission(
        compute.clock,
        fleet,
        notice=timedelta(seconds=settings.spot_notice_seconds),
        horizon=timedelta(days=settings.horizon_days),
    )

    async def jurisdictions(tx: Tx, project: ProjectId) -> Sequence[str]:
        return (await identity.project(tx, project)).jurisdictions

    placing = Placing(compute.clock, Changes(events, outbox), fleet, new_id, admission, jurisdictions)
    return AdmitNow(compute, placing, compute.engines)


class _Undone(Exception):
    """Rolls a savepoint back."""


class AdmitNow:
    """Places a workload as its reconciler would."""

    def __init__(self, compute: Compute, placing: Placing, engines: Mapping[str, Engine]) -> None:
        self._compute = compute
        self._placing = placing
        self._engines = engines

    async def nodes(self) -> Nodes:
        """What engines have now. Not inside a transaction. Raises EngineUnavailable where none answers."""
        found: dict[str, Sequence[NodeState]] = {}
        silent = EngineUnavailable("There is no engine.")
        for name, engine in self._engines.items():
            try:
                found[name] = await engine.nodes()
            except EngineUnavailable as error:
                silent = error
        if not found:
            raise silent
        return Nodes(found)

    async def place(self, tx: Tx, workload: Workload, nodes: Nodes) -> Reason | None:
        """None: it has its nodes, or it will have them when spot work has left. Else why not."""
        await self._placing.place(tx, workload, nodes)
        now = await self._compute.get(tx, workload.project, workload.id)
        if now.status is not WorkloadStatus.PENDING or now.reason.code is ReasonCode.RECLAIMING:
            return None
        return Reason(now.reason.code, now.reason.message)

    async def nearest(self, tx: Tx, workload: Workload, nodes: Nodes) -> dict[str, int] | None:
        """The largest smaller request, by halves, that would start now; nothing of it stays."""
        spec = workload.spec
        for _ in range(_SMALLER):
            smaller = _halved(spec)
            if smaller is None:
                return None
            spec = smaller
            if await self._would_fit(tx, replace(workload, spec=spec), nodes):
                return {"nodes": spec.nodes} if workload.spec.nodes > 1 else {"accelerators": spec.accelerators}
        return None

    async def _would_fit(self, tx: Tx, workload: Workload, nodes: Nodes) -> bool:
        fits = False
        try:
            async with tx.begin_nested():
                fits = await self.place(tx, workload, nodes) is None
                raise _Undone
        except _Undone:
            return fits


def _halved(spec: WorkloadSpec) -> WorkloadSpec | None:
    if spec.nodes > 1:
        each = spec.accelerators // spec.nodes
        nodes = spec.nodes // 2
        return replace(spec, nodes=nodes, tasks=nodes, accelerators=each * nodes)
    return replace(spec, accelerators=spec.accelerators // 2) if spec.accelerators > 1 else None
