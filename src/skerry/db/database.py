"""The pool of connections, and transactions on it: the unit of work of every use case."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import psycopg

# Named here although SQLAlchemy would find them itself: after a process has dropped its privileges Python's own
# folders may be closed to it, so nothing may be imported late.
import psycopg.types.hstore
import psycopg.types.json
import psycopg.types.multirange
import psycopg.types.range
import sqlalchemy.dialects.postgresql.psycopg  # noqa: F401
from sqlalchemy import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from skerry.db.errors import DatabaseUnavailable, database_away_is_unavailable

__all__ = ["Database", "DatabaseUnavailable", "Tx", "driver_connection", "libpq_url", "sqlalchemy_url"]

Tx: TypeAlias = AsyncConnection

_CONNECT_SECONDS = 5
_POOL_WAIT_SECONDS = 10
# A peer that vanishes without a word (TCP only) is noticed after about 25 s.
_KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}


class Database:
    """A pool of at most `2 × pool_size` connections to one PostgreSQL, opened when needed.

    Every method raises DatabaseUnavailable where the server is away. A server that was restarted costs only the
    transactions that were open: each connection is tried before it is used again.
    """

    def __init__(self, url: str, *, pool_size: int = 8, name: str = "skerry") -> None:
        address = sqlalchemy_url(url)
        self.url = address.render_as_string(hide_password=False)
        self._engine = create_async_engine(
            address,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=_POOL_WAIT_SECONDS,
            pool_pre_ping=True,
            hide_parameters=True,  # errors are logged, customers' values are not
            connect_args=connect_arguments(address, name),
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """A read-committed transaction: committed when the block ends, rolled back when it raises."""
        with database_away_is_unavailable():
            async with self._engine.begin() as tx:
                yield tx

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Tx]:
        """A read-only transaction in which all statements see the same moment."""
        with database_away_is_unavailable():
            async with self._engine.connect() as tx:
                await tx.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                async with tx.begin():
                    yield tx

    async def close(self) -> None:
        await self._engine.dispose()


def sqlalchemy_url(url: str) -> URL:
    """The address for SQLAlchemy with psycopg 3. Raises ValueError for what is no PostgreSQL address."""
    parsed = make_url(url)
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise ValueError("the database address must begin with postgresql://")
    return parsed.set(drivername="postgresql+psycopg")


def libpq_url(url: str) -> str:
    """The same address as psycopg itself takes it."""
    return sqlalchemy_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def connect_arguments(url: str | URL, name: str) -> dict[str, Any]:
    """What every connection of ours has in common, whoever opens it."""
    given = make_url(url).query.get("options", "")
    options = " ".join([given] if isinstance(given, str) else given)
    return {
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": name,
        "options": f"{options} -c timezone=UTC".strip(),
        **_KEEPALIVE,
    }


async def driver_connection(tx: Tx) -> psycopg.AsyncConnection[Any]:
    """psycopg's own connection under a transaction, for COPY."""
    raw = await tx.get_raw_connection()
    connection = raw.driver_connection
    assert isinstance(connection, psycopg.AsyncConnection)
    return connection
