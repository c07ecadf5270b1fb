"""Endpoints: what is served, to whom, by which replicas; and the routes that gateways follow."""

from collections.abc import Mapping

import structlog

from skerry.artifacts.model import EngineKind, Model
from skerry.artifacts.service import Catalogue
from skerry.db.database import Database, Tx
from skerry.db.notify import ROUTES, WORK, notify
from skerry.identity.model import Principal
from skerry.inference.engines.base import Driver
from skerry.inference.errors import UnknownEndpoint
from skerry.inference.model import (
    CallableModel,
    Desired,
    Endpoint,
    EndpointKind,
    EndpointStatus,
    EndpointView,
    ReasonCode,
    Replica,
    ReplicaStatus,
    Route,
    RouteReplica,
    because,
)
from skerry.inference.store import InferenceStore
from skerry.kernel.clock import Clock
from skerry.kernel.errors import Conflict
from skerry.kernel.ids import EndpointId, IdFactory, ModelId, ProjectId, ReplicaId, new_id
from skerry.kernel.paging import Page, PageRequest
from skerry.runtime.events import Event, EventLog
from skerry.runtime.outbox import Message
from skerry.runtime.secrets import Keyring, Undecryptable

KIND = "endpoint"
"""Payload of the hint to the reconciler."""
UPSTREAM_SLOTS = 1024
"""Requests that an upstream is trusted with at once."""
_CAPACITY_CLASS, _CHARGE_BY = "on_demand", "tokens"


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
        self._log = structlog.get_logger("skerry.inference")

    # Watching the catalogue

    async def model_added(self, tx: Tx, model: Model) -> None:
        """Make its shared endpoint; an upstream answers at once. Raises ModelTooLarge, Conflict."""
        driver = self.drivers[model.engine]
        if driver.launches:
            driver.plan(model, "")  # refuses what could never start
        endpoint = self._shared_endpoint(model, launches=driver.launches)
        due_at = endpoint.created_at if driver.launches else None
        if not await self.store.insert_endpoint(tx, endpoint, due_at):
            raise Conflict(f"there is an endpoint {model.name!r} already", code="endpoint_name_taken")
        await self._tell(tx, endpoint, "endpoint.created")
        if driver.launches:
            await notify(tx, WORK, KIND)
        else:
            await self.store.insert_replica(tx, self._upstream(endpoint, model), None)
        await notify(tx, ROUTES)

    async def model_removed(self, tx: Tx, model: Model) -> None:
        """Stop its endpoints. Gateways send nothing more; requests that run are finished."""
        now = self.clock.now()
        for endpoint in await self.store.endpoints_of_model(tx, model.project, model.id):
            await self.store.remove_endpoint(tx, endpoint.project, endpoint.id, now)
            await self._tell(tx, endpoint, "endpoint.removed")
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
        by_id = {endpoint.id: endpoint for endpoint in endpoints}
        for replica, sealed in await self.store.ready_replicas(tx, set(ready)):
            model = models[by_id[replica.endpoint].model]
            if replica.workload is None:
                key = upstream_keys.get(model.id) if model.source.has_key else ""
            else:
                key = self._key(replica, sealed)
            if key is not None:
                ready[replica.endpoint].append((replica, key))
        return [self._route(endpoint, models[endpoint.model], ready[endpoint.id]) for endpoint in endpoints]

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
            )
            for endpoint in endpoints
            if allowed is None or endpoint.name in allowed
        ]

    # For people

    async def list_endpoints(self, principal: Principal, page: PageRequest) -> Page[EndpointView]:
        async with self.db.reading() as tx:
            found = await self.store.endpoint_page(tx, _view(principal), page)
            views = await self._views(tx, found.data)
        return found.map(lambda endpoint: views[endpoint.id])

    async def get_endpoint(self, principal: Principal, ref: str) -> EndpointView:
        """By name or id. Raises UnknownEndpoint."""
        async with self.db.reading() as tx:
            endpoint = await self._require(tx, principal, ref)
            return (await self._views(tx, (endpoint,)))[endpoint.id]

    async def endpoint_events(self, principal: Principal, ref: str, page: PageRequest) -> Page[Event]:
        """Raises UnknownEndpoint."""
        async with self.db.reading() as tx:
            endpoint = await self._require(tx, principal, ref)
            return await self.events.list(tx, endpoint.project, endpoint.id, page)

    async def usable_endpoints(self) -> int:
        """How many endpoints can answer now, for `/readyz`."""
        async with self.db.reading() as tx:
            endpoints = await self.store.live_endpoints(tx)
        usable = (EndpointStatus.READY, EndpointStatus.DEGRADED)
        return sum(endpoint.status in usable for endpoint in endpoints)

    async def _views(self, tx: Tx, endpoints: tuple[Endpoint, ...]) -> dict[EndpointId, EndpointView]:
        models = await self.catalogue.by_ids(tx, {endpoint.model for endpoint in endpoints})
        replicas = await self.store.shown_replicas(tx, {endpoint.id for endpoint in endpoints})
        return {
            endpoint.id: EndpointView(endpoint, models[endpoint.model].name, tuple(replicas[endpoint.id]))
            for endpoint in endpoints
        }

    async def _require(self, tx: Tx, principal: Principal, ref: str) -> Endpoint:
        endpoint = await self.store.find_endpoint(tx, _view(principal), ref)
        if endpoint is None:
            raise UnknownEndpoint(f"there is no endpoint {ref[:200]!r}", suggestion="GET /api/v1/endpoints lists them.")
        return endpoint

    async def _tell(self, tx: Tx, endpoint: Endpoint, type: str) -> None:
        await self.events.record(
            tx,
            project=endpoint.project,
            resource=endpoint.id,
            resource_kind="endpoint",
            type=type,
            data=endpoint.described(),
        )

    def _key(self, replica: Replica, sealed: str | None) -> str | None:
        """None where it cannot be decrypted any more: one lost key must not take the other routes with it."""
        try:
            return self.keyring.decrypt(sealed, key_purpose(replica.id)) if sealed else ""
        except Undecryptable as error:
            self._log.error("replica_key_lost", replica=replica.id, why=str(error))
            return None

    def _shared_endpoint(self, model: Model, *, launches: bool) -> Endpoint:
        now = self.clock.now()
        return Endpoint(
            id=EndpointId(self.new_id("ep")),
            project=model.project,
            name=model.name,
            model=ModelId(model.id),
            kind=EndpointKind.SHARED,
            shared=model.shared,
            capacity_class=_CAPACITY_CLASS,
            charge_by=_CHARGE_BY,
            min_replicas=1,
            max_replicas=1,
            desired=Desired.RUN,
            status=EndpointStatus.STARTING if launches else EndpointStatus.READY,
            reason=because(ReasonCode.NEW if launches else ReasonCode.UPSTREAM),
            created_at=now,
            updated_at=now,
        )

    def _upstream(self, endpoint: Endpoint, model: Model) -> Replica:
        return Replica(
            id=ReplicaId(self.new_id("rep")),
            project=endpoint.project,
            endpoint=endpoint.id,
            status=ReplicaStatus.READY,
            reason=because(ReasonCode.UPSTREAM),
            slots=UPSTREAM_SLOTS,
            created_at=endpoint.created_at,
            updated_at=endpoint.created_at,
            site=self.site,
            base_url=model.source.location,
            ready_at=endpoint.created_at,
        )

    def _route(self, endpoint: Endpoint, model: Model, ready: list[tuple[Replica, str]]) -> Route:
        return Route(
            name=endpoint.name,
            endpoint=endpoint.id,
            model=model.id,
            model_name=model.name,
            project=None if endpoint.shared else endpoint.project,
            context_length=model.context_length,
            profile=self.drivers[model.engine].profile(model),
            upstream_model=model.upstream_model,
            site=next((replica.site for replica, _ in ready if replica.site), self.site),
            capacity_class=endpoint.capacity_class,
            charge_by=endpoint.charge_by,
            status=endpoint.status,
            status_reason=endpoint.reason.message,
            replicas=tuple(
                RouteReplica(replica.id, replica.base_url or "", key, replica.slots) for replica, key in ready
            ),
        )


def _view(principal: Principal) -> ProjectId | None:
    return None if principal.operator else principal.project_id
