"""Events, outbox and idempotency keys."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE SEQUENCE events_seq")
    op.execute("""
        CREATE TABLE events (
            id text NOT NULL,
            at timestamptz NOT NULL,
            project text NOT NULL,
            resource_kind text NOT NULL,
            resource text NOT NULL,
            type text NOT NULL,
            data jsonb NOT NULL,
            tx bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
            seq bigint NOT NULL DEFAULT nextval('events_seq'),
            CONSTRAINT pk_events PRIMARY KEY (at, id)
        ) PARTITION BY RANGE (at)
    """)
    op.execute("CREATE INDEX ix_events_project_at ON events (project, at, seq)")
    op.execute("CREATE INDEX ix_events_resource_at ON events (project, resource, at, seq)")
    op.execute("CREATE INDEX ix_events_project_tx ON events (project, tx, seq)")

    op.execute("""
        CREATE TABLE outbox (
            id text CONSTRAINT pk_outbox PRIMARY KEY,
            topic text NOT NULL,
            payload jsonb NOT NULL,
            created_at timestamptz NOT NULL,
            due_at timestamptz NOT NULL,
            attempts integer NOT NULL DEFAULT 0,
            last_error text,
            dead_at timestamptz,
            lease_token text,
            lease_until timestamptz
        )
    """)
    op.execute("CREATE INDEX ix_outbox_due ON outbox (topic, due_at) WHERE dead_at IS NULL")

    op.execute("""
        CREATE TABLE idempotency_keys (
            project text NOT NULL,
            key text NOT NULL,
            route text NOT NULL,
            body_hash bytea NOT NULL,
            status integer,
            body jsonb,
            created_at timestamptz NOT NULL,
            CONSTRAINT pk_idempotency_keys PRIMARY KEY (project, key)
        )
    """)
    op.execute("CREATE INDEX ix_idempotency_keys_created_at ON idempotency_keys (created_at)")
