"""Tables of volumes."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, DateTime, ForeignKey, Index, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from skerry.db.claim import lease_columns
from skerry.db.schema import metadata

volumes: Final = Table(
    "volumes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("tier", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", JSONB, nullable=False),
    Column("metered_through", DateTime(timezone=True)),
    Column("used_at", DateTime(timezone=True)),
    Column("deleted_at", DateTime(timezone=True)),
    Column("wipe", JSONB),
    # NULL: nothing is left to do.
    Column("due_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    *lease_columns(),
    # A name is free again once its volume was deleted.
    Index("uq_volumes_name", "project", "name", unique=True, postgresql_where=text("deleted_at IS NULL")),
    Index("ix_volumes_project", "project", "id"),
    Index("ix_volumes_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
)

attachments: Final = Table(
    "volume_attachments",
    metadata,
    Column("volume", Text, ForeignKey("volumes.id"), primary_key=True),
    Column("holder", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("holder_kind", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("read_only", Boolean, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("ix_volume_attachments_holder", "project", "holder"),
)
