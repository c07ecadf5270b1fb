"""Brings each endpoint to the replicas it should have.

Workloads keep the processes running; here replicas are made, tried out before they get requests, watched, replaced,
and taken away. What to do is decided in `rules`; nothing is remembered between steps.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from skerry.artifacts.model import Model
from skerry.compute.errors import UnknownWorkload
from skerry.compute.model import (
    CapacityClass,
    ChargeBy,
    Drop,
    StopReason,
    Workload,
    WorkloadKind,
    WorkloadSpec,
    WorkloadStatus,
)
from skerry.compute.model import Desired as WorkloadDesired
from skerry.db.database import Tx
from skerry.db.notify import ROUTES, notify
from skerry.inference import rules
from skerry.inference.model import (
    ENDPOINT_TRANSITIONS,
    REPLICA_TRANSITIONS,
    Endpoint,
    ReasonCode,
    Replica,
    ReplicaStatus,
    because,
)
from skerry.inference.probing import ProbeFailed, Prober
from skerry.inference.rules import Change, Process, ReplicaChange, Seen
from skerry.inference.service import KIND, Inference, key_purpose
from skerry.inference.store import ENDPOINTS, REPLICAS, Claimed, EndpointWork
from skerry.kernel.ids import AttemptId, ProjectId, ReplicaId, WorkloadId
from skerry.runtime.reconciler import back_off_seconds
from skerry.runtime.state import transition

LEASE_SECONDS = 90.0
"""Longer than the probes of one step can take."""


class Workloads(Protocol):
    """What is needed of compute."""

    async def create_workload(self, tx: Tx, project: ProjectId, spec: WorkloadSpec) -> Workload: ...

    async def stop_workload(self, tx: Tx, project: ProjectId, id: WorkloadId, reason: StopReason) -> Workload: ...

    async def get(self, tx: Tx, project: ProjectId, id: WorkloadId) -> Workload: ...

    async def mark_ready(self, tx: Tx, project: ProjectId, attempt: AttemptId) -> bool: ...


@dataclass(frozen=True, slots=True)
class _State:
    """What the database says of an endpoint."""

    model: Model
    replicas: Sequence[Replica]
    processes: dict[ReplicaId, Process | None]
    keys: dict[ReplicaId, str]
    last_failure: datetime | None


class EndpointReconciler:
    kind = KIND

    def __init__(self, inference: Inference, compute: Workloads, prober: Prober) -> None:
        self.inference = inference
        self.compute = compute
        self.prober = prober
        self.db = inference.db
        self.clock = inference.clock
        self.store = inference.store
        self.work = EndpointWork()

    async def claim(self, limit: int) -> Sequence[Claimed]:
        async with self.db.transaction() as tx:
            return await self.work.claim(tx, limit, LEASE_SECONDS, self.clock.now())

    async def step(self, row: Claimed) -> Change:
        endpoint = row.endpoint
        state = await self._read(endpoint)
        seen = [await self._look(endpoint, replica, state) for replica in state.replicas]
        return rules.decide(endpoint, seen, state.last_failure, self.clock.now())

    async def apply(self, row: Claimed, change: Change | None) -> bool:
        if change is None:
            return False
        async with self.db.transaction() as tx:
            if not await self.work.keep(tx, row):
                return False
            for one in change.replicas:
                await self._apply_replica(tx, one)
            for _ in range(change.create):
                await self._create_replica(tx, row.endpoint)
            await self._apply_endpoint(tx, row.endpoint, change)
            values = {"failures": change.failures}
            await self.work.give_back(tx, row, change.due_in, self.clock.now(), values)
            if change.status is not None or any(_touches_routes(one) for one in change.replicas):
                await notify(tx, ROUTES)
        return change.status is not None or change.create > 0 or any(one.status for one in change.replicas)

    async def failed(self, row: Claimed, error: Exception) -> None:
        async with self.db.transaction() as tx:
            await self.work.give_back(tx, row, back_off_seconds(3), self.clock.now(), {})

    async def _read(self, endpoint: Endpoint) -> _State:
        async with self.db.reading() as tx:
            model = (await self.inference.catalogue.by_ids(tx, {endpoint.model}))[endpoint.model]
            replicas = await self.store.replicas(tx, endpoint.project, endpoint.id)
            processes = {replica.id: await self._process(tx, replica) for replica in replicas}
            keys = await self.store.sealed_keys(tx, endpoint.project, [replica.id for replica in replicas])
            last_failure = await self.store.last_failure(tx, endpoint.project, endpoint.id)
        return _State(model, replicas, processes, keys, last_failure)

    async def _process(self, tx: Tx, replica: Replica) -> Process | None:
        if replica.workload is None:
            return None
        try:
            return _process_of(await self.compute.get(tx, replica.project, replica.workload))
        except UnknownWorkload:
            return rules.GONE

    async def _look(self, endpoint: Endpoint, replica: Replica, state: _State) -> Seen:
        """Probe the replica, if it is time."""
        process = state.processes[replica.id]
        probe = rules.wanted_probe(endpoint, replica, process, self.clock.now())
        if probe is None or process is None or process.address is None:
            return Seen(replica, process)
        sealed = state.keys.get(replica.id)
        key = self.inference.keyring.decrypt(sealed, key_purpose(replica.id)) if sealed else ""
        try:
            if probe is rules.Probe.COMPLETION:
                await self.prober.complete(process.address, key, state.model.upstream_model)
            else:
                await self.prober.healthy(process.address, key)
        except ProbeFailed as error:
            return Seen(replica, process, probe, f"The replica is up, but {error}.")
        return Seen(replica, process, probe)

    async def _apply_replica(self, tx: Tx, change: ReplicaChange) -> None:
        replica, values = change.replica, dict(change.values)
        if change.status is not None:
            reason = change.reason or replica.reason
            moved = await transition(
                tx,
                self.inference.events,
                REPLICA_TRANSITIONS,
                REPLICAS,
                id=replica.id,
                project=replica.project,
                before=replica.status,
                after=change.status,
                reason=reason,
                values=values,
            )
            if not moved:
                return
        else:
            await self.store.update_replica(tx, replica, change.reason, values)
        if change.mark_ready is not None:
            await self.compute.mark_ready(tx, replica.project, change.mark_ready)
        if change.stop_workload and replica.workload is not None:
            await self.compute.stop_workload(tx, replica.project, replica.workload, StopReason.BY_OWNER)

    async def _apply_endpoint(self, tx: Tx, endpoint: Endpoint, change: Change) -> None:
        if change.status is not None:
            await transition(
                tx,
                self.inference.events,
                ENDPOINT_TRANSITIONS,
                ENDPOINTS,
                id=endpoint.id,
                project=endpoint.project,
                before=endpoint.status,
                after=change.status,
                reason=change.reason or endpoint.reason,
            )
        elif change.reason is not None:
            await self.store.set_endpoint_reason(tx, endpoint, change.reason)

    async def _create_replica(self, tx: Tx, endpoint: Endpoint) -> None:
        inference, now = self.inference, self.clock.now()
        model = (await inference.catalogue.by_ids(tx, {endpoint.model}))[endpoint.model]
        id = ReplicaId(inference.new_id("rep"))
        key = secrets.token_urlsafe(32)
        plan = inference.drivers[model.engine].plan(model, key)
        workload = await self.compute.create_workload(
            tx,
            endpoint.project,
            WorkloadSpec(
                kind=WorkloadKind.SERVICE,
                name=f"replica of {endpoint.name}",
                resource=endpoint.id,
                command=plan.command,
                charge_by=ChargeBy(endpoint.charge_by),
                capacity_class=CapacityClass(endpoint.capacity_class),
                # A shared endpoint's replicas leave every accelerator of a CPU machine free (API §0).
                accelerators=0,
                env=plan.env,
                files=plan.files,
                memory_bytes=plan.memory_bytes,
                max_restarts=None,
                drop=Drop.BY_PROGRAM,
                grace_seconds=plan.grace_seconds,
                model=endpoint.name,
            ),
        )
        replica = Replica(
            id=id,
            project=endpoint.project,
            endpoint=endpoint.id,
            status=ReplicaStatus.STARTING,
            reason=because(ReasonCode.NEW),
            slots=plan.slots,
            created_at=now,
            updated_at=now,
            workload=workload.id,
        )
        await self.store.insert_replica(tx, replica, inference.keyring.encrypt(key, key_purpose(id)))
        await inference.events.record(
            tx,
            project=endpoint.project,
            resource=id,
            resource_kind="replica",
            type="replica.created",
            data={"endpoint": endpoint.id, "workload": workload.id},
        )


def _process_of(workload: Workload) -> Process:
    attempt = workload.open_attempt
    running = workload.status in (WorkloadStatus.STARTING, WorkloadStatus.RUNNING)
    address, slots = rules.usable_address(attempt.report if attempt is not None and running else None)
    return Process(
        ended=workload.status is WorkloadStatus.ENDED,
        stopping=workload.desired is WorkloadDesired.STOP,
        failures=workload.failures,
        words=workload.reason.message,
        attempt=attempt.id if attempt is not None else None,
        address=address,
        slots=slots,
        node=attempt.nodes[0] if attempt is not None and attempt.nodes else None,
        site=attempt.site if attempt is not None else None,
    )


def _touches_routes(change: ReplicaChange) -> bool:
    return change.status is not None or "base_url" in change.values
