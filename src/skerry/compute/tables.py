"""Tables of compute."""

from typing import Final

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from skerry.db.claim import lease_columns
from skerry.db.schema import metadata

workloads: Final = Table(
    "workloads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("resource", Text, nullable=False),
    Column("spec", JSONB, nullable=False),
    Column("files", Text),
    Column("status", Text, nullable=False),
    Column("status_reason", JSONB, nullable=False),
    Column("desired", Text, nullable=False),
    Column("stop_reason", Text),
    Column("outcome", Text),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("restarts", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("due_at", DateTime(timezone=True), nullable=False),
    # Counts hints that something happened: one that comes while the row is leased is seen when the lease is given back.
    Column("hints", BigInteger, nullable=False, server_default="0"),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    *lease_columns(),
    Index("ix_workloads_project", "project", "id"),
    Index("ix_workloads_resource", "project", "resource"),
    Index("ix_workloads_due", "due_at", postgresql_where=text("status <> 'ended'")),
)

attempts: Final = Table(
    "attempts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("workload_id", Text, ForeignKey("workloads.id"), nullable=False),
    Column("n", Integer, nullable=False),
    Column("engine", Text, nullable=False),
    Column("engine_ref", Text),
    Column("nodes", ARRAY(Text), nullable=False),
    Column("accelerators", Integer, nullable=False),
    Column("devices", ARRAY(Integer), nullable=False),
    Column("site", Text),
    Column("sku", Text),
    Column("generation", Integer, nullable=False, server_default="1"),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("submitted_at", DateTime(timezone=True)),
    Column("started_at", DateTime(timezone=True)),
    Column("ready_at", DateTime(timezone=True)),
    Column("seen_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    Column("outcome", Text),
    Column("exit_code", Integer),
    Column("message", Text, nullable=False, server_default=""),
    Column("report", JSONB),
    Column("metered_through", DateTime(timezone=True)),
    Index("uq_attempts_n", "workload_id", "n", unique=True),
    # A workload runs once at a time, whatever controllers do.
    Index("uq_attempts_open", "workload_id", unique=True, postgresql_where=text("ended_at IS NULL")),
    Index("ix_attempts_open_nodes", "nodes", postgresql_using="gin", postgresql_where=text("ended_at IS NULL")),
)
