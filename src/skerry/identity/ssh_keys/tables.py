"""The table of SSH keys."""

from typing import Final

from sqlalchemy import Column, DateTime, ForeignKey, Index, Table, Text

from skerry.db.schema import metadata

ssh_keys: Final = Table(
    "ssh_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, ForeignKey("projects.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("blob", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("uq_ssh_keys_name", "project", "name", unique=True),
    Index("uq_ssh_keys_fingerprint", "project", "fingerprint", unique=True),
)
