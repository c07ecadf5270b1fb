"""Batches of requests, and the answers that are not in a file yet."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE batches (
            id text CONSTRAINT pk_batches PRIMARY KEY,
            project text NOT NULL,
            key text NOT NULL,
            endpoint text NOT NULL,
            input_file text NOT NULL,
            completion_window text NOT NULL,
            metadata jsonb NOT NULL,
            status text NOT NULL,
            status_reason jsonb NOT NULL,
            errors jsonb,
            total integer NOT NULL DEFAULT 0,
            completed integer NOT NULL DEFAULT 0,
            failed integer NOT NULL DEFAULT 0,
            tokens_prompt bigint NOT NULL DEFAULT 0,
            tokens_cached bigint NOT NULL DEFAULT 0,
            tokens_completion bigint NOT NULL DEFAULT 0,
            cost numeric NOT NULL DEFAULT 0,
            output_file text,
            error_file text,
            failures integer NOT NULL DEFAULT 0,
            due_at timestamptz NOT NULL,
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL,
            expires_at timestamptz NOT NULL,
            in_progress_at timestamptz,
            finalizing_at timestamptz,
            completed_at timestamptz,
            failed_at timestamptz,
            expired_at timestamptz,
            cancelling_at timestamptz,
            cancelled_at timestamptz,
            lease_token text,
            lease_until timestamptz
        )
    """)
    op.execute("CREATE INDEX ix_batches_project ON batches (project, id)")
    op.execute("""
        CREATE INDEX ix_batches_due ON batches (due_at)
        WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling')
    """)
    op.execute("""
        CREATE TABLE batch_rows (
            batch text NOT NULL CONSTRAINT fk_batch_rows_batch REFERENCES batches (id),
            line integer NOT NULL,
            project text NOT NULL,
            ok boolean NOT NULL,
            content bytea NOT NULL,
            CONSTRAINT pk_batch_rows PRIMARY KEY (batch, line)
        )
    """)
