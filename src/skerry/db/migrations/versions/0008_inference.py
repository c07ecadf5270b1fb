"""Endpoints and replicas."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE endpoints (
            id text CONSTRAINT pk_endpoints PRIMARY KEY,
            project text NOT NULL,
            name text NOT NULL,
            model text NOT NULL,
            kind text NOT NULL,
            shared boolean NOT NULL,
            capacity_class text NOT NULL,
            charge_by text NOT NULL,
            min_replicas integer NOT NULL,
            max_replicas integer NOT NULL,
            target_concurrency integer,
            idle_timeout_seconds integer,
            desired text NOT NULL,
            status text NOT NULL,
            status_reason jsonb NOT NULL,
            hints bigint NOT NULL DEFAULT 0,
            failures integer NOT NULL DEFAULT 0,
            due_at timestamptz,
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL,
            removed_at timestamptz,
            lease_token text,
            lease_until timestamptz
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_endpoints_name ON endpoints (name) WHERE removed_at IS NULL")
    op.execute("CREATE INDEX ix_endpoints_project ON endpoints (project, id)")
    op.execute("CREATE INDEX ix_endpoints_model ON endpoints (model)")
    op.execute("CREATE INDEX ix_endpoints_due ON endpoints (due_at) WHERE due_at IS NOT NULL")
    op.execute("""
        CREATE TABLE replicas (
            id text CONSTRAINT pk_replicas PRIMARY KEY,
            project text NOT NULL,
            endpoint text NOT NULL CONSTRAINT fk_replicas_endpoint REFERENCES endpoints (id),
            workload text,
            attempt text,
            node text,
            site text,
            base_url text,
            sealed_key text,
            slots integer NOT NULL,
            status text NOT NULL,
            status_reason jsonb NOT NULL,
            probe_failures integer NOT NULL DEFAULT 0,
            probed_at timestamptz,
            ready_at timestamptz,
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL,
            ended_at timestamptz
        )
    """)
    op.execute("CREATE INDEX ix_replicas_endpoint ON replicas (endpoint, id)")
    op.execute("CREATE INDEX ix_replicas_live ON replicas (endpoint) WHERE ended_at IS NULL")
