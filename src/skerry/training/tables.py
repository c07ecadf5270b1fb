"""Tables of training: jobs, what their supervisors said last, and what they measured."""

from typing import Final

from sqlalchemy import BigInteger, Column, DateTime, Double, ForeignKey, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from skerry.db.claim import lease_columns
from skerry.db.schema import metadata

jobs: Final = Table(
    "training_jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("spec", JSONB, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", JSONB, nullable=False),
    Column("wish", Text, nullable=False),
    Column("workload_id", Text, nullable=False),
    Column("restarts", Integer, nullable=False, server_default="0"),
    Column("last_restart", JSONB(none_as_null=True)),
    Column("exit_code", Integer),
    # When to look at it next; NULL: when its workload changes.
    Column("due_at", DateTime(timezone=True)),
    # Counts hints that something happened: one that comes while the row is leased is seen when the lease is given back.
    Column("hints", BigInteger, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("started_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    *lease_columns(),
    Index("ix_training_jobs_project", "project", "id"),
    Index("uq_training_jobs_workload", "workload_id", unique=True),
    Index("ix_training_jobs_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
)

attempts: Final = Table(
    "training_attempts",
    metadata,
    Column("attempt", Text, primary_key=True),
    Column("job", Text, ForeignKey("training_jobs.id"), nullable=False),
    Column("project", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("phase", Text, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("checkpoint_step", BigInteger),
    Column("checkpoint_at", DateTime(timezone=True)),
    Column("restarts", Integer, nullable=False),
    Column("last_restart", JSONB(none_as_null=True)),
    Column("productive_ms", BigInteger, nullable=False),
    Column("losses_ms", JSONB, nullable=False),
    Column("stragglers", JSONB, nullable=False),
    Column("ending", JSONB(none_as_null=True)),
    # Accelerator-seconds that are not charged.
    Column("excluded", BigInteger, nullable=False),
    Column("reported_at", DateTime(timezone=True), nullable=False),
    Index("ix_training_attempts_job", "job"),
)

series: Final = Table(
    "training_series",
    metadata,
    Column("job", Text, ForeignKey("training_jobs.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("project", Text, nullable=False),
    # How many points came, and how many of them are kept: every stride-th.
    Column("seen", BigInteger, nullable=False),
    Column("points", Integer, nullable=False),
    Column("stride", BigInteger, nullable=False),
    Column("latest_step", BigInteger, nullable=False),
    Column("latest_at", DateTime(timezone=True), nullable=False),
    Column("latest_value", Double, nullable=False),
)

points: Final = Table(
    "training_points",
    metadata,
    Column("job", Text, ForeignKey("training_jobs.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("project", Text, nullable=False),
    # Its place in the series, from 0.
    Column("n", BigInteger, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("value", Double, nullable=False),
)
