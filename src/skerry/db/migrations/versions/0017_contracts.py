"""Lines of prices, contracts, what reservations were sold at, and one-off charges."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.execute("ALTER TABLE prices ADD COLUMN price_line text")
    op.execute("CREATE EXTENSION IF NOT EXISTS btree_gist")
    # One contract at a time for each organization.
    op.execute("""
        CREATE TABLE contracts (
            id text CONSTRAINT pk_contracts PRIMARY KEY,
            organization text NOT NULL,
            name text NOT NULL,
            currency text NOT NULL,
            starts_at timestamptz NOT NULL,
            ends_at timestamptz,
            cancellation jsonb NOT NULL,
            credit_limit_nano bigint,
            credit_before_nano bigint,
            credit_applied_at timestamptz,
            credit_lifted_at timestamptz,
            created_at timestamptz NOT NULL,
            created_by text NOT NULL,
            ended_by text,
            CONSTRAINT ck_contracts_window CHECK (ends_at IS NULL OR ends_at >= starts_at),
            CONSTRAINT ex_contracts_one EXCLUDE USING gist (
                organization WITH =, tstzrange(starts_at, ends_at) WITH &&
            )
        )
    """)
    op.execute("CREATE INDEX ix_contracts_organization ON contracts (organization, id)")
    op.execute("""
        CREATE TABLE contract_prices (
            contract text NOT NULL CONSTRAINT fk_contract_prices_contract REFERENCES contracts (id),
            line integer NOT NULL,
            meter text NOT NULL,
            price_line text,
            model text,
            sku text,
            site text,
            capacity_class text,
            charge_by text,
            unit_quantity bigint NOT NULL,
            unit_price numeric NOT NULL,
            CONSTRAINT pk_contract_prices PRIMARY KEY (contract, line)
        )
    """)
    op.execute("""
        CREATE TABLE reserved_terms (
            reservation text CONSTRAINT pk_reserved_terms PRIMARY KEY,
            organization text NOT NULL,
            project text NOT NULL,
            currency text NOT NULL,
            contract text,
            cancellation jsonb NOT NULL,
            rates jsonb NOT NULL,
            legs jsonb NOT NULL,
            first_hour timestamptz NOT NULL,
            last_hour timestamptz NOT NULL,
            opened_at timestamptz NOT NULL,
            opened_by text NOT NULL,
            changed_at timestamptz NOT NULL,
            closed_at timestamptz,
            settled_at timestamptz
        )
    """)
    op.execute("CREATE INDEX ix_reserved_terms_project ON reserved_terms (project, last_hour)")
    # What is not settled to its end yet.
    op.execute("CREATE INDEX ix_reserved_terms_unsettled ON reserved_terms (first_hour) WHERE settled_at IS NULL")
    # A reservation's commitments are leases whose journal it is; closed ones are asked for as well.
    op.execute("CREATE INDEX ix_balance_leases_journal ON balance_leases (journal)")
    op.execute("""
        CREATE TABLE one_off_charges (
            id text CONSTRAINT pk_one_off_charges PRIMARY KEY,
            organization text NOT NULL,
            project text NOT NULL,
            resource text NOT NULL,
            kind text NOT NULL,
            amount numeric NOT NULL,
            currency text NOT NULL,
            at timestamptz NOT NULL,
            reason text NOT NULL,
            dims jsonb NOT NULL,
            created_at timestamptz NOT NULL,
            created_by text NOT NULL
        )
    """)
    op.execute("CREATE INDEX ix_one_off_charges_project ON one_off_charges (project, at)")
