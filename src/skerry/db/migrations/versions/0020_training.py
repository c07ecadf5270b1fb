"""Training jobs, what they reported and measured."""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE training_jobs (
            id text CONSTRAINT pk_training_jobs PRIMARY KEY,
            project text NOT NULL,
            key text NOT NULL,
            name text NOT NULL,
            spec jsonb NOT NULL,
            status text NOT NULL,
            status_reason jsonb NOT NULL,
            wish text NOT NULL,
            workload_id text NOT NULL,
            restarts integer NOT NULL DEFAULT 0,
            last_restart jsonb,
            exit_code integer,
            due_at timestamptz,
            hints bigint NOT NULL DEFAULT 0,
            failures integer NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL,
            started_at timestamptz,
            ended_at timestamptz,
            lease_token text,
            lease_until timestamptz
        )
    """)
    op.execute("CREATE INDEX ix_training_jobs_project ON training_jobs (project, id)")
    op.execute("CREATE UNIQUE INDEX uq_training_jobs_workload ON training_jobs (workload_id)")
    op.execute("CREATE INDEX ix_training_jobs_due ON training_jobs (due_at) WHERE due_at IS NOT NULL")
    op.execute("""
        CREATE TABLE training_attempts (
            attempt text CONSTRAINT pk_training_attempts PRIMARY KEY,
            job text NOT NULL CONSTRAINT fk_training_attempts_job REFERENCES training_jobs (id),
            project text NOT NULL,
            seq bigint NOT NULL,
            generation integer NOT NULL,
            phase text NOT NULL,
            step bigint NOT NULL,
            checkpoint_step bigint,
            checkpoint_at timestamptz,
            restarts integer NOT NULL,
            last_restart jsonb,
            productive_ms bigint NOT NULL,
            losses_ms jsonb NOT NULL,
            stragglers jsonb NOT NULL,
            ending jsonb,
            excluded bigint NOT NULL,
            reported_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX ix_training_attempts_job ON training_attempts (job)")
    op.execute("""
        CREATE TABLE training_series (
            job text NOT NULL CONSTRAINT fk_training_series_job REFERENCES training_jobs (id),
            name text NOT NULL,
            project text NOT NULL,
            seen bigint NOT NULL,
            points integer NOT NULL,
            stride bigint NOT NULL,
            latest_step bigint NOT NULL,
            latest_at timestamptz NOT NULL,
            latest_value double precision NOT NULL,
            CONSTRAINT pk_training_series PRIMARY KEY (job, name)
        )
    """)
    op.execute("""
        CREATE TABLE training_points (
            job text NOT NULL CONSTRAINT fk_training_points_job REFERENCES training_jobs (id),
            name text NOT NULL,
            step bigint NOT NULL,
            project text NOT NULL,
            n bigint NOT NULL,
            at timestamptz NOT NULL,
            value double precision NOT NULL,
            CONSTRAINT pk_training_points PRIMARY KEY (job, name, step)
        )
    """)
