"""The composition root: settings and a database become all services, wired by constructor."""

from dataclasses import dataclass
from decimal import Decimal

from fastapi import APIRouter

from skerry.artifacts import routes as artifacts_routes
from skerry.artifacts.files import routes as files_routes
from skerry.artifacts.files.model import BATCH, BATCH_OUTPUT, FileLimits, Purpose
from skerry.artifacts.files.service import Files
from skerry.artifacts.files.storage import LocalStorage
from skerry.artifacts.hub.client import Hub
from skerry.artifacts.model import EngineKind
from skerry.artifacts.service import Catalogue, HubHere
from skerry.artifacts.sources import SOURCE, SOURCE_BYTES, SourceCheck
from skerry.artifacts.volumes import routes as volumes_routes
from skerry.billing import routes as billing_routes
from skerry.billing.service import Billing, KeyBudgets
from skerry.capacity import routes as capacity_routes
from skerry.capacity.service import Capacity, CapacityPolicy, HoldLimits, QuoteTerms
from skerry.compute import routes as compute_routes
from skerry.compute.engines.base import Engine
from skerry.compute.engines.select import clients_of, main_engine
from skerry.compute.health import routes as health_routes
from skerry.compute.health.building import build_health
from skerry.compute.health.service import Health as NodeHealth
from skerry.compute.instances import peers as instances_peers
from skerry.compute.instances import routes as instances_routes
from skerry.compute.instances.building import Machines, build_machines
from skerry.compute.nodes.building import Nodes, build_nodes
from skerry.compute.service import Compute
from skerry.db.database import Database
from skerry.fleet import routes as fleet_routes
from skerry.fleet.service import Fleet
from skerry.identity import routes as identity_routes
from skerry.identity.access import Access
from skerry.identity.service import Identity
from skerry.inference import routes as inference_routes
from skerry.inference.batches import routes as batches_routes
from skerry.inference.batches.checking import BatchCheck
from skerry.inference.batches.service import Batches
from skerry.inference.engines.base import Driver
from skerry.inference.engines.external import ExternalDriver
from skerry.inference.engines.llamacpp.driver import LlamaCppDriver
from skerry.inference.engines.llamacpp.machine import this_machine
from skerry.inference.engines.vllm.driver import VllmDriver
from skerry.inference.estimates import Estimates
from skerry.inference.requests import routes as requests_routes
from skerry.inference.requests.service import RequestLog
from skerry.inference.service import Endpoints, Inference
from skerry.kernel.clock import Clock, SystemClock
from skerry.metering import routes as metering_routes
from skerry.metering.service import Metering
from skerry.reports import routes as reports_routes
from skerry.reports.service import Reports
from skerry.runtime.events import EventLog
from skerry.runtime.idempotency import Idempotency
from skerry.runtime.outbox import Outbox
from skerry.runtime.secrets import Keyring
from skerry.runtime.settings import Settings
from skerry.server.events import EventFeed
from skerry.server.health import Health, OperatorDoor, database_check, endpoint_check, engine_check
from skerry.server.wiring import CataloguePricing
from skerry.training import routes as training_routes
from skerry.training.building import Training, build_training

TIMELINES = (
    "projects",
    "service-accounts",
    "api-keys",
    "workloads",
    "budgets",
    "files",
    "batches",
    "reservations",
    "ssh-keys",
    "volumes",
    "instances",
    "clusters",
    "training/jobs",
)
"""Collections whose timelines are served by `server/events.py`; other domains mount their own."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a role of the control plane may need. Making it opens nothing."""

    settings: Settings
    db: Database
    clock: Clock
    keyring: Keyring
    events: EventLog
    outbox: Outbox
    idempotency: Idempotency
    identity: Identity
    access: Access
    metering: Metering
    billing: Billing
    fleet: Fleet
    capacity: Capacity
    catalogue: Catalogue
    files: Files
    engine: Engine
    compute: Compute
    nodes: Nodes
    inference: Inference
    endpoints: Endpoints
    batches: Batches
    training: Training
    machines: Machines
    node_health: NodeHealth
    requests: RequestLog
    reports: Reports
    health: Health
    door: OperatorDoor
    feed: EventFeed


