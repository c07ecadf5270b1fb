"""One role's process: import, load the key, drop root, run until told to stop."""

import asyncio
import contextlib
import gc
import importlib
import os
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from types import ModuleType

import structlog
import uvloop

from skerry.kernel.errors import SkerryError
from skerry.runtime import log
from skerry.runtime.privileges import control_user, drop_to, end_with_parent
from skerry.runtime.secrets import Keyring
from skerry.runtime.settings import Settings
from skerry.server import certificate
from skerry.server.context import RoleContext
from skerry.server.roles import KEEPS_ROOT, PARENT, VIRTUAL_NODES

GATEWAY_FD = "SKERRY_GATEWAY_FD"
INTERNAL_FD = "SKERRY_INTERNAL_FD"
SERVER_FD = "SKERRY_SERVER_FD"
GATE_FD = "SKERRY_GATE_FD"
LIFELINE_FD = "SKERRY_LIFELINE_FD"
NEWS_FD = "SKERRY_NEWS_FD"

Run = Callable[[RoleContext], Awaitable[None]]


def run_role(name: str) -> int:
    """Run one role in this process; the exit status."""
    settings = Settings.from_env()
    log.configure(name, "warning")
    # Imported by name: each role's process loads only what it needs.
    module = importlib.import_module(f"skerry.server.roles.{name}")
    if hasattr(module, "preload"):
        module.preload()
    log.configure(name, settings.log_level)
    context = _context(settings)
    user = control_user()
    if user is not None:
        context.allowed_uids = frozenset({0, user.uid})
        if name not in KEEPS_ROOT:
            drop_to(user)
    else:
        context.allowed_uids = frozenset({os.geteuid()})
    if os.environ.get(PARENT):
        end_with_parent(int(os.environ[PARENT]))
    _tune_collector()
    _wait_at_gate()
    return _run(name, module, context)


def _context(settings: Settings) -> RoleContext:
    lifeline, news = os.environ.get(LIFELINE_FD), os.environ.get(NEWS_FD)
    return RoleContext(
        settings,
        Keyring.load(settings.home),
        settings.database_url or "",
        _inherited(GATEWAY_FD),
        _inherited(SERVER_FD),
        tls=ssl.create_default_context(),
        certificate=_certificate(),
        internal_socket=_inherited(INTERNAL_FD),
        lifeline_fd=int(lifeline) if lifeline else None,
        news_fd=int(news) if news else None,
        virtual_nodes=int(os.environ.get(VIRTUAL_NODES) or 1),
    )


def _certificate() -> ssl.SSLContext | None:
    """Made before root is dropped; afterwards no descriptor leads to the key any more."""
    text = os.environ.pop(certificate.TLS_FD, None)
    if not text:
        return None
    made = certificate.server_context(int(text))
    os.close(int(text))
    return made


def _wait_at_gate() -> None:
    """Until the launcher says that the database is there, by closing its end of a pipe."""
    gate = os.environ.pop(GATE_FD, None)
    if gate:
        os.read(int(gate), 1)
        os.close(int(gate))


def _inherited(variable: str) -> socket.socket | None:
    text = os.environ.get(variable)
    if not text:
        return None
    opened = socket.socket(fileno=int(text))
    opened.setblocking(False)
    return opened


def _tune_collector() -> None:
    """What was imported lives for ever: keep the collector from looking at it, and let it run seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _stop(context: RoleContext) -> None:
    context.hurried.set()
    context.stopping.set()


def _hand_over(context: RoleContext) -> None:
    context.handed_over = True
    context.stopping.set()


def _run(name: str, module: ModuleType, context: RoleContext) -> int:
    logger = structlog.get_logger(name)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _stop, context)
        loop.add_signal_handler(signal.SIGQUIT, _hand_over, context)
        loop.add_signal_handler(signal.SIGHUP, logger.info, "reload_is_the_launchers_matter")
        logger.info("started", pid=os.getpid(), uid=os.geteuid())
        await module.run(context)

    try:
        uvloop.run(main())
    except SkerryError as error:
        logger.error("failed", reason=error.detail, code=error.code)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
    logger.info("stopped")
    return 0
