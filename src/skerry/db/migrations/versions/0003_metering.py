"""Usage facts, the ids remembered of them, dimensions, roll-ups and the positions of journals."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE usage_facts (
            id uuid NOT NULL,
            t1 timestamptz NOT NULL,
            t0 timestamptz NOT NULL,
            meter text NOT NULL,
            quantity bigint NOT NULL,
            project text NOT NULL,
            resource text NOT NULL,
            dims uuid NOT NULL,
            CONSTRAINT pk_usage_facts PRIMARY KEY (id, t1)
        ) PARTITION BY RANGE (t1)
    """)
    # Facts arrive nearly in the order of t1: a BRIN index finds an hour of them and costs the intake next to nothing.
    op.execute("CREATE INDEX ix_usage_facts_t1 ON usage_facts USING brin (t1) WITH (pages_per_range = 32)")

    op.execute("""
        CREATE TABLE usage_fact_ids (
            id uuid CONSTRAINT pk_usage_fact_ids PRIMARY KEY,
            t1 timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX ix_usage_fact_ids_t1 ON usage_fact_ids USING brin (t1) WITH (pages_per_range = 32)")

    op.execute("""
        CREATE TABLE usage_dims (
            id uuid CONSTRAINT pk_usage_dims PRIMARY KEY,
            dims jsonb NOT NULL
        )
    """)

    op.execute("""
        CREATE TABLE usage_rejected (
            id uuid NOT NULL,
            t1 timestamptz NOT NULL,
            reason text NOT NULL,
            t0 timestamptz NOT NULL,
            meter text NOT NULL,
            quantity numeric NOT NULL,
            project text NOT NULL,
            resource text NOT NULL,
            dims jsonb NOT NULL,
            received_at timestamptz NOT NULL,
            CONSTRAINT pk_usage_rejected PRIMARY KEY (id, t1, reason)
        )
    """)

    op.execute("""
        CREATE TABLE usage_dirty (
            id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_usage_dirty PRIMARY KEY,
            project text NOT NULL,
            hour timestamptz NOT NULL
        )
    """)

    op.execute("""
        CREATE TABLE usage_rollups (
            project text NOT NULL,
            meter text NOT NULL,
            resource text NOT NULL,
            dims uuid NOT NULL,
            hour timestamptz NOT NULL,
            quantity numeric NOT NULL,
            CONSTRAINT pk_usage_rollups PRIMARY KEY (project, meter, resource, dims, hour)
        ) PARTITION BY RANGE (hour)
    """)

    op.execute("""
        CREATE TABLE journal_positions (
            journal text CONSTRAINT pk_journal_positions PRIMARY KEY,
            segment bigint NOT NULL,
            byte_offset bigint NOT NULL,
            watermark timestamptz,
            updated_at timestamptz NOT NULL
        )
    """)
