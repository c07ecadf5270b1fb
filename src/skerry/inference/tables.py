"""Tables of inference: endpoints, the replicas that answer for them, and what gateways have for them to do."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
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
    Column("policy", Text, nullable=False, server_default="prefix_affinity"),
    Column("queue_seconds", Integer),
    Column("accelerators", Integer, nullable=False, server_default="0"),
    Column("sku", Text),
    # What the autoscaler decided last, and what it remembers.
    Column("wanted", Integer, nullable=False, server_default="1"),
    Column("scaling", JSONB),
    # Requests at once that what is wanted can take: more than that calls for a look.
    Column("takes", Integer, nullable=False, server_default="0"),
    Column("version", Integer, nullable=False, server_default="1"),
    Column("next_model", Text),
    Column("parked_at", DateTime(timezone=True)),
    Column("desired", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", JSONB, nullable=False),
    # Counts hints that something happened: one that comes while the row is leased is seen when the lease is given back.
    Column("hints", BigInteger, nullable=False, server_default="0"),
    # Counts wishes of people: what was decided before one of them is not written any more.
    Column("wishes", BigInteger, nullable=False, server_default="0"),
    Column("stop_code", Text),
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
    Column("model", Text),
    Column("version", Integer, nullable=False, server_default="1"),
    Column("upstream", Integer),
    Column("weight", Integer, nullable=False, server_default="100"),
    Column("slots", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", JSONB, nullable=False),
    Column("probe_failures", Integer, nullable=False, server_default="0"),
    Column("probed_at", DateTime(timezone=True)),
    Column("ready_at", DateTime(timezone=True)),
    Column("ready_attempt", Integer, nullable=False, server_default="0"),
    Column("draining_at", DateTime(timezone=True)),
    Column("completed_at", DateTime(timezone=True)),
    Column("in_flight", Integer),
    Column("cold_start_ms", Integer),
    Column("cold_start", JSONB),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Index("ix_replicas_endpoint", "endpoint", "id"),
    Index("ix_replicas_live", "endpoint", postgresql_where=text("ended_at IS NULL")),
)

# What gateways say they have now. Both tables are unlogged: after a crash of the database gateways say it again.
gateway_reports: Final = Table(
    "gateway_reports",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("reported_at", DateTime(timezone=True), nullable=False),
    prefixes=["UNLOGGED"],
)

demands: Final = Table(
    "demands",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("in_flight", Integer, nullable=False),
    Column("waiting", Integer, nullable=False),
    Column("batch_waiting", Integer, nullable=False),
    Column("longest_wait_seconds", Float, nullable=False),
    Column("requests_per_minute", Float, nullable=False),
    Column("tokens_per_second", Float, nullable=False),
    Column("first_token_ms", Float, nullable=False),
    Column("reported_at", DateTime(timezone=True), nullable=False),
    Index("ix_demands_endpoint", "endpoint"),
    prefixes=["UNLOGGED"],
)
