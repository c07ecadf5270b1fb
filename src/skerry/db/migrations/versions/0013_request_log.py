"""The log of requests."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE request_log (
            id uuid NOT NULL,
            ended_at timestamptz NOT NULL,
            status smallint NOT NULL,
            stream boolean NOT NULL,
            prompt bigint NOT NULL,
            cached bigint NOT NULL,
            completion bigint NOT NULL,
            egress_bytes bigint NOT NULL,
            queue_us bigint NOT NULL,
            first_us bigint NOT NULL,
            total_us bigint NOT NULL,
            cost_nano bigint NOT NULL,
            project text COLLATE "C" NOT NULL,
            key text NOT NULL,
            model text NOT NULL,
            endpoint text NOT NULL,
            replica text NOT NULL,
            kind text NOT NULL,
            batch text NOT NULL,
            counted text NOT NULL
        ) PARTITION BY RANGE (ended_at)
    """)
    # Ids sort by time: one index finds a request, and a project's newest ones.
    op.execute("CREATE INDEX ix_request_log_project ON request_log (project, id)")
    op.execute("""
        CREATE TABLE request_content (
            id uuid NOT NULL,
            at timestamptz NOT NULL,
            project text COLLATE "C" NOT NULL,
            sealed bytea NOT NULL
        ) PARTITION BY RANGE (at)
    """)
    # Compressed and encrypted already.
    op.execute("ALTER TABLE request_content ALTER COLUMN sealed SET STORAGE EXTERNAL")
    op.execute("CREATE INDEX ix_request_content_project ON request_content (project, id)")
