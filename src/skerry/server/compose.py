"""The composition root: settings and a database become all services, wired by constructor."""

from dataclasses import dataclass

from fastapi import APIRouter

from skerry.db.database import Database
from skerry.fleet import routes as fleet_routes
from skerry.fleet.service import Fleet
from skerry.identity import routes as identity_routes
from skerry.identity.access import Access
from skerry.identity.service import Identity
from skerry.kernel.clock import Clock, SystemClock
from skerry.runtime.events import EventLog
from skerry.runtime.idempotency import Idempotency
from skerry.runtime.secrets import Keyring
from skerry.runtime.settings import Settings
from skerry.server.events import EventFeed
from skerry.server.health import Check, Health, OperatorDoor, database_check, socket_check


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a role of the control plane may need. Making it opens nothing."""

    settings: Settings
    db: Database
    clock: Clock
    keyring: Keyring
    events: EventLog
    idempotency: Idempotency
    identity: Identity
    access: Access
    fleet: Fleet
    health: Health
    door: OperatorDoor
    feed: EventFeed


def build(settings: Settings, db: Database, keyring: Keyring, clock: Clock | None = None) -> Services:
    clock = clock or SystemClock()
    events = EventLog(clock)
    identity = Identity(db, clock, keyring, events)
    access = Access(identity)
    fleet = Fleet(db, clock)
    return Services(
        settings=settings,
        db=db,
        clock=clock,
        keyring=keyring,
        events=events,
        idempotency=Idempotency(clock),
        identity=identity,
        access=access,
        fleet=fleet,
        health=Health(_checks(settings, db)),
        door=OperatorDoor(access, keyring, settings.metrics_token),
        feed=EventFeed(db, events),
    )


def control_routers(services: Services) -> list[APIRouter]:
    """Routers below `/api/v1`."""
    access = services.access
    return [
        identity_routes.router(services.identity, access),
        fleet_routes.router(services.fleet, access),
    ]


TIMELINES = ("projects", "service-accounts", "api-keys")
"""Collections whose resources have a timeline in their project; organizations and members have theirs in the trail."""


def _checks(settings: Settings, db: Database) -> dict[str, Check]:
    return {"database": database_check(db), "engine": socket_check(settings.agent_socket)}
