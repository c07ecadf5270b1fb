"""Tables of the runtime: the event timeline, the outbox, idempotency keys."""

from typing import Final

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, LargeBinary, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from skerry.db.claim import lease_columns
from skerry.db.schema import metadata

events: Final = Table(
    "events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", DateTime(timezone=True), primary_key=True),
    Column("project", Text, nullable=False),
    Column("resource_kind", Text, nullable=False),
    Column("resource", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    # The transaction that wrote it: whoever follows reads only below the oldest one still open, and so misses none.
    Column("tx", BigInteger, nullable=False, server_default=text("(pg_current_xact_id())::text::bigint")),
    Column("seq", BigInteger, nullable=False, server_default=text("nextval('events_seq')")),
    Index("ix_events_project_at", "project", "at", "seq"),
    Index("ix_events_resource_at", "project", "resource", "at", "seq"),
    Index("ix_events_project_tx", "project", "tx", "seq"),
    postgresql_partition_by="RANGE (at)",
)

outbox: Final = Table(
    "outbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("topic", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    Column("dead_at", DateTime(timezone=True)),
    *lease_columns(),
    Index("ix_outbox_due", "topic", "due_at", postgresql_where=text("dead_at IS NULL")),
)

idempotency_keys: Final = Table(
    "idempotency_keys",
    metadata,
    Column("project", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("route", Text, nullable=False),
    Column("body_hash", LargeBinary, nullable=False),
    Column("status", Integer),
    Column("body", JSONB(none_as_null=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("ix_idempotency_keys_created_at", "created_at"),
)
