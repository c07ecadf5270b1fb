"""Price books and the ledger of balances."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE price_books (
            version integer CONSTRAINT pk_price_books PRIMARY KEY,
            currency text NOT NULL,
            effective_from timestamptz NOT NULL,
            created_at timestamptz NOT NULL,
            created_by text NOT NULL
        )
    """)
    op.execute("""
        CREATE TABLE prices (
            book integer NOT NULL CONSTRAINT fk_prices_book REFERENCES price_books (version),
            line integer NOT NULL,
            meter text NOT NULL,
            model text,
            sku text,
            site text,
            capacity_class text,
            charge_by text,
            unit_quantity bigint NOT NULL,
            unit_price numeric NOT NULL,
            CONSTRAINT pk_prices PRIMARY KEY (book, line)
        )
    """)

    op.execute("""
        CREATE TABLE balance_accounts (
            id text CONSTRAINT pk_balance_accounts PRIMARY KEY,
            kind text NOT NULL,
            target_kind text NOT NULL,
            target_id text NOT NULL,
            organization text,
            project text,
            window_kind text NOT NULL,
            limit_nano bigint NOT NULL,
            currency text NOT NULL,
            alert_at jsonb NOT NULL,
            created_at timestamptz NOT NULL,
            created_by text NOT NULL,
            updated_at timestamptz NOT NULL,
            deleted_at timestamptz,
            CONSTRAINT ck_balance_accounts_owner CHECK (num_nonnulls(project, organization) = 1)
        )
    """)
    # A key's own limit and an organization's credit limit exist once; budgets may be several.
    op.execute("""
        CREATE UNIQUE INDEX ix_balance_accounts_single ON balance_accounts (kind, target_id)
        WHERE kind <> 'budget' AND deleted_at IS NULL
    """)
    op.execute("""
        CREATE INDEX ix_balance_accounts_target ON balance_accounts (target_id, target_kind) WHERE deleted_at IS NULL
    """)
    op.execute("CREATE INDEX ix_balance_accounts_project ON balance_accounts (project, id) WHERE deleted_at IS NULL")
    op.execute("""
        CREATE INDEX ix_balance_accounts_organization ON balance_accounts (organization, id) WHERE deleted_at IS NULL
    """)

    op.execute("""
        CREATE TABLE balance_periods (
            account text NOT NULL CONSTRAINT fk_balance_periods_account REFERENCES balance_accounts (id),
            period_start timestamptz NOT NULL,
            period_end timestamptz NOT NULL,
            committed_nano bigint NOT NULL,
            spent_nano bigint NOT NULL,
            alerts_sent jsonb NOT NULL,
            CONSTRAINT pk_balance_periods PRIMARY KEY (account, period_start)
        )
    """)
    op.execute("""
        CREATE TABLE balance_leases (
            id text CONSTRAINT pk_balance_leases PRIMARY KEY,
            account text NOT NULL CONSTRAINT fk_balance_leases_account REFERENCES balance_accounts (id),
            period_start timestamptz NOT NULL,
            journal text NOT NULL,
            amount_nano bigint NOT NULL,
            spent_nano bigint NOT NULL,
            state text NOT NULL,
            created_at timestamptz NOT NULL,
            expires_at timestamptz NOT NULL,
            closed_at timestamptz
        )
    """)
    op.execute("CREATE INDEX ix_balance_leases_open ON balance_leases (journal, expires_at) WHERE state = 'open'")
    op.execute("CREATE INDEX ix_balance_leases_account ON balance_leases (account, id) WHERE state = 'open'")
