"""Tables of the fleet. They belong to no project: the fleet is the operator's."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, DateTime, ForeignKey, Index, Integer, Numeric, Table, Text
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
    Column("created_at", DateTime(timezone=True), nullable=False),
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
    Index("ix_nodes_leaf_id", "leaf_id"),
)
