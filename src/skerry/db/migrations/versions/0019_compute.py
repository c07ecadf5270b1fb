"""What each rank of an attempt reported, and what is not charged of it."""

from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.execute("ALTER TABLE attempts ADD COLUMN reports jsonb")
    op.execute("ALTER TABLE attempts ADD COLUMN died_on text")
    op.execute("ALTER TABLE attempts ADD COLUMN waited_seconds bigint NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE attempts ADD COLUMN egress_bytes bigint NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE attempts ADD COLUMN egress_counters bigint[] NOT NULL DEFAULT '{}'")
    op.execute("ALTER TABLE attempts ADD COLUMN egress_metered bigint NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE attempts ADD COLUMN warned text[] NOT NULL DEFAULT '{}'")
    op.execute("""
        CREATE TABLE attempt_exclusions (
            attempt_id text NOT NULL CONSTRAINT fk_attempt_exclusions_attempt_id REFERENCES attempts (id),
            key text NOT NULL,
            project text NOT NULL,
            reason text NOT NULL,
            start_at timestamptz NOT NULL,
            end_at timestamptz NOT NULL,
            quantity bigint NOT NULL,
            CONSTRAINT pk_attempt_exclusions PRIMARY KEY (attempt_id, key)
        )
    """)
    op.execute("ALTER TABLE workloads ADD COLUMN priority integer NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE workloads ADD COLUMN queued_at timestamptz")
    op.execute("ALTER TABLE workloads ADD COLUMN estimated_start timestamptz")
    op.execute("ALTER TABLE workloads ADD COLUMN booked boolean NOT NULL DEFAULT false")
    op.execute("UPDATE workloads SET booked = true WHERE status = 'ended'")
    op.execute("CREATE INDEX ix_workloads_unbooked ON workloads (id) WHERE NOT booked")
    op.execute("CREATE INDEX ix_workloads_pending ON workloads (queued_at) WHERE status = 'pending'")
    op.execute("""
        CREATE TABLE project_users (
            project text CONSTRAINT pk_project_users PRIMARY KEY,
            number integer NOT NULL CONSTRAINT uq_project_users_number UNIQUE
        )
    """)
