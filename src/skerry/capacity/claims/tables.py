"""The table of claims: one row is one node, or a part of one, for a time."""

from typing import Final

from sqlalchemy import Boolean, Column, DateTime, Index, Table, Text, func, text
from sqlalchemy.dialects.postgresql import INT4RANGE, TSTZRANGE, ExcludeConstraint

from skerry.db.schema import metadata

capacity_claims: Final = Table(
    "capacity_claims",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("holder_kind", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("capacity_class", Text, nullable=False),
    Column("reservation", Text),
    Column("leg", Text),
    Column("leaf", Text, nullable=False),
    Column("sku", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("accelerators", INT4RANGE, nullable=False),
    Column("level", INT4RANGE, nullable=False),
    Column("during", TSTZRANGE, nullable=False),
    Column("pool", Boolean, nullable=False, server_default="false"),
    # Ended before it began: it never held anything.
    Column("void", Boolean, nullable=False, server_default="false"),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("delivered_at", DateTime(timezone=True)),
    Column("reclaim_at", DateTime(timezone=True)),
    Column("released_at", DateTime(timezone=True)),
    ExcludeConstraint(
        ("node", "="),
        ("level", "&&"),
        ("accelerators", "&&"),
        ("during", "&&"),
        name="ex_capacity_claims_node",
        where=text("NOT void"),
    ),
    Index("ix_capacity_claims_holder", "holder"),
    Index("ix_capacity_claims_reservation", "reservation", postgresql_where=text("reservation IS NOT NULL")),
    Index(
        "ix_capacity_claims_reclaim",
        "reclaim_at",
        postgresql_where=text("reclaim_at IS NOT NULL AND released_at IS NULL AND NOT void"),
    ),
)

Index(
    "ix_capacity_claims_leaf",
    capacity_claims.c.leaf,
    capacity_claims.c.sku,
    func.upper(capacity_claims.c.during),
    postgresql_where=text("NOT void"),
)
