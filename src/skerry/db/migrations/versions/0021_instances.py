"""SSH keys, volumes, instances and clusters."""

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    _ssh_keys()
    _volumes()
    _instances()


def _ssh_keys() -> None:
    op.execute("""
        CREATE TABLE ssh_keys (
            id text CONSTRAINT pk_ssh_keys PRIMARY KEY,
            project text NOT NULL CONSTRAINT fk_ssh_keys_project_projects REFERENCES projects (id),
            name text NOT NULL,
            type text NOT NULL,
            blob text NOT NULL,
            comment text NOT NULL,
            fingerprint text NOT NULL,
            created_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_ssh_keys_name ON ssh_keys (project, name)")
    op.execute("CREATE UNIQUE INDEX uq_ssh_keys_fingerprint ON ssh_keys (project, fingerprint)")


def _volumes() -> None:
    op.execute("""
        CREATE TABLE volumes (
            id text CONSTRAINT pk_volumes PRIMARY KEY,
            project text NOT NULL,
            name text NOT NULL,
            kind text NOT NULL,
            site text NOT NULL,
            bytes bigint NOT NULL,
            tier text NOT NULL,
            status text NOT NULL,
            status_reason jsonb NOT NULL,
            metered_through timestamptz,
            used_at timestamptz,
            deleted_at timestamptz,
            wipe jsonb,
            due_at timestamptz,
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL,
            lease_token text,
            lease_until timestamptz
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_volumes_name ON volumes (project, name) WHERE deleted_at IS NULL")
    op.execute("CREATE INDEX ix_volumes_project ON volumes (project, id)")
    op.execute("CREATE INDEX ix_volumes_due ON volumes (due_at) WHERE due_at IS NOT NULL")
    op.execute("""
        CREATE TABLE volume_attachments (
            volume text NOT NULL CONSTRAINT fk_volume_attachments_volume_volumes REFERENCES volumes (id),
            holder text NOT NULL,
            project text NOT NULL,
            holder_kind text NOT NULL,
            target text NOT NULL,
            read_only boolean NOT NULL,
            created_at timestamptz NOT NULL,
            CONSTRAINT pk_volume_attachments PRIMARY KEY (volume, holder)
        )
    """)
    op.execute("CREATE INDEX ix_volume_attachments_holder ON volume_attachments (project, holder)")


def _instances() -> None:
    op.execute("""
        CREATE TABLE instances (
            id text CONSTRAINT pk_instances PRIMARY KEY,
            project text NOT NULL,
            kind text NOT NULL,
            name text NOT NULL,
            sku text NOT NULL,
            site text NOT NULL,
            accelerators integer NOT NULL,
            nodes integer NOT NULL,
            scope text NOT NULL,
            capacity_class text NOT NULL,
            charge_by text NOT NULL,
            reservation text,
            image text,
            template text,
            fingerprints text[] NOT NULL,
            host_key text NOT NULL,
            workload text NOT NULL,
            home text,
            max_duration_seconds integer,
            max_cost numeric,
            tags jsonb NOT NULL,
            wish text NOT NULL,
            status text NOT NULL,
            status_reason jsonb NOT NULL,
            heard text,
            hints bigint NOT NULL DEFAULT 0,
            due_at timestamptz,
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL,
            running_at timestamptz,
            ended_at timestamptz,
            lease_token text,
            lease_until timestamptz
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_instances_name ON instances (project, name) WHERE ended_at IS NULL")
    op.execute("CREATE INDEX ix_instances_project ON instances (project, kind, id)")
    op.execute("CREATE INDEX ix_instances_workload ON instances (workload)")
    op.execute("CREATE INDEX ix_instances_due ON instances (due_at) WHERE due_at IS NOT NULL")
