"""NOTIFY and LISTEN: a hint that something changed. Hints can be lost, so whoever listens also polls slowly."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

import psycopg
import structlog
from psycopg import sql
from sqlalchemy import text

from skerry.db.database import Tx, connect_arguments, libpq_url

KEYS: Final = "skerry_keys"
ROUTES: Final = "skerry_routes"
PRICES: Final = "skerry_prices"
BUDGETS: Final = "skerry_budgets"
WORK: Final = "skerry_work"
EVENTS: Final = "skerry_events"
FLEET: Final = "skerry_fleet"
"""A leaf's nodes, or what is planned or closed there, have changed; the payload is its id."""
CAPACITY: Final = "skerry_capacity"
"""What is promised on a leaf has changed; the payload is its id."""

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0
_CHECK_SECONDS = 30.0

_NOTIFY = text("SELECT pg_notify(:channel, :payload)")


async def notify(tx: Tx, channel: str, payload: str = "") -> None:
    """Tell all listeners, once the transaction has committed. Equal hints of one transaction become one."""
    await tx.execute(_NOTIFY, {"channel": channel, "payload": payload})


class Listener:
    """Hears channels on a connection of its own.

    `on_notify(channel, payload)` is called for each hint; `on_reconnect()` after each connection was made, the first
    included: whatever happened before it was missed and has to be read. Both run in the event loop and must not block.
    """

    def __init__(
        self,
        url: str,
        channels: Iterable[str],
        on_notify: Callable[[str, str], None],
        on_reconnect: Callable[[], None] = lambda: None,
        *,
        name: str = "skerry-listener",
    ) -> None:
        self._url = libpq_url(url)
        self._arguments = connect_arguments(url, name)
        self._channels = tuple(channels)
        self._on_notify = on_notify
        self._on_reconnect = on_reconnect
        self._log = structlog.get_logger("skerry.db.notify")

    async def run(self) -> None:
        """Listen until cancelled, connecting again for as long as it takes."""
        wait = _FIRST_WAIT
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, **self._arguments
                ) as connection:
                    await self._subscribe(connection)
                    wait = _FIRST_WAIT
                    await self._hear(connection)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                self._log.info("listener_disconnected", retry_seconds=wait, error=type(error).__name__)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _subscribe(self, connection: psycopg.AsyncConnection[Any]) -> None:
        for channel in self._channels:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        self._on_reconnect()

    async def _hear(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while True:
            async for hint in connection.notifies(timeout=_CHECK_SECONDS):
                self._on_notify(hint.channel, hint.payload)
            # Silence may also be a dead peer: this fails if it is.
            await connection.execute("SELECT 1")
