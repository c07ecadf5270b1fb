"""The gateway role: the public port."""

import asyncio
import encodings.idna
import os
import socket
from collections.abc import Iterator, Sequence

import httptools

from skerry.db.database import Database
from skerry.inference.gateway.collector import GatewayCollector, ReplicaLoad, registry_of
from skerry.inference.gateway.connection import accept
from skerry.inference.gateway.control import Control, LeaseBank
from skerry.inference.gateway.gateway import Gateway
from skerry.inference.gateway.snapshot import Pools
from skerry.inference.gateway.state import RouteState
from skerry.inference.gateway.tickets import Tickets
from skerry.inference.requests.content import ContentSealer
from skerry.kernel.ids import new_id
from skerry.runtime import telemetry
from skerry.runtime.journal.writer import JournalWriter
from skerry.server.compose import build
from skerry.server.context import RoleContext

ROLE = "gateway"
HANDSHAKE_SECONDS = 10.0
"""For a client to finish its TLS handshake; TLS connections that end get half of it to say goodbye."""
SETTLE_SECONDS = 0.2
"""After the port is closed here, what was just accepted shows up as a connection."""
LOOK_SECONDS = 0.1
# Named so that they are loaded before the process loses its way to Python's folders.
LOADED = (encodings.idna, httptools)


async def run(context: RoleContext) -> None:
    """Serve until `context.stopping` is set, then finish what is under way."""
    settings = context.settings
    db = Database(context.database_url, pool_size=4, name="skerry-gateway")
    services = build(settings, db, context.keyring)
    journal = JournalWriter(settings.journal / new_id("gw"))
    bank = LeaseBank(db, services.billing, journal.folder.name)
    keyring = context.keyring
    gateway = Gateway(settings, journal, bank, keyring.hmacs, Tickets.of(keyring), ContentSealer(keyring))
    pools, name = Pools(context.tls), journal.folder.name
    control = Control(gateway, db, services.identity, services.billing, services.inference, pools, name)
    gateway.accounts_wanted = control.accounts_wanted
    gateway.demand_wanted = control.demand_wanted
    bank.on_missing = control.refresh_all
    loop = asyncio.get_running_loop()
    journal.start(loop)
    refreshing = asyncio.create_task(control.run(settings.requests_per_minute, settings.tokens_per_minute))
    await _until_fresh(gateway, context.stopping)
    page = await telemetry.serve(
        registry_of(_collector(gateway)), telemetry.socket_path(settings.run, ROLE, os.getpid())
    )
    opened = context.gateway_socket or _open(settings.host, settings.port)
    secure = context.certificate
    server = await loop.create_server(
        lambda: accept(gateway),
        sock=opened,
        ssl=secure,
        ssl_handshake_timeout=HANDSHAKE_SECONDS if secure else None,
        ssl_shutdown_timeout=HANDSHAKE_SECONDS / 2 if secure else None,
    )
    servers = [server, *await _serve_inside(gateway, context)]
    try:
        await _serve(gateway, context, servers)
    finally:
        await gateway.drain(settings.drain_seconds)
        refreshing.cancel()
        page.close()
        telemetry.socket_path(settings.run, ROLE, os.getpid()).unlink(missing_ok=True)
        journal.close()
        await db.close()


async def _serve_inside(gateway: Gateway, context: RoleContext) -> list[asyncio.AbstractServer]:
    """For the cloud's own requests, without TLS, where the launcher has opened a socket for them."""
    if context.internal_socket is None:
        return []
    loop = asyncio.get_running_loop()
    return [await loop.create_unix_server(lambda: accept(gateway, internal=True), sock=context.internal_socket)]


async def _serve(gateway: Gateway, context: RoleContext, servers: Sequence[asyncio.AbstractServer]) -> None:
    """Until told to stop; where another process has taken over, until the last client has what it asked for."""
    ended = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(gateway.keep_house(ended))
            context.tell("serving")
            await context.stopping.wait()
            for server in servers:
                server.close()
            context.tell("draining")
            if context.handed_over:
                await _empty(gateway, context)
            ended.set()
    finally:
        for server in servers:
            server.close()


async def _empty(gateway: Gateway, context: RoleContext) -> None:
    """Each connection ends with its next answer, or idle; nobody new comes."""
    gateway.draining = True
    begun = gateway.now()
    settled = begun + SETTLE_SECONDS + (HANDSHAKE_SECONDS if context.certificate else 0.0)
    latest = begun + context.settings.answer_timeout_seconds
    while gateway.connections or gateway.now() < settled:
        if context.hurried.is_set() or gateway.now() > latest:
            return
        await asyncio.sleep(LOOK_SECONDS)


async def _until_fresh(gateway: Gateway, stopping: asyncio.Event) -> None:
    """Keys and routes first: connections wait in the socket's queue meanwhile."""
    while not gateway.snapshot.fresh_at and not stopping.is_set():
        await asyncio.sleep(0.02)


def _open(host: str, port: int) -> socket.socket:
    opened = socket.create_server((host, port), backlog=4096)
    opened.setblocking(False)
    return opened


def _collector(gateway: Gateway) -> GatewayCollector:
    return GatewayCollector(
        gateway.metrics,
        [
            ("open_connections", "Client connections open now.", lambda: float(len(gateway.connections))),
            ("in_flight", "Requests being answered now.", lambda: float(len(gateway.in_flight))),
            ("journal_records", "Records written to the journal.", lambda: float(gateway.journal.written)),
            ("journal_has_room", "1 while answers can be recorded.", lambda: float(gateway.journal.has_room)),
            (
                "replicas_ready",
                "Replicas requests can be sent to.",
                lambda: float(sum(len(route.replicas) for route in gateway.snapshot.routes.values())),
            ),
            (
                "snapshot_age_seconds",
                "Time since keys, routes, prices and budgets were known to be current.",
                lambda: gateway.now() - gateway.snapshot.fresh_at,
            ),
        ],
        lambda: {name: len(route.queue) for name, route in _by_endpoint(gateway).items()},
        lambda: _loads(gateway),
    )


def _by_endpoint(gateway: Gateway) -> dict[str, RouteState]:
    return {route.route.endpoint: route for route in gateway.snapshot.routes.values()}


def _loads(gateway: Gateway) -> Iterator[ReplicaLoad]:
    for endpoint, route in _by_endpoint(gateway).items():
        for replica in route.replicas:
            yield ReplicaLoad(endpoint, replica.id, replica.in_flight, replica.slots)
