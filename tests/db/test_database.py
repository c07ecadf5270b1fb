import asyncio
import subprocess
import sys
import textwrap

import psycopg
import pytest
import uvloop
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from skerry.db.database import Database, DatabaseUnavailable, connect_arguments, libpq_url, sqlalchemy_url
from skerry.kernel.errors import Unavailable


async def scalar(database, statement):
    async with database.transaction() as tx:
        return (await tx.execute(text(statement))).scalar()


async def execute(database, statement):
    async with database.transaction() as tx:
        await tx.execute(text(statement))


async def test_sessions_are_in_utc(database):
    assert await scalar(database, "SHOW timezone") == "UTC"


async def test_a_transaction_is_kept_when_its_block_ends_and_dropped_when_it_raises(database):
    async with database.transaction() as tx:
        await tx.execute(text("CREATE TABLE kept (n int)"))
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as tx:
            await tx.execute(text("INSERT INTO kept VALUES (1)"))
            raise ZeroDivisionError
    assert await scalar(database, "SELECT count(*) FROM kept") == 0


async def test_reading_refuses_writes_and_sees_one_moment(database):
    await execute(database, "CREATE TABLE seen (n int)")
    async with database.reading() as tx:
        before = (await tx.execute(text("SELECT count(*) FROM seen"))).scalar()
        async with database.transaction() as other:
            await other.execute(text("INSERT INTO seen VALUES (1)"))
        assert (await tx.execute(text("SELECT count(*) FROM seen"))).scalar() == before
    with pytest.raises(Exception, match="read-only transaction"):
        async with database.reading() as tx:
            await tx.execute(text("INSERT INTO seen VALUES (2)"))
    # The connection that was read-only goes back to being an ordinary one.
    for _ in range(4):
        await execute(database, "INSERT INTO seen VALUES (3)")


async def test_errors_of_statements_are_passed_on_without_the_values(database):
    with pytest.raises(ProgrammingError):
        await scalar(database, "SELECT * FROM nowhere")
    await execute(database, "CREATE TABLE one (n text PRIMARY KEY)")
    with pytest.raises(IntegrityError) as caught:
        async with database.transaction() as tx:
            await tx.execute(text("INSERT INTO one VALUES (:n), (:n)"), {"n": "sk-private"})
    assert "parameters hidden" in str(caught.value)


async def test_a_server_that_is_not_there_is_unavailable(tmp_path):
    database = Database(f"postgresql://skerry@/skerry?host={tmp_path}")
    with pytest.raises(DatabaseUnavailable) as caught:
        await scalar(database, "SELECT 1")
    assert isinstance(caught.value, Unavailable)
    assert caught.value.code == "database_unavailable"
    assert caught.value.retry_after
    await database.close()


async def test_a_killed_connection_fails_its_own_transaction_only(database, database_url):
    with pytest.raises(DatabaseUnavailable):
        async with database.transaction() as tx:
            pid = (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            with psycopg.connect(database_url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            await tx.execute(text("SELECT 1"))
    for _ in range(8):
        assert await scalar(database, "SELECT 1") == 1


async def test_connections_that_died_while_idle_are_replaced_unnoticed(database, database_url):
    async def use():
        async with database.transaction() as tx:
            await tx.execute(text("SELECT pg_sleep(0.05)"))

    await asyncio.gather(*(use() for _ in range(4)))
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    await asyncio.gather(*(use() for _ in range(4)))


def test_it_works_on_uvloop(database_url):
    async def main():
        database = Database(database_url)
        try:
            assert "uvloop" in type(asyncio.get_running_loop()).__module__
            return await scalar(database, "SELECT 42")
        finally:
            await database.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == 42


def test_nothing_is_imported_after_the_start(database_url):
    """A process that dropped its privileges may not be able to read Python's own folders any more."""
    program = textwrap.dedent("""
        import asyncio, sys
        from datetime import UTC, datetime
        from sqlalchemy import text
        from skerry.db.database import Database
        from skerry.db.notify import Listener
        from skerry.kernel.clock import SystemClock
        from skerry.runtime.events import EventLog
        from skerry.runtime.idempotency import Idempotency
        from skerry.runtime.outbox import Outbox, Dispatcher
        from skerry.runtime.reconciler import Loop, Wakes

        class Closed:
            def find_spec(self, name, path=None, target=None):
                raise AssertionError(f"{name} is imported late")
        sys.meta_path.insert(0, Closed())

        async def main(url):
            database = Database(url)
            async with database.transaction() as tx:
                events = EventLog(SystemClock())
                await events.record(tx, project="p", resource="r", type="t", data={}, resource_kind="k")
                await Outbox(SystemClock()).put(tx, "topic", {"n": 1})
                await Idempotency(SystemClock()).begin(tx, "p", "key", "route", b"hash")
            async with database.reading() as tx:
                await events.list(tx, "p")
                await tx.execute(text("SELECT ARRAY['a'], 1.5::numeric, now(), gen_random_uuid(), '[1,2)'::int4range"))
            arrived = asyncio.Event()
            async def deliver(message):
                arrived.set()
            wakes = Wakes()
            dispatcher = Dispatcher(database, SystemClock(), {"topic": deliver})
            listener = Listener(url, ["skerry_work"], wakes.notified, wakes.wake_all)
            tasks = [asyncio.create_task(Loop(dispatcher, wake=wakes.event("outbox")).run()),
                     asyncio.create_task(listener.run())]
            await asyncio.wait_for(arrived.wait(), 30)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            bad = Database("postgresql://nobody@/nowhere?host=/nonexistent")
            try:
                async with bad.transaction():
                    pass
            except Exception as error:
                assert type(error).__name__ == "DatabaseUnavailable", error
            await database.close()

        asyncio.run(main(sys.argv[1]))
    """)
    done = subprocess.run([sys.executable, "-c", program, database_url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "url", ["postgresql://a:b%40@h:1/d?sslmode=require", "postgresql+psycopg://a:b%40@h:1/d?sslmode=require"]
)
def test_both_ways_to_write_the_address_mean_the_same(url):
    assert libpq_url(url) == "postgresql://a:b%40@h:1/d?sslmode=require"
    assert sqlalchemy_url(url).drivername == "postgresql+psycopg"


def test_another_kind_of_database_is_refused():
    with pytest.raises(ValueError, match="postgresql://"):
        Database("sqlite:///x")


def test_options_of_the_address_are_kept():
    arguments = connect_arguments("postgresql://h/d?options=-csearch_path%3Dx", "me")
    assert arguments["options"] == "-csearch_path=x -c timezone=UTC"
