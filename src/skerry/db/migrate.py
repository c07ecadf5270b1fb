"""Bringing a database to the schema of this code. Runs at start, in every process that asks, once in effect."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from skerry.db.database import connect_arguments, libpq_url, sqlalchemy_url
from skerry.db.errors import NewerDatabase, UnsupportedDatabase, database_away_is_unavailable

__all__ = ["NewerDatabase", "UnsupportedDatabase", "is_current", "upgrade"]

OLDEST_SERVER = 150_000
_LOCK = 0x5_EE_44_59  # any number that all versions of this code share
_POLL_SECONDS = 0.05


def upgrade(url: str, *, versions: Path | None = None) -> None:
    """Apply all migrations that are missing. Several processes may call this at once: one works, the others wait.

    `versions` is the folder of migrations, ours by default. Raises NewerDatabase, UnsupportedDatabase,
    DatabaseUnavailable.
    """
    with database_away_is_unavailable(), _locked(url), _connection(url) as connection:
        config = _config(connection, versions)
        _refuse_newer(connection, config)
        command.upgrade(config, "heads")


def is_current(url: str) -> bool:
    """Whether the schema is that of this code. Raises NewerDatabase, DatabaseUnavailable."""
    with database_away_is_unavailable(), _connection(url) as connection:
        config = _config(connection)
        _refuse_newer(connection, config)
        return _applied(connection) == set(ScriptDirectory.from_config(config).get_heads())


@contextmanager
def _locked(url: str) -> Iterator[None]:
    """Hold the migration lock on a connection of its own."""
    with psycopg.connect(libpq_url(url), autocommit=True, **connect_arguments(url, "skerry-migrate")) as holder:
        if holder.info.server_version < OLDEST_SERVER:
            have = holder.info.server_version // 10_000
            raise UnsupportedDatabase(f"the database is PostgreSQL {have}; Skerry needs 15 or newer")
        # Asked again and again rather than waited for: a waiting statement holds a snapshot, and a migration that
        # builds an index concurrently waits for all snapshots.
        while not _try_lock(holder):
            time.sleep(_POLL_SECONDS)
        yield


def _try_lock(holder: psycopg.Connection[Any]) -> bool:
    row = holder.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK]).fetchone()
    return bool(row and row[0])


@contextmanager
def _connection(url: str) -> Iterator[Connection]:
    engine = create_engine(
        sqlalchemy_url(url), poolclass=NullPool, connect_args=connect_arguments(url, "skerry-migrate")
    )
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def _config(connection: Connection, versions: Path | None = None) -> Config:
    home = Path(__file__).parent / "migrations"
    config = Config()
    config.set_main_option("script_location", _escaped(home))
    config.set_main_option("version_locations", _escaped(versions or home / "versions"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")


def _refuse_newer(connection: Connection, config: Config) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if unknown := _applied(connection) - known:
        raise NewerDatabase(
            f"the database is from a newer version of Skerry (it has migration {', '.join(sorted(unknown))}); "
            "start that version, or restore a backup made before it"
        )


def _applied(connection: Connection) -> set[str]:
    applied = set(MigrationContext.configure(connection).get_current_heads())
    connection.rollback()  # alembic begins its own transactions
    return applied
