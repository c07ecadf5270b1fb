"""Tables of the catalogue."""

from typing import Final

from sqlalchemy import Boolean, Column, DateTime, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from skerry.db.claim import lease_columns
from skerry.db.schema import metadata

models: Final = Table(
    "models",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("engine", Text, nullable=False),
    Column("source_kind", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("upstream_model", Text),
    Column("upstream_key", Text),
    Column("upstreams", JSONB, nullable=False, server_default="[]"),
    Column("context_length", Integer, nullable=False),
    Column("license", Text),
    Column("facts", JSONB, nullable=False, server_default="{}"),
    Column("shared", Boolean, nullable=False),
    Column("builtin", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("removed_at", DateTime(timezone=True)),
    Column("fetch_state", Text),
    Column("download", JSONB, nullable=False, server_default="{}"),
    Column("due_at", DateTime(timezone=True)),
    *lease_columns(),
    # A name is free again once its model was removed.
    Index("uq_models_name", "name", unique=True, postgresql_where=text("removed_at IS NULL")),
    Index("ix_models_project", "project"),
    Index("ix_models_fetch", "id", postgresql_where=text("fetch_state IS NOT NULL AND fetch_state <> 'gone'")),
)
