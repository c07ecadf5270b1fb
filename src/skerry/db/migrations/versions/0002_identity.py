"""Organizations, projects, members, keys and the audit trail."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _tenants()
    _keys()
    _audit()


def _tenants() -> None:
    op.execute("""
        CREATE TABLE organizations (
            id text CONSTRAINT pk_organizations PRIMARY KEY,
            name text NOT NULL CONSTRAINT uq_organizations_name UNIQUE,
            created_at timestamptz NOT NULL
        )
    """)
    op.execute("""
        CREATE TABLE projects (
            id text CONSTRAINT pk_projects PRIMARY KEY,
            organization_id text NOT NULL CONSTRAINT fk_projects_organization_id REFERENCES organizations (id),
            name text NOT NULL,
            trusted boolean NOT NULL,
            jurisdictions jsonb NOT NULL,
            home boolean NOT NULL,
            created_at timestamptz NOT NULL,
            CONSTRAINT uq_projects_organization_id_name UNIQUE (organization_id, name)
        )
    """)
    op.execute("CREATE UNIQUE INDEX ix_projects_home ON projects (organization_id) WHERE home")
    op.execute("""
        CREATE TABLE users (
            id text CONSTRAINT pk_users PRIMARY KEY,
            email text NOT NULL CONSTRAINT uq_users_email UNIQUE,
            created_at timestamptz NOT NULL
        )
    """)
    op.execute("""
        CREATE TABLE members (
            id text CONSTRAINT pk_members PRIMARY KEY,
            organization_id text NOT NULL CONSTRAINT fk_members_organization_id REFERENCES organizations (id),
            user_id text NOT NULL CONSTRAINT fk_members_user_id REFERENCES users (id),
            role text NOT NULL,
            created_at timestamptz NOT NULL,
            CONSTRAINT uq_members_organization_id_user_id UNIQUE (organization_id, user_id)
        )
    """)
    op.execute("""
        CREATE TABLE service_accounts (
            id text CONSTRAINT pk_service_accounts PRIMARY KEY,
            project_id text NOT NULL CONSTRAINT fk_service_accounts_project_id REFERENCES projects (id),
            name text NOT NULL,
            created_at timestamptz NOT NULL,
            deleted_at timestamptz
        )
    """)
    op.execute("""
        CREATE UNIQUE INDEX ix_service_accounts_live_name ON service_accounts (project_id, name)
        WHERE deleted_at IS NULL
    """)


def _keys() -> None:
    op.execute("CREATE SEQUENCE api_keys_seq")
    op.execute("""
        CREATE TABLE api_keys (
            id text CONSTRAINT pk_api_keys PRIMARY KEY,
            organization_id text NOT NULL CONSTRAINT fk_api_keys_organization_id REFERENCES organizations (id),
            project_id text NOT NULL CONSTRAINT fk_api_keys_project_id REFERENCES projects (id),
            service_account_id text CONSTRAINT fk_api_keys_service_account_id REFERENCES service_accounts (id),
            name text NOT NULL,
            scopes jsonb NOT NULL,
            models jsonb,
            expires_at timestamptz,
            requests_per_minute integer,
            tokens_per_minute bigint,
            budget_nano bigint,
            budget_currency text,
            created_at timestamptz NOT NULL,
            created_by text,
            rotated_at timestamptz,
            revoked_at timestamptz,
            seq bigint NOT NULL
        )
    """)
    op.execute("CREATE INDEX ix_api_keys_seq ON api_keys (seq)")
    op.execute("CREATE INDEX ix_api_keys_project ON api_keys (project_id, id)")
    op.execute("""
        CREATE TABLE api_key_secrets (
            digest bytea CONSTRAINT pk_api_key_secrets PRIMARY KEY,
            key_id text NOT NULL CONSTRAINT fk_api_key_secrets_key_id REFERENCES api_keys (id),
            last4 text NOT NULL,
            created_at timestamptz NOT NULL,
            retires_at timestamptz
        )
    """)
    op.execute("CREATE INDEX ix_api_key_secrets_key ON api_key_secrets (key_id)")


def _audit() -> None:
    op.execute("""
        CREATE TABLE audit_heads (
            organization_id text CONSTRAINT pk_audit_heads PRIMARY KEY
                CONSTRAINT fk_audit_heads_organization_id REFERENCES organizations (id),
            seq bigint NOT NULL,
            hash bytea NOT NULL
        )
    """)
    op.execute("""
        CREATE TABLE audit_events (
            organization_id text NOT NULL,
            seq bigint NOT NULL,
            at timestamptz NOT NULL,
            id text NOT NULL,
            project_id text,
            key_id text,
            key_name text NOT NULL,
            origin text NOT NULL,
            request_id text NOT NULL,
            action text NOT NULL,
            resource text NOT NULL,
            outcome text NOT NULL,
            detail jsonb NOT NULL,
            prev_hash bytea NOT NULL,
            hash bytea NOT NULL,
            CONSTRAINT pk_audit_events PRIMARY KEY (organization_id, seq, at)
        ) PARTITION BY RANGE (at)
    """)
    op.execute("CREATE INDEX ix_audit_events_resource ON audit_events (organization_id, resource, seq)")
    op.execute("CREATE INDEX ix_audit_events_project ON audit_events (organization_id, project_id, seq)")
    op.execute("""
        CREATE FUNCTION audit_events_are_final() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'audit events are never changed or deleted';
        END $$
    """)
    # A row trigger of the parent is made on each of its partitions too.
    op.execute("""
        CREATE TRIGGER audit_events_are_final BEFORE UPDATE OR DELETE ON audit_events
        FOR EACH ROW EXECUTE FUNCTION audit_events_are_final()
    """)
