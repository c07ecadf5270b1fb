"""Signals, checks and remediations of nodes."""

from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE node_signals (
            id text CONSTRAINT pk_node_signals PRIMARY KEY,
            node text NOT NULL,
            hostname text NOT NULL,
            kind text NOT NULL,
            code text NOT NULL,
            severity text NOT NULL,
            detail text NOT NULL,
            action text NOT NULL,
            hour timestamptz NOT NULL,
            at timestamptz NOT NULL,
            last_at timestamptz NOT NULL,
            times integer NOT NULL DEFAULT 1,
            CONSTRAINT uq_node_signals_hour UNIQUE (node, kind, code, hour)
        )
    """)
    op.execute("CREATE INDEX ix_node_signals_last ON node_signals (last_at)")
    op.execute("""
        CREATE TABLE remediations (
            id text CONSTRAINT pk_remediations PRIMARY KEY,
            project text NOT NULL,
            node text NOT NULL,
            hostname text NOT NULL,
            status text NOT NULL,
            status_reason jsonb NOT NULL,
            action text NOT NULL,
            cause text NOT NULL,
            signal text NOT NULL,
            decided_by text,
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL,
            ended_at timestamptz
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_remediations_open ON remediations (node) WHERE ended_at IS NULL")
    op.execute("""
        CREATE TABLE node_probes (
            workload text CONSTRAINT pk_node_probes PRIMARY KEY,
            node text NOT NULL,
            hostname text NOT NULL,
            "check" text NOT NULL,
            peer text,
            remediation text,
            outcome text,
            detail text NOT NULL DEFAULT '',
            created_at timestamptz NOT NULL,
            ended_at timestamptz
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_node_probes_open ON node_probes (node) WHERE ended_at IS NULL")
    op.execute("CREATE INDEX ix_node_probes_node ON node_probes (node, created_at)")