def build(settings: Settings, db: Database, keyring: Keyring, clock: Clock | None = None) -> Services:
    clock = clock or SystemClock()
    events, outbox = EventLog(clock), Outbox(clock)
    identity = Identity(db, clock, keyring, events, budgets=KeyBudgets(clock))
    access = Access(identity)
    metering = Metering(db, clock, names=identity)
    billing = Billing(
        db, clock, events, identity, metering, homes=identity, credit_limit=Decimal(settings.credit_limit)
    )
    engines = clients_of(settings.compute_engine, settings.agent_socket)
    engine = main_engine(engines)
    compute = Compute(db, clock, keyring, events, outbox, engines)
    drivers = _drivers(settings)
    catalogue = Catalogue(
        db,
        clock,
        events,
        keyring,
        identity,
        platform=identity.platform,
        pricing=CataloguePricing(billing.prices),
        engines=drivers,
        hub=_hub(settings),
    )
    inference = Inference(db, clock, events, keyring, catalogue, drivers)
    catalogue.observe(inference)
    fleet = Fleet(db, clock, events=events, platform=identity.platform, sell_ahead=Decimal(settings.sell_ahead))
    capacity = Capacity(db, clock, events, identity, billing, fleet, _capacity_policy(settings))
    fleet.ask(capacity.sold)
    endpoints = Endpoints(inference, compute, Estimates(db, clock, billing, fleet), identity)
    files = _files(settings, db, clock, events, identity, metering)
    nodes = build_nodes(settings, compute, keyring, identity, files)
    return Services(
        settings=settings,
        db=db,
        clock=clock,
        keyring=keyring,
        events=events,
        outbox=outbox,
        idempotency=Idempotency(clock),
        identity=identity,
        access=access,
        metering=metering,
        billing=billing,
        fleet=fleet,
        capacity=capacity,
        catalogue=catalogue,
        files=files,
        engine=engine,
        compute=compute,
        nodes=nodes,
        inference=inference,
        endpoints=endpoints,
        batches=Batches(db, clock, events, files, inference, billing.prices, identity),
        training=build_training(
            compute, events, identity, billing, fleet, capacity, files, nodes.isolation, settings.shared
        ),
        node_health=build_health(settings, compute, fleet, events, identity, clock),
        machines=build_machines(settings, compute, events, identity, metering, billing, fleet, capacity),
        requests=RequestLog(db, clock, keyring, identity, billing.prices, days=settings.request_log_days),
        reports=Reports(db, metering, billing.prices),
        health=Health(
            {
                "database": database_check(db),
                "engine": engine_check(engine),
                "endpoints": endpoint_check(inference),
            }
        ),
        door=OperatorDoor(access, keyring, settings.metrics_token),
        feed=EventFeed(db, events),
    )


def control_routers(services: Services) -> list[APIRouter]:
    """Routers below `/api/v1`."""
    access = services.access
    return [
        identity_routes.router(services.identity, access),
        metering_routes.router(services.metering, access),
        billing_routes.router(services.billing, access),
        fleet_routes.router(services.fleet, access),
        capacity_routes.router(services.capacity, access),
        artifacts_routes.router(services.catalogue, access),
        compute_routes.router(services.compute, access),
        services.nodes.router,
        inference_routes.router(services.inference, services.endpoints, access),
        training_routes.router(services.training.jobs, services.training.logs, access),
        training_routes.node_router(services.training.intake, services.nodes.access),
        volumes_routes.router(services.machines.volumes, access),
        instances_routes.router(services.machines.instances, access),
        health_routes.router(services.node_health, access),
        instances_peers.router(services.machines.instances, services.nodes.access),
        requests_routes.router(services.requests, access),
        reports_routes.router(services.reports, access),
    ]


def openai_routers(services: Services) -> list[APIRouter]:
    """Routers below `/v1`; the hot paths are the gateway's own."""
    access = services.access
    return [
        inference_routes.openai_router(services.inference, access),
        files_routes.openai_router(services.files, access),
        batches_routes.openai_router(services.batches, access),
    ]


def _capacity_policy(settings: Settings) -> CapacityPolicy:
    return CapacityPolicy(
        QuoteTerms(settings.offer_seconds, settings.horizon_days),
        HoldLimits(settings.holds_limit, settings.holds_node_seconds, settings.holds_repeats),
        settings.hold_seconds,
    )


def _files(
    settings: Settings, db: Database, clock: Clock, events: EventLog, identity: Identity, metering: Metering
) -> Files:
    """Who brings a new purpose adds its row here."""
    storage = LocalStorage(settings.files, settings.files_keep_free_bytes)
    limits = FileLimits(settings.max_file_bytes, settings.files_quota_bytes, settings.files_quota_count)
    purposes = [Purpose(BATCH, BatchCheck), Purpose(BATCH_OUTPUT, uploads=False)]
    purposes.append(Purpose(SOURCE, SourceCheck, max_bytes=SOURCE_BYTES))
    return Files(db, clock, events, identity, metering, storage, limits, purposes)


def _hub(settings: Settings) -> HubHere | None:
    if not settings.hub_url:
        return None
    return HubHere(Hub(settings.hub_url, settings.hub_token), settings.state / "models")


def _drivers(settings: Settings) -> dict[EngineKind, Driver]:
    drivers: dict[EngineKind, Driver] = {
        EngineKind.EXTERNAL: ExternalDriver(),
        EngineKind.LLAMACPP: LlamaCppDriver(settings.replica_memory_bytes, most_slots=this_machine().slots),
    }
    if settings.vllm_python:
        drivers[EngineKind.VLLM] = VllmDriver(
            settings.vllm_python, settings.vllm_accelerators, settings.vllm_device, settings.vllm_tool_parser
        )
    return drivers
