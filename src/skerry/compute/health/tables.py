"""Tables of the health of nodes. They belong to the operator's own project."""

from typing import Final

from sqlalchemy import Column, DateTime, Index, Integer, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB

from skerry.db.schema import metadata

node_signals: Final = Table(
    "node_signals",
    metadata,
    Column("id", Text, primary_key=True),
    Column("node", Text, nullable=False),
    Column("hostname", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("hour", DateTime(timezone=True), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("last_at", DateTime(timezone=True), nullable=False),
    Column("times", Integer, nullable=False, server_default="1"),
    UniqueConstraint("node", "kind", "code", "hour", name="uq_node_signals_hour"),
    Index("ix_node_signals_last", "last_at"),
)

remediations: Final = Table(
    "remediations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("hostname", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", JSONB, nullable=False),
    Column("action", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("signal", Text, nullable=False),
    Column("decided_by", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Index("uq_remediations_open", "node", unique=True, postgresql_where=text("ended_at IS NULL")),
)

node_probes: Final = Table(
    "node_probes",
    metadata,
    Column("workload", Text, primary_key=True),
    Column("node", Text, nullable=False),
    Column("hostname", Text, nullable=False),
    Column("check", Text, nullable=False),
    Column("peer", Text),
    Column("remediation", Text),
    Column("outcome", Text),
    Column("detail", Text, nullable=False, server_default=""),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Index("uq_node_probes_open", "node", unique=True, postgresql_where=text("ended_at IS NULL")),
    Index("ix_node_probes_node", "node", "created_at"),
)
