"""Endpoints as the catalogue, gateways and callers meet them: what is served, to whom, by which replicas."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import structlog

from skerry.artifacts.model import EngineKind, Model
from skerry.artifacts.service import Catalogue
from skerry.db.database import Database, Tx
from skerry.db.notify import ROUTES, WORK, notify
from skerry.identity.model import Principal
from skerry.inference.engines.base import Driver, EngineProfile, PrefixCache, Task
from skerry.inference.errors import UnknownEndpoint
from skerry.inference.model import (
    CallableModel,
    Demand,
    Desired,
    Endpoint,
    EndpointKind,
    EndpointStatus,
    EndpointView,
    ReasonCode,
    Replica,
    Route,
    RouteReplica,
    because,
)
from skerry.inference.rules.autoscaling import FRESH
from skerry.inference.service.making import shared_endpoint, upstream_replicas
from skerry.inference.store import DemandStore, InferenceStore
from skerry.kernel.clock import Clock
from skerry.kernel.errors import Conflict
from skerry.kernel.ids import EndpointId, IdFactory, ModelId, ProjectId, ReplicaId, new_id
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.events import Event, EventLog
from skerry.runtime.outbox import Message
from skerry.runtime.secrets import Keyring, Undecryptable

KIND: Final = "endpoint"
"""Payload of the hint to the reconciler."""
_SAID_FOR: Final = timedelta(hours=1)
"""How long what a gateway said is kept, for those who look at what went wrong."""
_NAMED_USABLE: Final = (EndpointStatus.READY, EndpointStatus.DEGRADED)


def key_purpose(id: ReplicaId) -> str:
    """What a replica's key is encrypted for: that of one does not open for another."""
    return f"inference.replica_key:{id}"


