"""Tables of the fleet. They belong to no project: the fleet is the operator's."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, DateTime, ForeignKey, Index, Integer, Numeric, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from skerry.db.schema import metadata

sites: Final = Table(
    "sites",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("country", Text),
    Column("grid_zone", Text),
    Column("pue", Numeric),
    Column("power_cap_kw", Numeric),
    Column("energy_price", Numeric),
    Column("energy_currency", Text),
    Column("carbon_source", Text),
    Column("carbon", JSONB(none_as_null=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

halls: Final = Table(
    "halls",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("site_id", Text, ForeignKey("sites.id"), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

leaves: Final = Table(
    "leaves",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("hall_id", Text, ForeignKey("halls.id"), nullable=False),
    Column("fabric", Text),
    Column("spares", Integer, nullable=False, server_default="0"),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

skus: Final = Table(
    "skus",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("accelerator", Text, nullable=False),
    Column("accelerators_per_node", Integer, nullable=False),
    Column("cpu", Integer, nullable=False),
    Column("memory", BigInteger, nullable=False),
    Column("nvlink", Boolean, nullable=False),
    Column("tdp_w", Integer),
    Column("idle_w", Integer),
    Column("on_demand_nodes", Integer),
    Column("accelerator_memory", BigInteger),
    Column("sources", JSONB, nullable=False, server_default="{}"),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

deliveries: Final = Table(
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("site_id", Text, ForeignKey("sites.id"), nullable=False),
    Column("sku_id", Text, ForeignKey("skus.id"), nullable=False),
    Column("confidence", Numeric, nullable=False),
    Column("service_at", DateTime(timezone=True), nullable=False),
    Column("milestones", JSONB, nullable=False, server_default="{}"),
    Column("accepted_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)

delivery_leaves: Final = Table(
    "delivery_leaves",
    metadata,
    Column("delivery_id", Text, ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True),
    Column("leaf_id", Text, ForeignKey("leaves.id"), primary_key=True),
    Column("nodes", Integer, nullable=False),
    Index("ix_delivery_leaves_leaf_id", "leaf_id"),
)

maintenance: Final = Table(
    "maintenance",
    metadata,
    Column("id", Text, primary_key=True),
    Column("leaf_id", Text, ForeignKey("leaves.id"), nullable=False),
    Column("sku_id", Text, ForeignKey("skus.id"), nullable=False),
    Column("nodes", Integer, nullable=False),
    Column("start_at", DateTime(timezone=True), nullable=False),
    Column("end_at", DateTime(timezone=True), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("ix_maintenance_leaf_id", "leaf_id", "end_at"),
)

nodes: Final = Table(
    "nodes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hostname", Text, nullable=False, unique=True),
    Column("sku_id", Text, ForeignKey("skus.id"), nullable=False),
    Column("leaf_id", Text, ForeignKey("leaves.id"), nullable=False),
    Column("accelerators", JSONB, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", JSONB),
    Column("health", JSONB, nullable=False, server_default="{}"),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("until", DateTime(timezone=True)),
    Column("maintenance_id", Text, ForeignKey("maintenance.id", ondelete="SET NULL")),
    Column("delivery_id", Text, ForeignKey("deliveries.id", ondelete="SET NULL")),
    Index("ix_nodes_leaf_id", "leaf_id"),
    Index("ix_nodes_until", "until", postgresql_where=text("until IS NOT NULL")),
    Index("ix_nodes_delivery_id", "delivery_id", postgresql_where=text("delivery_id IS NOT NULL")),
    Index("ix_nodes_maintenance_id", "maintenance_id", postgresql_where=text("maintenance_id IS NOT NULL")),
)
"""`until`: when a node that was taken out counts again. `maintenance_id`: the window it was taken out for."""

node_checks: Final = Table(
    "node_checks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("node_id", Text, ForeignKey("nodes.id", ondelete="CASCADE"), nullable=False),
    Column("check", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("ok", Boolean, nullable=False),
    Column("detail", Text, nullable=False, server_default=""),
    Index("ix_node_checks_node_id", "node_id", "id"),
)
