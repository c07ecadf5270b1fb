"""The model catalogue."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE models (
            id text CONSTRAINT pk_models PRIMARY KEY,
            project text NOT NULL,
            name text NOT NULL,
            engine text NOT NULL,
            source_kind text NOT NULL,
            location text NOT NULL,
            upstream_model text,
            upstream_key text,
            context_length integer NOT NULL,
            license text,
            facts jsonb NOT NULL DEFAULT '{}',
            shared boolean NOT NULL,
            builtin boolean NOT NULL DEFAULT false,
            created_at timestamptz NOT NULL,
            removed_at timestamptz
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_models_name ON models (name) WHERE removed_at IS NULL")
    op.execute("CREATE INDEX ix_models_project ON models (project)")
