"""The shipper with the real intake, ledger and database."""

import asyncio
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url, text

from skerry.billing.model import Grant
from skerry.billing.service import Billing, KeyBudgets
from skerry.db.database import Database
from skerry.identity.service import Identity
from skerry.kernel.clock import FakeClock
from skerry.metering.journal_intake import JournalIntake
from skerry.metering.service import Metering
from skerry.metering.shipper import Shipper
from skerry.runtime.events import EventLog
from skerry.runtime.journal.records import Record
from skerry.runtime.secrets import Keyring
from tests.shipper.journals import journal, record, ship_to_the_end, write
from tests.waiting import eventually


@pytest.fixture
async def billing(database: Database, clock: FakeClock) -> Billing:
    keyring, events = Keyring([("k1", b"a secret of the tests")]), EventLog(clock)
    identity = Identity(database, clock, keyring, events, budgets=KeyBudgets(clock))
    await identity.bootstrap()
    billing = Billing(database, clock, events, identity, Metering(database, clock, names=identity), homes=identity)
    await billing.bootstrap("USD")
    return billing


@pytest.fixture
def intake(billing: Billing, database: Database, clock: FakeClock) -> JournalIntake:
    return JournalIntake(database, clock, Metering(database, clock), billing.balances)


async def _stored(database: Database) -> list[UUID]:
    """The ids of all answers' `requests` facts."""
    async with database.reading() as tx:
        return list(
            (await tx.execute(text("SELECT id FROM usage_facts WHERE meter = 'requests' ORDER BY id"))).scalars()
        )


def _ids(records: list[Record]) -> list[UUID]:
    return sorted(UUID(bytes=one.id) for one in records)  # type: ignore[union-attr]


async def _lease(billing: Billing, name: str) -> Grant:
    async with billing.db.transaction() as tx:
        ((account, *_), *_) = (await billing.balances.accounts(tx)).by_organization.values()
        lease = await billing.balances.acquire_lease(tx, account.id, name, 1, 1000, timedelta(seconds=60))
    assert isinstance(lease, Grant)
    return lease


async def _state(database: Database, lease: Grant) -> tuple[str, int]:
    async with database.reading() as tx:
        row = (
            await tx.execute(text("SELECT state, spent_nano FROM balance_leases WHERE id = :id"), {"id": lease.lease})
        ).one()
    return row.state, row.spent_nano


async def test_a_gateway_that_dies_has_all_stored_once_and_its_leases_closed(
    tmp_path: Path, billing: Billing, intake: JournalIntake, database: Database
) -> None:
    async with database.transaction() as tx:
        org = (await tx.execute(text("SELECT id FROM organizations ORDER BY id LIMIT 1"))).scalar_one()
        await billing.balances.ensure_credit_limit(tx, org)
    lease = await _lease(billing, "gw_1")
    writer = journal(tmp_path)
    written: list[Record] = [record(number, leases=(lease.lease,), cost_nano=3) for number in range(60)]
    for one in written:
        writer.append(one)
    shipper = Shipper(tmp_path, intake)
    await ship_to_the_end(shipper)
    assert await _state(database, lease) == ("open", 180)
    writer.close()
    await ship_to_the_end(shipper)
    assert await _state(database, lease) == ("closed", 180)
    assert await _stored(database) == _ids(written) and list(tmp_path.iterdir()) == []


async def test_two_shippers_share_a_folder(tmp_path: Path, intake: JournalIntake, database: Database) -> None:
    writer, stopping = journal(tmp_path), asyncio.Event()
    running = [asyncio.create_task(Shipper(tmp_path, intake).run(stopping)) for _ in range(2)]
    written: list[Record] = []
    for _ in range(12):
        written += write(writer, len(written), 20)
        await asyncio.sleep(0.02)
    writer.close()
    await eventually(lambda: not list(tmp_path.iterdir()))
    stopping.set()
    await asyncio.gather(*running)
    assert await _stored(database) == _ids(written)


async def test_cut_off_in_the_middle_of_a_batch_nothing_is_lost_or_doubled(
    tmp_path: Path, intake: JournalIntake, database: Database
) -> None:
    """As `kill -9` of the shipper does: the transaction is rolled back, or it was committed."""
    writer = journal(tmp_path)
    written = write(writer, 0, 200)
    for turn in range(12):
        task = asyncio.create_task(ship_to_the_end(Shipper(tmp_path, intake)))
        await asyncio.sleep(0.004 * turn)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    writer.close()
    await ship_to_the_end(Shipper(tmp_path, intake))
    assert await _stored(database) == _ids(written)


async def test_the_database_is_away_and_comes_back(
    tmp_path: Path, intake: JournalIntake, database: Database, server_url: str, database_url: str
) -> None:
    name = sql.Identifier(make_url(database_url).database or "")
    writer, stopping = journal(tmp_path), asyncio.Event()
    shipper = Shipper(tmp_path, intake)
    running = asyncio.create_task(shipper.run(stopping))
    written = write(writer, 0, 20)
    await eventually(lambda: shipper.shipped == 20)
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [make_url(database_url).database],
        )
        written += write(writer, 20, 20)
        await eventually(lambda: shipper.behind_seconds > 0.5)
        assert not running.done() and shipper.shipped == 20
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    await eventually(lambda: shipper.shipped == 40)
    stopping.set()
    await running
    writer.close()
    assert await _stored(database) == _ids(written)
