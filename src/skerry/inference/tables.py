"""Tables of inference: endpoints, and the replicas that answer for them."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from skerry.db.claim import lease_columns
from skerry.db.schema import metadata

endpoints: Final = Table(
    "endpoints",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("capacity_class", Text, nullable=False),
    Column("charge_by", Text, nullable=False),
    Column("min_replicas", Integer, nullable=False),
    Column("max_replicas", Integer, nullable=False),
    Column("target_concurrency", Integer),
    Column("idle_timeout_seconds", Integer),
    Column("desired", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", JSONB, nullable=False),
    # Counts hints that something happened: one that comes while the row is leased is seen when the lease is given back.
    Column("hints", BigInteger, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    # NULL: nothing is left to do, as after the end.
    Column("due_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("removed_at", DateTime(timezone=True)),
    *lease_columns(),
    # A name is free again once its endpoint was removed.
    Index("uq_endpoints_name", "name", unique=True, postgresql_where=text("removed_at IS NULL")),
    Index("ix_endpoints_project", "project", "id"),
    Index("ix_endpoints_model", "model"),
    Index("ix_endpoints_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
)

replicas: Final = Table(
    "replicas",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("endpoint", Text, ForeignKey("endpoints.id"), nullable=False),
    Column("workload", Text),
    Column("attempt", Text),
    Column("node", Text),
    Column("site", Text),
    Column("base_url", Text),
    Column("sealed_key", Text),
    Column("slots", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", JSONB, nullable=False),
    Column("probe_failures", Integer, nullable=False, server_default="0"),
    Column("probed_at", DateTime(timezone=True)),
    Column("ready_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Index("ix_replicas_endpoint", "endpoint", "id"),
    Index("ix_replicas_live", "endpoint", postgresql_where=text("ended_at IS NULL")),
)
