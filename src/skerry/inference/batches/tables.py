"""Tables of batches: the batches, and what became of their rows until that is in files."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from skerry.db.claim import lease_columns
from skerry.db.schema import metadata

OPEN: Final = "status IN ('validating', 'in_progress', 'finalizing', 'cancelling')"

batches: Final = Table(
    "batches",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("input_file", Text, nullable=False),
    Column("completion_window", Text, nullable=False),
    Column("metadata", JSONB, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", JSONB, nullable=False),
    # NULL: nothing is wrong with the input file.
    Column("errors", JSONB(none_as_null=True)),
    Column("total", Integer, nullable=False, server_default="0"),
    Column("completed", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0"),
    Column("tokens_prompt", BigInteger, nullable=False, server_default="0"),
    Column("tokens_cached", BigInteger, nullable=False, server_default="0"),
    Column("tokens_completion", BigInteger, nullable=False, server_default="0"),
    Column("cost", Numeric, nullable=False, server_default="0"),
    Column("output_file", Text),
    Column("error_file", Text),
    Column("failures", Integer, nullable=False, server_default="0"),
    # When to look at it next.
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("in_progress_at", DateTime(timezone=True)),
    Column("finalizing_at", DateTime(timezone=True)),
    Column("completed_at", DateTime(timezone=True)),
    Column("failed_at", DateTime(timezone=True)),
    Column("expired_at", DateTime(timezone=True)),
    Column("cancelling_at", DateTime(timezone=True)),
    Column("cancelled_at", DateTime(timezone=True)),
    *lease_columns(),
    Index("ix_batches_project", "project", "id"),
    Index("ix_batches_due", "due_at", postgresql_where=text(OPEN)),
)

batch_rows: Final = Table(
    "batch_rows",
    metadata,
    Column("batch", Text, ForeignKey("batches.id"), primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("project", Text, nullable=False),
    Column("ok", Boolean, nullable=False),
    # Its line of the output or the error file.
    Column("content", LargeBinary, nullable=False),
)
