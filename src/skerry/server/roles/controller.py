"""The controller role: one reconcile loop per kind of resource, and the roll-ups of usage."""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram

from skerry.artifacts.files.sweeper import FileSweeper
from skerry.artifacts.hub.client import Hub
from skerry.artifacts.hub.fetcher import ModelFetcher
from skerry.artifacts.volumes.reconciler import VolumeReconciler
from skerry.capacity.admission.service import Admission
from skerry.capacity.binding.reconciler import ReservationReconciler
from skerry.capacity.binding.sweeper import SECONDS as SWEEP_SECONDS
from skerry.capacity.binding.sweeper import HoldSweeper
from skerry.capacity.binding.watching import FleetWatcher
from skerry.capacity.loading import load
from skerry.capacity.service.quotes import QUOTES_KEPT
from skerry.compute.advance import Advance
from skerry.compute.changes import Changes
from skerry.compute.delivering import EngineDeliverer, ReservationNews
from skerry.compute.engines.base import NodeState
from skerry.compute.engines.slurm.serving import SlurmClient
from skerry.compute.health.keeper import HealthKeeper, HealthNews
from skerry.compute.instances.reconciler import InstanceReconciler
from skerry.compute.reconciler import WorkloadReconciler
from skerry.compute.setting_aside import SettingAside
from skerry.compute.spending import Spending
from skerry.compute.watching import EngineWatcher, Evictions, Sweeper
from skerry.db.database import Database, Tx
from skerry.db.notify import WORK, Listener
from skerry.fleet.cluster import ClusterNode
from skerry.inference.batches.reconciler import BatchReconciler
from skerry.inference.batches.runner import BatchRunner
from skerry.inference.batches.sending import HttpSender
from skerry.inference.batches.service import ROWS
from skerry.inference.gateway.tickets import Tickets
from skerry.inference.probing import HttpProber
from skerry.inference.reconciler import EndpointReconciler
from skerry.kernel.errors import Unavailable
from skerry.kernel.ids import ProjectId
from skerry.metering.roller import Roller
from skerry.runtime import telemetry
from skerry.runtime.outbox import Dispatcher, Handler, Message
from skerry.runtime.reconciler import Loop, Reconciler, Wakes
from skerry.server.compose import Services, build
from skerry.server.context import RoleContext
from skerry.training.reconciler import JobReconciler

ROLE = "controller"
HOUSE_SECONDS = 600.0
FIRST_NODES_SECONDS = 0.5
RETURN_SECONDS = 5.0
"""Between looks for nodes that were out of service until a moment that has come."""

Observe = Callable[[str, str, float], None]


def preload() -> None:
    """What placement's compiler loads when it first works."""
    load()


async def run(context: RoleContext) -> None:
    """Reconcile until `context.stopping` is set. What a step was doing is done again by the next controller."""
    settings = context.settings
    db = Database(context.database_url, name="skerry-controller")
    services = build(settings, db, context.keyring)
    wakes = Wakes()
    registry = CollectorRegistry()
    path = telemetry.socket_path(settings.run, ROLE, os.getpid())
    page = await telemetry.serve(registry, path)
    observe = _observer(registry)
    work = [loop.run() for loop in loops(services, wakes, observe)]
    listener = Listener(db.url, [WORK], wakes.notified, wakes.wake_all, name="skerry-controller-listener")
    tasks = [
        asyncio.create_task(job)
        for job in (
            *work,
            listener.run(),
            Roller(services.metering).run(context.stopping),
            services.billing.settling.run(),
            *(EngineWatcher(db, services.clock, engine).run() for engine in services.compute.engines.values()),
            *(Sweeper(db, engine).run() for engine in services.compute.engines.values()),
            first_nodes(services),
            Evictions(db, services.clock, services.compute, admission_of(services)).run(),
            spending_of(services).run(),
            HealthKeeper(services.node_health, services.compute.engines, admission_of(services)).run(),
            FileSweeper(services.files).run(),
            FleetWatcher(db, services.clock).run(),
            setting_aside_of(services).run(),
            batch_runner(services, wakes, observe).run(),
            _repeat(lambda: _keep_house(services), HOUSE_SECONDS),
            _repeat(services.fleet.upkeep.bring_back, RETURN_SECONDS),
            _repeat(HoldSweeper(db, services.capacity.reservations).look, SWEEP_SECONDS),
        )
    ]
    stopping = asyncio.create_task(context.stopping.wait())
    try:
        # A loop that ends is a defect: better to start anew than to go on without it.
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        if stopping not in done:
            for task in done:
                task.result()
            raise RuntimeError("a loop of the controller has ended")
    finally:
        for task in (*tasks, stopping):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        page.close()
        path.unlink(missing_ok=True)
        await db.close()


