"""Tables of compute."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, DateTime, ForeignKey, Index, Integer, Table, Text, text
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
    Column("priority", Integer, nullable=False, server_default="0"),
    # Since when it has waited for its turn: through preemptions and restarts it keeps its place.
    Column("queued_at", DateTime(timezone=True)),
    Column("estimated_start", DateTime(timezone=True)),
    # It has ended, and all that it cost is booked on the accounts that bear it.
    Column("booked", Boolean, nullable=False, server_default="false"),
    *lease_columns(),
    Index("ix_workloads_project", "project", "id"),
    Index("ix_workloads_resource", "project", "resource"),
    Index("ix_workloads_unbooked", "id", postgresql_where=text("NOT booked")),
    Index("ix_workloads_pending", "queued_at", postgresql_where=text("status = 'pending'")),
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
    Column("reports", JSONB),
    Column("died_on", Text),
    Column("waited_seconds", BigInteger, nullable=False, server_default="0"),
    Column("egress_bytes", BigInteger, nullable=False, server_default="0"),
    Column("egress_counters", ARRAY(BigInteger), nullable=False, server_default="{}"),
    Column("egress_metered", BigInteger, nullable=False, server_default="0"),
    # Of what its owner was warned, by name: each once.
    Column("warned", ARRAY(Text), nullable=False, server_default="{}"),
    Column("metered_through", DateTime(timezone=True)),
    Index("uq_attempts_n", "workload_id", "n", unique=True),
    # A workload runs once at a time, whatever controllers do.
    Index("uq_attempts_open", "workload_id", unique=True, postgresql_where=text("ended_at IS NULL")),
    Index("ix_attempts_open_nodes", "nodes", postgresql_using="gin", postgresql_where=text("ended_at IS NULL")),
)

attempt_exclusions: Final = Table(
    "attempt_exclusions",
    metadata,
    Column("attempt_id", Text, ForeignKey("attempts.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("start_at", DateTime(timezone=True), nullable=False),
    Column("end_at", DateTime(timezone=True), nullable=False),
    # Accelerator-seconds.
    Column("quantity", BigInteger, nullable=False),
)
"""Stretches of attempts that are not charged. Those of one attempt do not overlap."""
