"""A real PostgreSQL for all tests: one server a session, one database a test, copied from a migrated template.

With pytest-xdist (`make test`) each worker is a session of its own. A module's tests share a worker; those of whole
clouds share one together, so that only one cloud runs at a time, and they begin first.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql
from sqlalchemy import make_url

from skerry.db import migrate
from skerry.db.database import Database, libpq_url
from skerry.db.embedded import EmbeddedPostgres
from skerry.kernel.clock import FakeClock

# The same examples in each run, but for `make soak`; and however slow the machine is just now.
settings.register_profile(
    "skerry",
    deadline=None,
    max_examples=100 if "SKERRY_ROUNDS" in os.environ else 40,
    derandomize="SKERRY_ROUNDS" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("skerry")

WHOLE_CLOUDS = ("tests/docs/", "tests/e2e/", "tests/kill/", "tests/launcher/", "tests/sdk/")
"""Where the tests marked `cloud` are."""

SLURM = "tests/compute/slurm/"
"""They share a Slurm, so one worker has all of them."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Called where pytest-xdist is, for `--dist loadfile`."""
    from xdist.scheduler import LoadFileScheduling

    class OneCloudAtATime(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith(SLURM):
                return "slurm"
            return "clouds" if nodeid.startswith(WHOLE_CLOUDS) else super()._split_scope(nodeid)

    return OneCloudAtATime(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("cloud") and not item.nodeid.startswith(WHOLE_CLOUDS):
            raise pytest.UsageError(f"{item.nodeid} needs a whole cloud: its place is below {', '.join(WHOLE_CLOUDS)}")
    if hasattr(config, "workerinput"):  # a worker of pytest-xdist
        items.sort(key=lambda item: not item.nodeid.startswith(WHOLE_CLOUDS))


@pytest.fixture(scope="session")
def short_tmp() -> Iterator[Path]:
    """A folder with a short path (sockets) that any user may enter (the database's)."""
    folder = Path(tempfile.mkdtemp(prefix="sk-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server_url(short_tmp: Path) -> Iterator[str]:
    """A server on which databases can be made; `SKERRY_TEST_DATABASE_URL` names one, else it is started here."""
    given = os.environ.get("SKERRY_TEST_DATABASE_URL")
    if given:
        yield libpq_url(given)
        return
    with tempfile.TemporaryDirectory(prefix="skerry-test-", dir=_fast_folder()) as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(
            Path(folder) / "data",
            short_tmp / "sock",
            log=short_tmp / "postgres.log",
            # No autovacuum: DROP DATABASE … WITH (FORCE) may not end its workers, which are the superuser's.
            settings={"shared_buffers": "64MB", "max_wal_size": "256MB", "autovacuum": "off"},
            durable=False,
        )
        server.start()
        try:
            with psycopg.connect(server.url("postgres", "postgres"), autocommit=True) as admin:
                admin.execute("ALTER ROLE skerry CREATEDB")
            yield server.url()
        finally:
            server.stop()


@pytest.fixture(scope="session")
def template_database(server_url: str) -> Iterator[str]:
    """The name of a database with all migrations applied and no rows."""
    name = f"skerry_template_{uuid4().hex[:12]}"
    _admin(server_url, "CREATE DATABASE {}", name)
    migrate.upgrade(_with_database(server_url, name))
    yield name
    _admin(server_url, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """A fresh database without any table."""
    name = f"skerry_test_{uuid4().hex[:12]}"
    _admin(server_url, "CREATE DATABASE {}", name)
    yield _with_database(server_url, name)
    _admin(server_url, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def database_url(server_url: str, template_database: str) -> Iterator[str]:
    """A fresh, migrated database."""
    name = f"skerry_test_{uuid4().hex[:12]}"
    _admin(server_url, "CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, template_database)
    yield _with_database(server_url, name)
    _admin(server_url, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=4, name="skerry-test")
    yield database
    await database.close()


@pytest.fixture
def clock() -> FakeClock:
    """Stands at 2026-01-01T00:00:00Z until it is moved."""
    return FakeClock()


def _fast_folder() -> str | None:
    """Memory, where there is enough: copying the template takes 0.02 s there and 0.3 s on a disk."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 2 * 1024**3 else None


def _with_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def _admin(url: str, statement: str, *names: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
