"""Autoscaling, rollouts and demand of endpoints."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE endpoints
            ADD COLUMN policy text NOT NULL DEFAULT 'prefix_affinity',
            ADD COLUMN queue_seconds integer,
            ADD COLUMN accelerators integer NOT NULL DEFAULT 0,
            ADD COLUMN sku text,
            ADD COLUMN wanted integer NOT NULL DEFAULT 1,
            ADD COLUMN scaling jsonb,
            ADD COLUMN takes integer NOT NULL DEFAULT 0,
            ADD COLUMN version integer NOT NULL DEFAULT 1,
            ADD COLUMN next_model text,
            ADD COLUMN parked_at timestamptz,
            ADD COLUMN wishes bigint NOT NULL DEFAULT 0,
            ADD COLUMN stop_code text
    """)
    op.execute("UPDATE endpoints SET wanted = min_replicas")
    op.execute("""
        ALTER TABLE replicas
            ADD COLUMN model text,
            ADD COLUMN version integer NOT NULL DEFAULT 1,
            ADD COLUMN upstream integer,
            ADD COLUMN weight integer NOT NULL DEFAULT 100,
            ADD COLUMN ready_attempt integer NOT NULL DEFAULT 0,
            ADD COLUMN draining_at timestamptz,
            ADD COLUMN completed_at timestamptz,
            ADD COLUMN in_flight integer,
            ADD COLUMN cold_start_ms integer,
            ADD COLUMN cold_start jsonb
    """)
    op.execute("UPDATE replicas SET upstream = 0 WHERE workload IS NULL")
    op.execute("""
        CREATE UNLOGGED TABLE gateway_reports (
            gateway text CONSTRAINT pk_gateway_reports PRIMARY KEY,
            reported_at timestamptz NOT NULL
        )
    """)
    op.execute("""
        CREATE UNLOGGED TABLE demands (
            gateway text NOT NULL,
            endpoint text NOT NULL,
            in_flight integer NOT NULL,
            waiting integer NOT NULL,
            batch_waiting integer NOT NULL,
            longest_wait_seconds double precision NOT NULL,
            requests_per_minute double precision NOT NULL,
            tokens_per_second double precision NOT NULL,
            first_token_ms double precision NOT NULL,
            reported_at timestamptz NOT NULL,
            CONSTRAINT pk_demands PRIMARY KEY (gateway, endpoint)
        )
    """)
    op.execute("CREATE INDEX ix_demands_endpoint ON demands (endpoint)")
