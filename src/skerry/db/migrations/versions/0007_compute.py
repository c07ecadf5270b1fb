"""Workloads and their attempts."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE workloads (
            id text CONSTRAINT pk_workloads PRIMARY KEY,
            project text NOT NULL,
            kind text NOT NULL,
            name text NOT NULL,
            resource text NOT NULL,
            spec jsonb NOT NULL,
            files text,
            status text NOT NULL,
            status_reason jsonb NOT NULL,
            desired text NOT NULL,
            stop_reason text,
            outcome text,
            attempts integer NOT NULL DEFAULT 0,
            restarts integer NOT NULL DEFAULT 0,
            failures integer NOT NULL DEFAULT 0,
            due_at timestamptz NOT NULL,
            hints bigint NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL,
            ended_at timestamptz,
            lease_token text,
            lease_until timestamptz
        )
    """)
    op.execute("CREATE INDEX ix_workloads_project ON workloads (project, id)")
    op.execute("CREATE INDEX ix_workloads_resource ON workloads (project, resource)")
    op.execute("CREATE INDEX ix_workloads_due ON workloads (due_at) WHERE status <> 'ended'")
    op.execute("""
        CREATE TABLE attempts (
            id text CONSTRAINT pk_attempts PRIMARY KEY,
            project text NOT NULL,
            workload_id text NOT NULL CONSTRAINT fk_attempts_workload_id REFERENCES workloads (id),
            n integer NOT NULL,
            engine text NOT NULL,
            engine_ref text,
            nodes text[] NOT NULL,
            accelerators integer NOT NULL,
            devices integer[] NOT NULL,
            site text,
            sku text,
            generation integer NOT NULL DEFAULT 1,
            created_at timestamptz NOT NULL,
            submitted_at timestamptz,
            started_at timestamptz,
            ready_at timestamptz,
            seen_at timestamptz,
            ended_at timestamptz,
            outcome text,
            exit_code integer,
            message text NOT NULL DEFAULT '',
            report jsonb,
            metered_through timestamptz
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_attempts_n ON attempts (workload_id, n)")
    op.execute("CREATE UNIQUE INDEX uq_attempts_open ON attempts (workload_id) WHERE ended_at IS NULL")
    op.execute("CREATE INDEX ix_attempts_open_nodes ON attempts USING gin (nodes) WHERE ended_at IS NULL")
