"""Who has which nodes, what of each reservation is bound, and what was delivered of it."""

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    # In PostgreSQL a trusted extension: the database's owner may create it.
    op.execute("CREATE EXTENSION IF NOT EXISTS btree_gist")
    op.execute("""
        CREATE TABLE capacity_claims (
            id text CONSTRAINT pk_capacity_claims PRIMARY KEY,
            project text NOT NULL,
            holder_kind text NOT NULL,
            holder text NOT NULL,
            capacity_class text NOT NULL,
            reservation text,
            leg text,
            leaf text NOT NULL,
            sku text NOT NULL,
            node text NOT NULL,
            accelerators int4range NOT NULL,
            level int4range NOT NULL,
            during tstzrange NOT NULL,
            pool boolean NOT NULL DEFAULT false,
            void boolean NOT NULL DEFAULT false,
            created_at timestamptz NOT NULL,
            delivered_at timestamptz,
            reclaim_at timestamptz,
            released_at timestamptz,
            -- The last line: whatever is admitted, nothing of a node has two owners or two users at one moment.
            CONSTRAINT ex_capacity_claims_node EXCLUDE USING gist (
                node WITH =, level WITH &&, accelerators WITH &&, during WITH &&
            ) WHERE (NOT void)
        )
    """)
    op.execute("CREATE INDEX ix_capacity_claims_holder ON capacity_claims (holder)")
    op.execute("CREATE INDEX ix_capacity_claims_leaf ON capacity_claims (leaf, sku, upper(during)) WHERE NOT void")
    op.execute("""
        CREATE INDEX ix_capacity_claims_reservation ON capacity_claims (reservation) WHERE reservation IS NOT NULL
    """)
    op.execute("""
        CREATE INDEX ix_capacity_claims_reclaim ON capacity_claims (reclaim_at)
        WHERE reclaim_at IS NOT NULL AND released_at IS NULL AND NOT void
    """)
    op.execute("""
        CREATE TABLE reservation_bindings (
            id text CONSTRAINT pk_reservation_bindings PRIMARY KEY,
            project text NOT NULL,
            due_at timestamptz NOT NULL,
            hints bigint NOT NULL DEFAULT 0,
            active_at timestamptz,
            metered_through timestamptz,
            ended_at timestamptz,
            failures integer NOT NULL DEFAULT 0,
            lease_token text,
            lease_until timestamptz
        )
    """)
    op.execute("CREATE INDEX ix_reservation_bindings_due ON reservation_bindings (due_at) WHERE ended_at IS NULL")
    op.execute("""
        CREATE TABLE reservation_delivery (
            reservation text NOT NULL,
            site text NOT NULL,
            t0 timestamptz NOT NULL,
            t1 timestamptz NOT NULL,
            project text NOT NULL,
            promised bigint NOT NULL,
            delivered bigint NOT NULL,
            CONSTRAINT pk_reservation_delivery PRIMARY KEY (reservation, t0, site)
        )
    """)
    op.execute("CREATE INDEX ix_reservations_confirmed ON reservations (start_at) WHERE status = 'confirmed'")
