"""Tables of identity. Private: only the stores of this package read and write them."""

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
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from skerry.db.schema import metadata

_TIME = DateTime(timezone=True)

organizations: Final = Table(
    "organizations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", _TIME, nullable=False),
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", BigInteger),
    Column("concurrent_requests", Integer),
    Column("tier", Text, nullable=False, server_default="standard"),
)

projects: Final = Table(
    "projects",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("trusted", Boolean, nullable=False),
    Column("jurisdictions", JSONB, nullable=False),
    Column("home", Boolean, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", BigInteger),
    Column("concurrent_requests", Integer),
    Column("log_content", Boolean, nullable=False, server_default=text("false")),
    UniqueConstraint("organization_id", "name"),
)
Index("ix_projects_home", projects.c.organization_id, unique=True, postgresql_where=text("home"))

users: Final = Table(
    "users",
    metadata,
    Column("id", Text, primary_key=True),
    Column("email", Text, nullable=False, unique=True),
    Column("created_at", _TIME, nullable=False),
)

members: Final = Table(
    "members",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("user_id", Text, ForeignKey("users.id"), nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", _TIME, nullable=False),
    UniqueConstraint("organization_id", "user_id"),
)

service_accounts: Final = Table(
    "service_accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("deleted_at", _TIME),
)
Index(
    "ix_service_accounts_live_name",
    service_accounts.c.project_id,
    service_accounts.c.name,
    unique=True,
    postgresql_where=text("deleted_at IS NULL"),
)

key_seq: Final = Sequence("api_keys_seq", metadata=metadata)
"""Drawn only under the lock of `KeyStore.next_seq`, so that its order is the order of commits."""

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("service_account_id", Text, ForeignKey("service_accounts.id")),
    Column("name", Text, nullable=False),
    Column("scopes", JSONB, nullable=False),
    Column("models", JSONB(none_as_null=True)),
    Column("expires_at", _TIME),
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", BigInteger),
    Column("budget_nano", BigInteger),
    Column("budget_currency", Text),
    Column("concurrent_requests", Integer),
    Column("created_at", _TIME, nullable=False),
    Column("created_by", Text),
    Column("rotated_at", _TIME),
    Column("revoked_at", _TIME),
    Column("seq", BigInteger, nullable=False),
)
Index("ix_api_keys_seq", api_keys.c.seq)
Index("ix_api_keys_project", api_keys.c.project_id, api_keys.c.id)

api_key_secrets: Final = Table(
    "api_key_secrets",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("key_id", Text, ForeignKey("api_keys.id"), nullable=False),
    Column("last4", Text, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("retires_at", _TIME),
)
Index("ix_api_key_secrets_key", api_key_secrets.c.key_id)

audit_heads: Final = Table(
    "audit_heads",
    metadata,
    Column("organization_id", Text, ForeignKey("organizations.id"), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

audit_events: Final = Table(
    "audit_events",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("at", _TIME, primary_key=True),
    Column("id", Text, nullable=False),
    Column("project_id", Text),
    Column("key_id", Text),
    Column("key_name", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("resource", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("detail", JSONB, nullable=False),
    Column("prev_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    postgresql_partition_by="RANGE (at)",
)
Index("ix_audit_events_resource", audit_events.c.organization_id, audit_events.c.resource, audit_events.c.seq)
Index("ix_audit_events_project", audit_events.c.organization_id, audit_events.c.project_id, audit_events.c.seq)
