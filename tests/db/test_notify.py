import asyncio
from contextlib import asynccontextmanager

import psycopg
import pytest

from skerry.db.notify import Listener, notify
from tests.waiting import eventually


@asynccontextmanager
async def listening(url, channels):
    heard, connected = [], []
    listener = Listener(url, channels, lambda *hint: heard.append(hint), lambda: connected.append(True))
    task = asyncio.create_task(listener.run())
    try:
        await eventually(lambda: connected)
        yield heard, connected
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_hints_arrive_after_the_commit_and_once(database):
    async with listening(database.url, ["skerry_keys", "skerry_work"]) as (heard, _):
        async with database.transaction() as tx:
            await notify(tx, "skerry_keys", "one")
            await notify(tx, "skerry_keys", "one")
            await notify(tx, "skerry_prices", "not ours")
            assert heard == []
        async with database.transaction() as tx:
            await notify(tx, "skerry_work")
        await eventually(lambda: len(heard) == 2)
        assert heard == [("skerry_keys", "one"), ("skerry_work", "")]


async def test_a_transaction_that_fails_tells_nobody(database):
    async with listening(database.url, ["skerry_keys"]) as (heard, _):
        with pytest.raises(ZeroDivisionError):
            async with database.transaction() as tx:
                await notify(tx, "skerry_keys", "lost")
                raise ZeroDivisionError
        async with database.transaction() as tx:
            await notify(tx, "skerry_keys", "kept")
        await eventually(lambda: heard)
        assert heard == [("skerry_keys", "kept")]


async def test_a_lost_connection_is_made_again_and_said(database, database_url):
    async with listening(database.url, ["skerry_keys"]) as (heard, connected):
        with psycopg.connect(database_url, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'skerry-listener' AND datname = current_database()"
            )
        await eventually(lambda: len(connected) == 2)
        async with database.transaction() as tx:
            await notify(tx, "skerry_keys", "back")
        await eventually(lambda: heard == [("skerry_keys", "back")])
