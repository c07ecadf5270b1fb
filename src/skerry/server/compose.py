"""The composition root: settings and a database become all services, wired by constructor."""

from dataclasses import dataclass
from decimal import Decimal

from fastapi import APIRouter

from skerry.artifacts import routes as artifacts_routes
from skerry.artifacts.model import EngineKind
from skerry.artifacts.service import Catalogue
from skerry.billing import routes as billing_routes
from skerry.billing.service import Billing, KeyBudgets
from skerry.compute import routes as compute_routes
from skerry.compute.engines.embedded.client import EmbeddedEngine
from skerry.compute.service import Compute
from skerry.db.database import Database
from skerry.fleet import routes as fleet_routes
from skerry.fleet.service import Fleet
from skerry.identity import routes as identity_routes
from skerry.identity.access import Access
from skerry.identity.service import Identity
from skerry.inference import routes as inference_routes
from skerry.inference.engines.base import Driver
from skerry.inference.engines.external import ExternalDriver
from skerry.inference.engines.llamacpp.driver import LlamaCppDriver
from skerry.inference.service import Inference
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

TIMELINES = ("projects", "service-accounts", "api-keys", "workloads", "budgets")
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
    catalogue: Catalogue
    engine: EmbeddedEngine
    compute: Compute
    inference: Inference
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
    engine = EmbeddedEngine(settings.agent_socket)
    compute = Compute(db, clock, keyring, events, outbox, {engine.name: engine})
    catalogue = Catalogue(
        db, clock, events, keyring, identity, platform=identity.platform, pricing=CataloguePricing(billing.prices)
    )
    inference = Inference(db, clock, events, keyring, catalogue, _drivers(settings))
    catalogue.observe(inference)
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
        fleet=Fleet(db, clock),
        catalogue=catalogue,
        engine=engine,
        compute=compute,
        inference=inference,
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
        artifacts_routes.router(services.catalogue, access),
        compute_routes.router(services.compute, access),
        inference_routes.router(services.inference, access),
        reports_routes.router(services.reports, access),
    ]


def openai_routers(services: Services) -> list[APIRouter]:
    """Routers below `/v1`; the hot paths are the gateway's own."""
    return [inference_routes.openai_router(services.inference, services.access)]


def _drivers(settings: Settings) -> dict[EngineKind, Driver]:
    return {
        EngineKind.EXTERNAL: ExternalDriver(),
        EngineKind.LLAMACPP: LlamaCppDriver(settings.replica_memory_bytes),
    }
