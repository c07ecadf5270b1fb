"""Brings each endpoint to the replicas it should have.

Workloads keep the processes running; here replicas are made, tried out before they get requests, watched, replaced,
and taken away. What to do is decided in `rules`; nothing is remembered between steps but what is in the rows.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from skerry.artifacts.model import FetchState, Model
from skerry.compute.errors import UnknownWorkload
from skerry.compute.model import StopReason, Workload, WorkloadSpec
from skerry.db.database import Tx
from skerry.db.notify import ROUTES, notify
from skerry.inference.engines.base import Driver
from skerry.inference.model import (
    ENDPOINT_TRANSITIONS,
    REPLICA_TRANSITIONS,
    Desired,
    Endpoint,
    ReasonCode,
    Replica,
    ReplicaStatus,
    because,
)
from skerry.inference.probing import ProbeFailed, Prober, task_of
from skerry.inference.processes import process_of, workload_spec
from skerry.inference.rules.autoscaling import (
    FRESH,
    IDLE_SECONDS,
    Decision,
    Limits,
    Memory,
    Pressure,
    ScaleReason,
    scale,
    total,
)
from skerry.inference.rules.endpoints import Look, decide, decide_absent, decide_unfit, decide_upstream
from skerry.inference.rules.replicas import PROBE_EVERY, wanted_probe
from skerry.inference.rules.values import GONE, Change, Probe, Process, ReplicaChange, Seen
from skerry.inference.service import KIND, Inference, key_purpose
from skerry.inference.service.making import upstream_replicas, upstreams
from skerry.inference.store import ENDPOINTS, REPLICAS, Claimed, EndpointWork
from skerry.kernel.errors import Invalid
from skerry.kernel.ids import AttemptId, ModelId, ProjectId, ReplicaId, WorkloadId
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


Emptying = Callable[[Tx, Collection[str]], Awaitable[Collection[str]]]
"""Which of these nodes, by host name, are being emptied."""


@dataclass(frozen=True, slots=True)
class _State:
    """What the database says of an endpoint."""

    models: Mapping[ModelId, Model]
    replicas: Sequence[Replica]
    processes: dict[ReplicaId, Process | None]
    keys: dict[ReplicaId, str]
    last_failure: datetime | None
    pressure: Pressure


class EndpointReconciler:
    kind = KIND

    def __init__(
        self, inference: Inference, compute: Workloads, prober: Prober, emptying: Emptying | None = None
    ) -> None:
        self._emptying = emptying
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
        model = state.models[endpoint.coming_model]
        driver = self.inference.drivers[model.engine]
        looks = (self._look(endpoint, replica, state) for replica in state.replicas)
        seen = await asyncio.gather(*looks)
        now = self.clock.now()
        if not driver.launches:
            look = Look(endpoint, seen, _as_it_is(endpoint, now), state.last_failure, now)
            return decide_upstream(look, len(upstreams(model)))
        if not model.here and model.fetch is not None and not seen:
            look = Look(endpoint, seen, _as_it_is(endpoint, now), state.last_failure, now)
            return decide_absent(look, model.fetch.words, failed=model.fetch.state is FetchState.FAILED)
        unfit = _unfit(endpoint, model, driver) if not seen else None
        if unfit is not None:
            return decide_unfit(Look(endpoint, seen, _as_it_is(endpoint, now), state.last_failure, now), unfit)
        target = endpoint.target_concurrency or _slots(endpoint, model, driver, state.replicas)
        ready = sum(replica.status is ReplicaStatus.READY for replica in state.replicas)
        memory = Memory.of(endpoint.scaling, endpoint.wanted, endpoint.created_at)
        scaling = scale(_limits(endpoint, target), state.pressure, ready, memory, now)
        change = decide(Look(endpoint, seen, scaling, state.last_failure, now))
        return replace(change, values={**change.values, "takes": scaling.wanted * target})

    async def apply(self, row: Claimed, change: Change | None) -> bool:
        if change is None:
            return False
        async with self.db.transaction() as tx:
            if not await self.work.keep(tx, row):
                # The lease was lost, or somebody wants it otherwise by now: look again.
                return await self.work.give_back(tx, row, 0, self.clock.now(), {})
            for one in change.replicas:
                await self._apply_replica(tx, one)
            await self._create_replicas(tx, row.endpoint, change.create)
            await self._apply_endpoint(tx, row.endpoint, change)
            for news in change.news:
                await self.inference.tell(tx, row.endpoint, news.type, news.data)
            await self.work.give_back(tx, row, change.due_in, self.clock.now(), change.values)
            if change.status is not None or "model" in change.values or any(map(_touches_routes, change.replicas)):
                await notify(tx, ROUTES)
        return change.status is not None or change.create > 0 or any(one.status for one in change.replicas)

    async def failed(self, row: Claimed, error: Exception) -> None:
        async with self.db.transaction() as tx:
            await self.work.give_back(tx, row, back_off_seconds(3), self.clock.now(), {})

    async def _read(self, endpoint: Endpoint) -> _State:
        since = self.clock.now() - FRESH
        async with self.db.reading() as tx:
            replicas = await self.store.replicas(tx, endpoint.project, endpoint.id)
            wanted = {endpoint.model, endpoint.coming_model, *(one.model for one in replicas if one.model)}
            models = await self.inference.catalogue.by_ids(tx, wanted)
            processes = {replica.id: await self._process(tx, replica) for replica in replicas}
            processes = await self._with_leaving(tx, processes)
            keys = await self.store.sealed_keys(tx, endpoint.project, [replica.id for replica in replicas])
            last_failure = await self.store.last_failure(tx, endpoint.project, endpoint.id)
            demands = await self.inference.demand.of_endpoint(tx, endpoint.id, since)
            pressure = total(demands, await self.inference.demand.gateways(tx, since))
        return _State(models, replicas, processes, keys, last_failure, pressure)

    async def _process(self, tx: Tx, replica: Replica) -> Process | None:
        if replica.workload is None:
            return None
        try:
            return process_of(await self.compute.get(tx, replica.project, replica.workload))
        except UnknownWorkload:
            return GONE

    async def _with_leaving(
        self, tx: Tx, processes: dict[ReplicaId, Process | None]
    ) -> dict[ReplicaId, Process | None]:
        nodes = {process.node for process in processes.values() if process is not None and process.node}
        leaving = await self._emptying(tx, nodes) if self._emptying is not None and nodes else ()
        return {
            id: replace(process, node_leaves=process.node in leaving) if process is not None else None
            for id, process in processes.items()
        }

    async def _look(self, endpoint: Endpoint, replica: Replica, state: _State) -> Seen:
        """Probe the replica, if it is time."""
        process = state.processes[replica.id]
        probe = wanted_probe(endpoint, replica, process, self.clock.now())
        if probe is None or process is None or process.address is None:
            return Seen(replica, process)
        sealed = state.keys.get(replica.id)
        key = self.inference.keyring.decrypt(sealed, key_purpose(replica.id)) if sealed else ""
        model = state.models[replica.model or endpoint.model]
        profile = self.inference.drivers[model.engine].profile(model)
        try:
            if probe is Probe.COMPLETION:
                await self.prober.complete(process.address, key, model.upstream_model, task_of(profile))
                return Seen(replica, process, probe)
            in_flight = await self.prober.healthy(process.address, key)
        except ProbeFailed as error:
            return Seen(replica, process, probe, f"The replica is up, but {error}.")
        return Seen(replica, process, probe, in_flight=in_flight)

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

    async def _create_replicas(self, tx: Tx, endpoint: Endpoint, count: int) -> None:
        """Of the endpoint's newest version. An upstream's are made together: there are as many as it has addresses."""
        if not count:
            return
        inference, now = self.inference, self.clock.now()
        model = (await inference.catalogue.by_ids(tx, {endpoint.coming_model}))[endpoint.coming_model]
        driver = inference.drivers[model.engine]
        if not driver.launches:
            for replica in upstream_replicas(endpoint, model, inference.new_id, now, inference.site):
                await self.store.insert_replica(tx, replica, None)
            return
        for _ in range(count):
            key = secrets.token_urlsafe(32)
            plan = driver.plan(model, key)
            workload = await self.compute.create_workload(
                tx, endpoint.project, workload_spec(endpoint, model.name, plan, builtin=model.builtin)
            )
            replica = Replica(
                id=ReplicaId(inference.new_id("rep")),
                project=endpoint.project,
                endpoint=endpoint.id,
                status=ReplicaStatus.STARTING,
                reason=because(ReasonCode.NEW),
                slots=plan.slots,
                created_at=now,
                updated_at=now,
                workload=workload.id,
                model=model.id,
                version=endpoint.version,
            )
            await self.store.insert_replica(tx, replica, inference.keyring.encrypt(key, key_purpose(replica.id)))
            await inference.events.record(
                tx,
                project=endpoint.project,
                resource=replica.id,
                resource_kind="replica",
                type="replica.created",
                data={"endpoint": endpoint.id, "workload": workload.id},
            )


def _unfit(endpoint: Endpoint, model: Model, driver: Driver) -> str | None:
    """Why no replica of it can ever be started."""
    if endpoint.desired is Desired.STOP or endpoint.parked_at is not None:
        return None
    try:
        driver.plan(model, "")
    except Invalid as error:
        return f"{error.detail}."
    return None


def _limits(endpoint: Endpoint, target: int) -> Limits:
    idle = timedelta(seconds=endpoint.idle_timeout_seconds or IDLE_SECONDS)
    return Limits(endpoint.min_replicas, endpoint.max_replicas, target, idle)


def _slots(endpoint: Endpoint, model: Model, driver: Driver, replicas: Sequence[Replica]) -> int:
    """What one replica works on at once, as those there are say; else as they are planned."""
    known = [replica.slots for replica in replicas if replica.model in (None, model.id)]
    return max(1, max(known) if known else driver.plan(model, "").slots)


def _as_it_is(endpoint: Endpoint, now: datetime) -> Decision:
    memory = Memory(endpoint.wanted, now)
    return Decision(endpoint.wanted, ScaleReason.STEADY, memory, PROBE_EVERY.total_seconds())


def _touches_routes(change: ReplicaChange) -> bool:
    return change.status is not None or "base_url" in change.values
