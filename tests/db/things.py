"""A table with leases, for tests of what works on any table."""

from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, Table, Text, text

from skerry.db.claim import lease_columns
from skerry.db.database import Database

metadata = MetaData()

things = Table(
    "things",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False, server_default="prj_1"),
    Column("status", Text, nullable=False, server_default="new"),
    Column("done", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("due_at", DateTime(timezone=True), nullable=False, server_default=text("'2000-01-01T00:00:00Z'")),
    Column("stamp", BigInteger),
    *lease_columns(),
)


async def make_things(database: Database, count: int) -> list[str]:
    ids = [f"thing_{number:04}" for number in range(count)]
    async with database.transaction() as tx:
        await tx.run_sync(metadata.create_all)
        if ids:
            await tx.execute(things.insert(), [{"id": id} for id in ids])
    return ids
