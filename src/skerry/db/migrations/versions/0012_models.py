"""Hub sources and several upstreams of a model."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    # [{url, weight, key}], the key encrypted; empty where there is one upstream at most.
    op.execute("ALTER TABLE models ADD COLUMN upstreams jsonb NOT NULL DEFAULT '[]'")
    # The download from a hub: NULL where there is none, else downloading, done, failed or gone.
    op.execute("ALTER TABLE models ADD COLUMN fetch_state text")
    op.execute("ALTER TABLE models ADD COLUMN download jsonb NOT NULL DEFAULT '{}'")
    op.execute("ALTER TABLE models ADD COLUMN due_at timestamptz")
    op.execute("ALTER TABLE models ADD COLUMN lease_token text")
    op.execute("ALTER TABLE models ADD COLUMN lease_until timestamptz")
    op.execute("CREATE INDEX ix_models_fetch ON models (id) WHERE fetch_state IS NOT NULL AND fetch_state <> 'gone'")
