"""Tables of metering. Private: only the stores of this package read and write them."""

from typing import Final

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from skerry.db.schema import metadata

_TIME = DateTime(timezone=True)

usage_facts: Final = Table(
    "usage_facts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("t1", _TIME, primary_key=True),
    Column("t0", _TIME, nullable=False),
    Column("meter", Text, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("project", Text, nullable=False),
    Column("resource", Text, nullable=False),
    Column("dims", Uuid, nullable=False),
    Index("ix_usage_facts_t1", "t1", postgresql_using="brin", postgresql_with={"pages_per_range": 32}),
    postgresql_partition_by="RANGE (t1)",
)
"""By day of `t1`. Append-only."""

usage_fact_ids: Final = Table(
    "usage_fact_ids",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("t1", _TIME, nullable=False),
    Index("ix_usage_fact_ids_t1", "t1", postgresql_using="brin", postgresql_with={"pages_per_range": 32}),
)
"""A unique key of a partitioned table must contain `t1`, so it cannot see an id that comes again with another one."""

usage_dims: Final = Table(
    "usage_dims",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("dims", JSONB, nullable=False),
)

usage_rejected: Final = Table(
    "usage_rejected",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("t1", _TIME, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("t0", _TIME, nullable=False),
    Column("meter", Text, nullable=False),
    Column("quantity", Numeric, nullable=False),
    Column("project", Text, nullable=False),
    Column("resource", Text, nullable=False),
    Column("dims", JSONB, nullable=False),
    Column("received_at", _TIME, nullable=False),
)

usage_dirty: Final = Table(
    "usage_dirty",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("project", Text, nullable=False),
    Column("hour", _TIME, nullable=False),
)
"""Marks of hours to recompute. Written with the facts, deleted by the roller that read them, never updated."""

usage_rollups: Final = Table(
    "usage_rollups",
    metadata,
    Column("project", Text, primary_key=True),
    Column("meter", Text, primary_key=True),
    Column("resource", Text, primary_key=True),
    Column("dims", Uuid, primary_key=True),
    Column("hour", _TIME, primary_key=True),
    Column("quantity", Numeric, nullable=False),
    postgresql_partition_by="RANGE (hour)",
)
"""By month of `hour`. A sum of 64-bit quantities can be wider than 64 bits."""

journal_positions: Final = Table(
    "journal_positions",
    metadata,
    Column("journal", Text, primary_key=True),
    Column("segment", BigInteger, nullable=False),
    Column("byte_offset", BigInteger, nullable=False),
    Column("watermark", _TIME),
    Column("updated_at", _TIME, nullable=False),
)
