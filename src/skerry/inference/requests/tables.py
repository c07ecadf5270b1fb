"""Tables of the request log. Private: only the store of this package reads and writes them."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Index, LargeBinary, SmallInteger, Table, Text, Uuid

from skerry.db.schema import metadata

_TIME = DateTime(timezone=True)
_ID = Text(collation="C")
"""Compared byte by byte: cheaper to index, and the order of ids is that of time anyway."""

request_log: Final = Table(
    "request_log",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("ended_at", _TIME, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("prompt", BigInteger, nullable=False),
    Column("cached", BigInteger, nullable=False),
    Column("completion", BigInteger, nullable=False),
    Column("egress_bytes", BigInteger, nullable=False),
    Column("queue_us", BigInteger, nullable=False),
    Column("first_us", BigInteger, nullable=False),
    Column("total_us", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    Column("project", _ID, nullable=False),
    Column("key", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("replica", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("batch", Text, nullable=False),
    Column("counted", Text, nullable=False),
    postgresql_partition_by="RANGE (ended_at)",
)
# Not unique: the intake lets a record in once, and the index must never hold up usage.
Index("ix_request_log_project", request_log.c.project, request_log.c.id)

request_content: Final = Table(
    "request_content",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("at", _TIME, nullable=False),
    Column("project", _ID, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    postgresql_partition_by="RANGE (at)",
)
Index("ix_request_content_project", request_content.c.project, request_content.c.id)