class Inference:
    """It watches the catalogue: a model's shared endpoint comes and goes with it, in the same transaction."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        events: EventLog,
        keyring: Keyring,
        catalogue: Catalogue,
        drivers: Mapping[EngineKind, Driver],
        *,
        site: str = "local",
        ids: IdFactory = new_id,
    ) -> None:
        """`site`: where usage of an upstream is booked, and of a replica whose site is not known."""
        self.db = db
        self.clock = clock
        self.events = events
        self.keyring = keyring
        self.catalogue = catalogue
        self.drivers = drivers
        self.site = site
        self.new_id = ids
        self.store = InferenceStore()
        self.demand = DemandStore()
        self._log = structlog.get_logger("skerry.inference")

    # Watching the catalogue

    async def model_added(self, tx: Tx, model: Model) -> None:
        """Make its shared endpoint; an upstream answers at once. Raises ModelTooLarge, Conflict."""
        driver = self.drivers[model.engine]
        if driver.launches and model.here:
            driver.plan(model, "")  # refuses what could never start
        endpoint = shared_endpoint(model, self.new_id, self.clock.now(), launches=driver.launches)
        due_at = endpoint.created_at if driver.launches else None
        if not await self.store.insert_endpoint(tx, endpoint, due_at):
            raise Conflict(
                f"there is an endpoint {model.name!r} already",
                code="endpoint_name_taken",
                suggestion="Choose another name for the model, or remove that endpoint first.",
            )
        await self.tell(tx, endpoint, "endpoint.created")
        if driver.launches:
            await notify(tx, WORK, KIND)
        else:
            for replica in upstream_replicas(endpoint, model, self.new_id, endpoint.created_at, self.site):
                await self.store.insert_replica(tx, replica, None)
        await notify(tx, ROUTES)

    async def model_removed(self, tx: Tx, model: Model) -> None:
        """Stop its endpoints. Gateways send nothing more; requests that run are finished. A dedicated one stays, with
        its reason, until its project removes it."""
        now = self.clock.now()
        for endpoint in await self.store.endpoints_of_model(tx, model.id):
            if endpoint.model != model.id:
                # It was only about to serve it: the rollout ends, and what it served goes on.
                await self.store.call_off(tx, endpoint, now)
            elif endpoint.kind is EndpointKind.SHARED:
                reason = because(ReasonCode.REMOVED)
                await self.store.remove_endpoint(tx, endpoint.project, endpoint.id, now, reason)
                await self.tell(tx, endpoint, "endpoint.removed")
            else:
                reason = because(ReasonCode.MODEL_REMOVED)
                stop = {"desired": Desired.STOP.value, "stop_code": reason.code, "status_reason": reason.to_json()}
                await self.store.want(tx, endpoint.project, endpoint.id, stop, now)
                await self.tell(tx, endpoint, "endpoint.model_removed")
        await notify(tx, WORK, KIND)
        await notify(tx, ROUTES)

    async def workload_changed(self, message: Message) -> None:
        """Handler of the outbox topic `workload`: look at the endpoint it belongs to."""
        resource = str(message.payload["resource"])
        if not resource.startswith("ep_"):
            return
        async with self.db.transaction() as tx:
            project = ProjectId(message.payload["project"])
            await self.store.hint(tx, project, EndpointId(resource), self.clock.now())
            await notify(tx, WORK, KIND)

    # For gateways

    async def routes(self, tx: Tx) -> list[Route]:
        """All endpoints that have not been removed, with their ready replicas and the keys of those."""
        endpoints = await self.store.live_endpoints(tx)
        models = await self.catalogue.by_ids(tx, {endpoint.model for endpoint in endpoints})
        upstream_keys = await self.catalogue.upstream_keys(tx, set(models))
        ready: dict[EndpointId, list[tuple[Replica, str]]] = {endpoint.id: [] for endpoint in endpoints}
        by_id = {endpoint.id: endpoint for endpoint in endpoints if endpoint.desired is Desired.RUN}
        for replica, sealed in await self.store.ready_replicas(tx, set(by_id)):
            endpoint = by_id[replica.endpoint]
            if replica.model not in (None, endpoint.model):
                continue  # of a rollout to another model, which is not used before it is complete
            model = models[endpoint.model]
            if replica.workload is None:
                keys = upstream_keys.get(model.id, ())
                key = keys[replica.upstream or 0] if (replica.upstream or 0) < len(keys) else None
            else:
                key = self._key(replica, sealed)
            if key is not None:
                ready[replica.endpoint].append((replica, key))
        return [self._route(endpoint, models[endpoint.model], ready[endpoint.id]) for endpoint in endpoints]

    async def report_demand(self, tx: Tx, gateway: str, demands: Sequence[Demand]) -> None:
        """What a gateway has now; an empty list says that it is alive. Where there is more to do than the replicas that
        are wanted can take, the autoscaler looks at once. `gateway` is unique among those that run."""
        now = self.clock.now()
        await self.demand.report(tx, gateway, demands, now)
        busy = [demand.endpoint for demand in demands if demand.in_flight or demand.waiting]
        if busy and await self.demand.hint(tx, busy, now - FRESH, now):
            await notify(tx, WORK, KIND)

    async def gateways(self, tx: Tx) -> int:
        """How many gateways there are, as far as they have said something lately."""
        return await self.demand.gateways(tx, self.clock.now() - FRESH)

    async def keep_house(self, tx: Tx) -> None:
        """Forget what gateways said that are long gone."""
        await self.demand.forget(tx, self.clock.now() - _SAID_FOR)

    def _tasks(self, model: Model) -> tuple[str, ...]:
        able = self.drivers[model.engine].profile(model).tasks
        return tuple(task.value for task in Task if task in able)

    async def list_models(self, principal: Principal) -> list[CallableModel]:
        """What the key may call, by name."""
        async with self.db.reading() as tx:
            endpoints = await self.store.live_endpoints(tx, principal.project_id)
            models = await self.catalogue.by_ids(tx, {endpoint.model for endpoint in endpoints})
        allowed = principal.models
        return [
            CallableModel(
                name=endpoint.name,
                created_at=endpoint.created_at,
                owned_by="skerry" if endpoint.shared else endpoint.project,
                context_length=models[endpoint.model].context_length,
                license=models[endpoint.model].license,
                tasks=self._tasks(models[endpoint.model]),
            )
            for endpoint in endpoints
            if allowed is None or endpoint.name in allowed
        ]

    # For people

    async def list_endpoints(self, principal: Principal, page: PageRequest) -> Page[EndpointView]:
        async with self.db.reading() as tx:
            found = await self.store.endpoint_page(tx, view_of(principal), page)
            views = await self.views(tx, found.data)
        return found.map(lambda endpoint: views[endpoint.id])

    async def get_endpoint(self, principal: Principal, ref: str) -> EndpointView:
        """By name or id. Raises UnknownEndpoint."""
        async with self.db.reading() as tx:
            endpoint = await self.require(tx, principal, ref)
            return (await self.views(tx, (endpoint,)))[endpoint.id]

    async def endpoint_events(self, principal: Principal, ref: str, page: PageRequest) -> Page[Event]:
        """Raises UnknownEndpoint."""
        async with self.db.reading() as tx:
            endpoint = await self.require(tx, principal, ref)
            return await self.events.list(tx, endpoint.project, endpoint.id, page)

    async def usable_endpoints(self) -> int:
        """How many endpoints can answer now, or as soon as they are asked, for `/readyz`.

        Those that sleep do not count while one that never sleeps is still on its way: a cloud that has just been
        started is ready when somebody is awake.
        """
        async with self.db.reading() as tx:
            endpoints = await self.store.live_endpoints(tx)
        awake = sum(endpoint.status in _NAMED_USABLE for endpoint in endpoints)
        if awake or any(endpoint.status is EndpointStatus.STARTING and endpoint.min_replicas for endpoint in endpoints):
            return awake
        return sum(_sleeps(endpoint) for endpoint in endpoints)

    # For the rest of inference

    async def views(self, tx: Tx, endpoints: Sequence[Endpoint]) -> dict[EndpointId, EndpointView]:
        wanted = {id for endpoint in endpoints for id in (endpoint.model, endpoint.next_model) if id is not None}
        models = await self.catalogue.by_ids(tx, wanted)
        replicas = await self.store.shown_replicas(tx, {endpoint.id for endpoint in endpoints})
        return {
            endpoint.id: EndpointView(
                endpoint,
                models[endpoint.model].name,
                tuple(replicas[endpoint.id]),
                launches=self.drivers[models[endpoint.model].engine].launches,
                next_model_name=models[endpoint.next_model].name if endpoint.next_model else None,
            )
            for endpoint in endpoints
        }

    async def require(self, tx: Tx, principal: Principal, ref: str, *, lock: bool = False) -> Endpoint:
        """Raises UnknownEndpoint."""
        endpoint = await self.store.find_endpoint(tx, view_of(principal), ref, lock=lock)
        if endpoint is None:
            raise UnknownEndpoint(f"there is no endpoint {ref[:200]!r}", suggestion="GET /api/v1/endpoints lists them.")
        return endpoint

    async def tell(self, tx: Tx, endpoint: Endpoint, type: str, data: Mapping[str, object] | None = None) -> None:
        await self.events.record(
            tx,
            project=endpoint.project,
            resource=endpoint.id,
            resource_kind="endpoint",
            type=type,
            data=endpoint.described() if data is None else data,
        )

    def _key(self, replica: Replica, sealed: str | None) -> str | None:
        """None where it cannot be decrypted any more: one lost key must not take the other routes with it."""
        try:
            return self.keyring.decrypt(sealed, key_purpose(replica.id)) if sealed else ""
        except Undecryptable as error:
            self._log.error("replica_key_lost", replica=replica.id, why=str(error))
            return None

    def _route(self, endpoint: Endpoint, model: Model, ready: list[tuple[Replica, str]]) -> Route:
        profile = self.drivers[model.engine].profile(model)
        return Route(
            name=endpoint.name,
            endpoint=endpoint.id,
            model=ModelId(model.id),
            model_name=model.name,
            project=None if endpoint.shared else endpoint.project,
            context_length=model.context_length,
            profile=profile,
            upstream_model=model.upstream_model,
            site=next((replica.site for replica, _ in ready if replica.site), self.site),
            capacity_class=endpoint.capacity_class,
            charge_by=endpoint.charge_by,
            status=endpoint.status,
            status_reason=endpoint.reason.message,
            replicas=tuple(
                RouteReplica(replica.id, replica.base_url or "", key, replica.slots, replica.weight)
                for replica, key in ready
            ),
            policy=endpoint.policy,
            per_replica=_per_replica(endpoint, model, profile, ready),
            wakes=endpoint.desired is Desired.RUN and endpoint.parked_at is None and model.here,
            queue_seconds=endpoint.queue_seconds,
        )


def _per_replica(
    endpoint: Endpoint, model: Model, profile: EngineProfile, ready: list[tuple[Replica, str]]
) -> int | None:
    """An upstream is sent no more than its target. One of ours is always given work for all its slots: the target says
    when there should be another one, and only where it is more than the slots do requests queue inside.

    Never inside an engine that keeps prompts by slot: two projects' requests behind each other on one slot could arrive
    in the other order, and one would find the other's prompt there (I12). They queue at the gateway instead.
    """
    target = endpoint.target_concurrency
    if target is None or model.engine is EngineKind.EXTERNAL:
        return target
    if profile.prefix_cache is PrefixCache.SLOTS:
        return None
    return target if all(target > replica.slots for replica, _ in ready) else None


def view_of(principal: Principal) -> ProjectId | None:
    """Whose endpoints there are for it; None: all."""
    return None if principal.operator else principal.project_id


def _sleeps(endpoint: Endpoint) -> bool:
    """Scaled to zero: the next request wakes it."""
    return endpoint.status is EndpointStatus.STOPPED and endpoint.reason.code == ReasonCode.SCALED_TO_ZERO
