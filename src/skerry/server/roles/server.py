"""The server role: the control API on a Unix socket, behind the gateway."""

import asyncio
import encodings.idna
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import anyio._backends._asyncio
import uvicorn
import uvicorn.lifespan.off
import uvicorn.loops.uvloop
import uvicorn.protocols.http.httptools_impl
from fastapi import FastAPI
from starlette.types import Message

from skerry.capacity.loading import load
from skerry.compute.instances.admitting import AdmitNow, admit_now
from skerry.db.database import Database
from skerry.db.notify import CAPACITY, EVENTS, FLEET, Listener
from skerry.runtime import telemetry
from skerry.runtime.secrets import Keyring
from skerry.runtime.settings import Settings
from skerry.server import pages
from skerry.server.app import create_app
from skerry.server.compose import Services, build
from skerry.server.context import RoleContext
from skerry.server.openapi import document
from skerry.server.telemetry import ServerMetrics

ROLE = "server"
BACKLOG = 2048
KEEP_ALIVE_SECONDS = 300
STOP_SECONDS = 10
"""What is under way may take so long after the word to stop."""

# Named so that they are loaded before the process loses its way to Python's folders: both are looked up by name.
LOADED = (encodings.idna, anyio._backends._asyncio, uvicorn.loops.uvloop, uvicorn.lifespan.off)


def preload() -> None:
    """Load everything a request could load, by answering some that need no database."""
    load()
    nowhere = Path("/nonexistent")
    services = build(
        Settings(home=nowhere, state=nowhere),
        Database("postgresql://nobody@127.0.0.1:1/none"),
        Keyring([("k", bytes(32))]),
    )
    app = create_app(services, services.settings)
    # The whole document takes a second to make, which the first who asks for it can wait; a part loads as much.
    pages.reference(document(app, app.routes[:1]))
    asyncio.run(_exercise(app))


async def run(context: RoleContext) -> None:
    """Serve until `context.stopping` is set, then finish what is under way."""
    settings = context.settings
    db = Database(context.database_url, name="skerry-server")
    services = build(settings, db, context.keyring)
    services.machines.instances.admit_by(admits(services))
    metrics = ServerMetrics()
    server = _Server(_config(create_app(services, settings, metrics)))
    listener = Listener(db.url, [EVENTS], services.feed.hear, services.feed.missed, name="skerry-server-events")
    live = services.capacity.live
    leaves = Listener(db.url, [FLEET, CAPACITY], live.hear, live.missed, name="skerry-server-calendar")
    page = await telemetry.serve(metrics.registry, telemetry.socket_path(settings.run, ROLE, os.getpid()))
    try:
        async with asyncio.TaskGroup() as tasks:
            hearing = tasks.create_task(listener.run())
            watching = tasks.create_task(leaves.run())
            warming = tasks.create_task(live.prepare())
            serving = tasks.create_task(server.serve(sockets=[context.server_socket or _open(settings)]))
            stopping = tasks.create_task(context.stopping.wait())
            await asyncio.wait((serving, stopping, hearing, watching), return_when=asyncio.FIRST_COMPLETED)
            services.feed.close()
            server.should_exit = True
            await serving
            for task in (hearing, watching, warming):
                task.cancel()
            stopping.cancel()
    finally:
        page.close()
        telemetry.socket_path(settings.run, ROLE, os.getpid()).unlink(missing_ok=True)
        await db.close()


def admits(services: Services) -> AdmitNow:
    """Who says at once whether there is capacity for an instance."""
    own = services
    return admit_now(own.settings, own.compute, own.events, own.outbox, own.fleet, own.identity)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the role's matter, not uvicorn's."""
        yield


def _config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        # Longer than gateways keep an idle connection, so that they are the ones who close it.
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )


def _open(settings: Settings) -> socket.socket:
    """The socket that `server_url` names, where no launcher has opened one."""
    if settings.server_url.startswith("http://"):
        address = urlsplit(settings.server_url)
        return socket.create_server((address.hostname or "127.0.0.1", address.port or 80), backlog=BACKLOG)
    path = Path(settings.server_url.removeprefix("unix:") or settings.server_socket)
    path.unlink(missing_ok=True)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    opened.bind(str(path))
    path.chmod(0o660)
    opened.listen(BACKLOG)
    return opened


async def _exercise(app: FastAPI) -> None:
    """An answer, a refusal of each kind, and bodies that cannot be read."""
    for method, path, body in (
        ("GET", "/healthz", b""),
        ("GET", "/nowhere", b""),
        ("GET", "/v1/nowhere", b""),
        ("GET", "/api/v1/whoami", b""),
        ("DELETE", "/healthz", b""),
        ("POST", "/api/v1/api-keys", b"{"),
        ("POST", "/api/v1/api-keys", b'{"name": "\\u0000"}'),
        ("POST", "/api/v1/api-keys?limit=x", b"{}"),
    ):
        await _ask(app, method, path, body)


async def _ask(app: FastAPI, method: str, path: str, body: bytes) -> None:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path.partition("?")[0],
        "raw_path": path.encode(),
        "query_string": path.partition("?")[2].encode(),
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": None,
        "server": None,
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(_: Message) -> None:
        pass

    await app(scope, receive, send)
