"""The gateway role: the public port."""

import asyncio
import encodings.idna
import os
import socket

import httptools

from skerry.db.database import Database
from skerry.inference.gateway.connection import ClientConnection
from skerry.inference.gateway.control import Control, LeaseBank
from skerry.inference.gateway.gateway import Gateway
from skerry.inference.gateway.metrics import GatewayCollector, registry_of
from skerry.inference.gateway.snapshot import Pools
from skerry.kernel.ids import new_id
from skerry.runtime import telemetry
from skerry.runtime.journal.writer import JournalWriter
from skerry.server.compose import build
from skerry.server.context import RoleContext

ROLE = "gateway"
DRAIN_SECONDS = 8.0
# Named so that they are loaded before the process loses its way to Python's folders.
LOADED = (encodings.idna, httptools)


async def run(context: RoleContext) -> None:
    """Serve until `context.stopping` is set, then finish what is under way."""
    settings = context.settings
    db = Database(context.database_url, pool_size=4, name="skerry-gateway")
    services = build(settings, db, context.keyring)
    journal = JournalWriter(settings.journal / new_id("gw"))
    bank = LeaseBank(db, services.billing, journal.folder.name)
    gateway = Gateway(settings, journal, bank, context.keyring.hmacs)
    control = Control(gateway, db, services.identity, services.billing, services.inference, Pools(context.tls))
    gateway.accounts_wanted = control.accounts_wanted
    bank.on_missing = control.refresh_all
    loop = asyncio.get_running_loop()
    journal.start(loop)
    refreshing = asyncio.create_task(control.run(settings.requests_per_minute, settings.tokens_per_minute))
    await _until_fresh(gateway, context.stopping)
    page = await telemetry.serve(
        registry_of(_collector(gateway)), telemetry.socket_path(settings.run, ROLE, os.getpid())
    )
    opened = context.gateway_socket or _open(settings.host, settings.port)
    server = await loop.create_server(lambda: ClientConnection(gateway), sock=opened)
    try:
        await gateway.keep_house(context.stopping)
    finally:
        server.close()
        await gateway.drain(DRAIN_SECONDS)
        refreshing.cancel()
        page.close()
        telemetry.socket_path(settings.run, ROLE, os.getpid()).unlink(missing_ok=True)
        journal.close()
        await db.close()


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
        gateway.waiting_room.depths,
    )
