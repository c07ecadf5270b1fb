"""Limits and tiers of projects and organizations."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    for table in ("organizations", "projects"):
        op.execute(f"""
            ALTER TABLE {table}
                ADD COLUMN requests_per_minute integer,
                ADD COLUMN tokens_per_minute bigint,
                ADD COLUMN concurrent_requests integer
        """)
    op.execute("ALTER TABLE organizations ADD COLUMN tier text NOT NULL DEFAULT 'standard'")
    op.execute("ALTER TABLE projects ADD COLUMN log_content boolean NOT NULL DEFAULT false")
    op.execute("ALTER TABLE api_keys ADD COLUMN concurrent_requests integer")