def loops(services: Services, wakes: Wakes, observe: Observe) -> list[Loop]:  # type: ignore[type-arg]
    """All reconcilers there are. `tests/architecture` checks that none is forgotten."""
    changes = Changes(services.events, services.outbox)
    advance = Advance(
        services.clock,
        changes,
        services.fleet,
        services.metering,
        random.Random(),
        admission=admission_of(services),
        jurisdictions=lambda tx, project: _jurisdictions(services, tx, project),
        isolation=services.nodes.isolation,
    )
    engines = services.compute.engines
    workloads = WorkloadReconciler(
        services.db, services.clock, services.keyring, engines, advance, services.nodes.contexts
    )
    endpoints = EndpointReconciler(services.inference, services.compute, HttpProber(), services.fleet.being_emptied)
    batches = BatchReconciler(services.batches)
    settings = services.settings
    fetcher = ModelFetcher(
        services.db,
        services.clock,
        Hub(settings.hub_url, settings.hub_token),
        settings.state / "models",
        keep_free=settings.models_keep_free_bytes,
        engines=services.catalogue.engines,
    )
    reservations = ReservationReconciler(
        services.db,
        services.clock,
        services.fleet,
        services.events,
        services.outbox,
        services.metering,
        EngineDeliverer(services.compute.engines, setting_aside_of(services)),
        lead=timedelta(seconds=settings.bind_lead_seconds),
        notice=timedelta(seconds=settings.spot_notice_seconds),
        settlement=services.billing.reserved,
    )
    told = ReservationNews(services.db, services.clock).changed
    outbox = Dispatcher(
        services.db,
        services.clock,
        {
            "workload": _each(
                services.inference.workload_changed,
                services.training.jobs.workload_changed,
                services.machines.instances.workload_changed,
                HealthNews(services.node_health).changed,
            ),
            "reservation": told,
        },
    )
    every: list[tuple[Reconciler[Any, Any], float]] = [
        (workloads, 1.0),
        (endpoints, 1.0),
        (outbox, 1.0),
        (reservations, 1.0),
        (batches, 2.0),
        (JobReconciler(services.training.jobs), 2.0),
        (InstanceReconciler(services.machines.instances), 2.0),
        (VolumeReconciler(services.machines.volumes, services.machines.wiper), 5.0),
        (fetcher, 5.0),
    ]
    return [
        Loop(reconciler, wake=wakes.event(reconciler.kind), poll_seconds=seconds, observe=observe)
        for reconciler, seconds in every
    ]


def spending_of(services: Services) -> Spending:
    """Keeps what runs by the second to its limits."""
    changes = Changes(services.events, services.outbox)
    return Spending(services.db, services.clock, services.compute, changes, services.billing.running)


def admission_of(services: Services) -> Admission:
    """Who may run now; the same ledger as reservations."""
    settings = services.settings
    return Admission(
        services.clock,
        services.fleet,
        notice=timedelta(seconds=settings.spot_notice_seconds),
        horizon=timedelta(days=settings.horizon_days),
    )


async def first_nodes(services: Services) -> None:
    """A Slurm's nodes become those of an empty fleet, as soon as it answers. Then there is nothing more to do."""
    while services.settings.compute_engine == SlurmClient.name:
        try:
            if found := await services.engine.nodes():
                async with services.db.transaction() as tx:
                    await services.fleet.discover_cluster(tx, [cluster_node(node) for node in found])
                break
        except Unavailable:
            pass  # `/readyz` says so
        await asyncio.sleep(FIRST_NODES_SECONDS)
    await asyncio.Event().wait()


def cluster_node(node: NodeState) -> ClusterNode:
    """GPUs of which the engine knows no type are `gpu`."""
    kind = "" if node.shared else node.accelerator or "gpu"
    return ClusterNode(node.name, node.cores, node.memory_bytes, len(node.accelerators), kind)


def setting_aside_of(services: Services) -> SettingAside:
    """What is sold is kept free of others' work where an engine has such."""
    return SettingAside(services.db, services.fleet, services.capacity.deliveries, services.compute.engines)


async def _jurisdictions(services: Services, tx: Tx, project: ProjectId) -> Sequence[str]:
    return (await services.identity.project(tx, project)).jurisdictions


def _each(*handlers: Handler) -> Handler:
    """Every product looks whether a message is about something of its own."""

    async def handle(message: Message) -> None:
        for handler in handlers:
            await handler(message)

    return handle


def batch_runner(services: Services, wakes: Wakes, observe: Observe) -> BatchRunner:
    """Sends the rows of batches to the gateways, through the same door as everybody's requests."""
    settings = services.settings
    url = settings.gateway_url or f"unix:{settings.gateway_socket}"
    # A row may stand in the gateway's queue first, and be silent as long as any request.
    seconds = settings.queue_seconds + settings.answer_timeout_seconds
    sender = HttpSender(url, answer_seconds=seconds)
    tickets = Tickets.of(services.keyring)
    return BatchRunner(services.batches, sender, tickets, wakes.event(ROWS), observe=observe)


async def _keep_house(services: Services) -> None:
    await services.requests.keep_house()
    await services.fleet.upkeep.keep_house()
    await services.node_health.keep_house()
    async with services.db.transaction() as tx:
        await services.billing.balances.keep_house(tx)
        await services.inference.keep_house(tx)
        await services.training.jobs.keep_house(tx)
        await services.capacity.quotes.forget(tx)
        await services.capacity.changes.forget(tx, services.clock.now() - QUOTES_KEPT)


async def _repeat(job: Callable[[], Awaitable[object]], seconds: float) -> None:
    """Again and again. The database may go and come back."""
    log = structlog.get_logger("controller")
    while True:
        try:
            await job()
        except Unavailable as error:
            log.warning("database_away", reason=error.detail)
        await asyncio.sleep(seconds)


def _observer(registry: CollectorRegistry) -> Observe:
    steps = Counter("skerry_reconcile_steps", "Steps of reconcilers.", ["kind", "outcome"], registry=registry)
    seconds = Histogram("skerry_reconcile_seconds", "Duration of a step.", ["kind"], registry=registry)

    def observe(kind: str, outcome: str, duration: float) -> None:
        steps.labels(kind, outcome).inc()
        seconds.labels(kind).observe(duration)

    return observe
