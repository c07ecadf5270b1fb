"""Files that customers upload."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE files (
            id text CONSTRAINT pk_files PRIMARY KEY,
            project text NOT NULL,
            filename text NOT NULL,
            purpose text NOT NULL,
            status text NOT NULL,
            bytes bigint NOT NULL,
            sha256 text NOT NULL DEFAULT '',
            facts jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL,
            expires_at timestamptz,
            touched_at timestamptz NOT NULL,
            metered_through timestamptz,
            deleted_at timestamptz,
            purged_at timestamptz
        )
    """)
    op.execute("CREATE INDEX ix_files_project ON files (project, created_at, id)")
    op.execute("CREATE INDEX ix_files_live ON files (project) WHERE deleted_at IS NULL")
    op.execute("CREATE INDEX ix_files_expires ON files (expires_at) WHERE deleted_at IS NULL")
    op.execute("CREATE INDEX ix_files_metered ON files (metered_through) WHERE deleted_at IS NULL")
    op.execute("CREATE INDEX ix_files_uploading ON files (touched_at) WHERE status = 'uploading'")
    op.execute("""
        CREATE INDEX ix_files_unpurged ON files (deleted_at) WHERE deleted_at IS NOT NULL AND purged_at IS NULL
    """)
