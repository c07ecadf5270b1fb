"""The table of files."""

from typing import Final

from sqlalchemy import BigInteger, Column, DateTime, Index, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from skerry.db.schema import metadata

files: Final = Table(
    "files",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("status", Text, nullable=False),
    # While it is on its way: what of the project's quota is set aside for it.
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False, server_default=""),
    Column("facts", JSONB, nullable=False, server_default="{}"),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    # Moves on while an upload is alive.
    Column("touched_at", DateTime(timezone=True), nullable=False),
    Column("metered_through", DateTime(timezone=True)),
    Column("deleted_at", DateTime(timezone=True)),
    # When the bytes of a deleted file were removed from the storage.
    Column("purged_at", DateTime(timezone=True)),
    Index("ix_files_project", "project", "created_at", "id"),
    Index("ix_files_live", "project", postgresql_where=text("deleted_at IS NULL")),
    Index("ix_files_expires", "expires_at", postgresql_where=text("deleted_at IS NULL")),
    Index("ix_files_metered", "metered_through", postgresql_where=text("deleted_at IS NULL")),
    Index("ix_files_uploading", "touched_at", postgresql_where=text("status = 'uploading'")),
    Index("ix_files_unpurged", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL AND purged_at IS NULL")),
)
