"""The table of instances and clusters."""

from typing import Final

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, Numeric, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from skerry.db.claim import lease_columns
from skerry.db.schema import metadata

instances: Final = Table(
    "instances",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("sku", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("accelerators", Integer, nullable=False),
    Column("nodes", Integer, nullable=False),
    Column("scope", Text, nullable=False),
    Column("capacity_class", Text, nullable=False),
    Column("charge_by", Text, nullable=False),
    Column("reservation", Text),
    Column("image", Text),
    Column("template", Text),
    Column("fingerprints", ARRAY(Text), nullable=False),
    Column("host_key", Text, nullable=False),
    Column("workload", Text, nullable=False),
    Column("home", Text),
    Column("max_duration_seconds", Integer),
    Column("max_cost", Numeric),
    Column("tags", JSONB, nullable=False),
    Column("wish", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", JSONB, nullable=False),
    # How far the workload's timeline has been told on.
    Column("heard", Text),
    # Counts hints that something happened: one that comes while the row is leased is seen when the lease is given back.
    Column("hints", BigInteger, nullable=False, server_default="0"),
    # NULL: nothing is left to do.
    Column("due_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("running_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    *lease_columns(),
    # One name over instances and clusters: `skerry ssh NAME` means one of them. Free again after the end.
    Index("uq_instances_name", "project", "name", unique=True, postgresql_where=text("ended_at IS NULL")),
    Index("ix_instances_project", "project", "kind", "id"),
    Index("ix_instances_workload", "workload"),
    Index("ix_instances_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
)
