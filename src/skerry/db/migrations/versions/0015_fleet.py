"""The fleet as declared: planned deliveries, maintenance, checks of nodes, the carbon of sites, figures of SKUs."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.execute("ALTER TABLE sites ADD COLUMN carbon jsonb")
    op.execute("""
        ALTER TABLE skus
            ADD COLUMN accelerator_memory bigint,
            ADD COLUMN sources jsonb NOT NULL DEFAULT '{}'
    """)
    op.execute("""
        CREATE TABLE deliveries (
            id text CONSTRAINT pk_deliveries PRIMARY KEY,
            name text NOT NULL CONSTRAINT uq_deliveries_name UNIQUE,
            site_id text NOT NULL CONSTRAINT fk_deliveries_site_id REFERENCES sites (id),
            sku_id text NOT NULL CONSTRAINT fk_deliveries_sku_id REFERENCES skus (id),
            confidence numeric NOT NULL,
            service_at timestamptz NOT NULL,
            milestones jsonb NOT NULL DEFAULT '{}',
            accepted_at timestamptz,
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL
        )
    """)
    op.execute("""
        CREATE TABLE delivery_leaves (
            delivery_id text NOT NULL
                CONSTRAINT fk_delivery_leaves_delivery_id REFERENCES deliveries (id) ON DELETE CASCADE,
            leaf_id text NOT NULL CONSTRAINT fk_delivery_leaves_leaf_id REFERENCES leaves (id),
            nodes integer NOT NULL,
            CONSTRAINT pk_delivery_leaves PRIMARY KEY (delivery_id, leaf_id)
        )
    """)
    op.execute("CREATE INDEX ix_delivery_leaves_leaf_id ON delivery_leaves (leaf_id)")
    op.execute("""
        CREATE TABLE maintenance (
            id text CONSTRAINT pk_maintenance PRIMARY KEY,
            leaf_id text NOT NULL CONSTRAINT fk_maintenance_leaf_id REFERENCES leaves (id),
            sku_id text NOT NULL CONSTRAINT fk_maintenance_sku_id REFERENCES skus (id),
            nodes integer NOT NULL,
            start_at timestamptz NOT NULL,
            end_at timestamptz NOT NULL,
            reason text NOT NULL,
            created_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX ix_maintenance_leaf_id ON maintenance (leaf_id, end_at)")
    op.execute("""
        ALTER TABLE nodes
            ADD COLUMN until timestamptz,
            ADD COLUMN maintenance_id text
                CONSTRAINT fk_nodes_maintenance_id REFERENCES maintenance (id) ON DELETE SET NULL,
            ADD COLUMN delivery_id text CONSTRAINT fk_nodes_delivery_id REFERENCES deliveries (id) ON DELETE SET NULL
    """)
    op.execute("CREATE INDEX ix_nodes_until ON nodes (until) WHERE until IS NOT NULL")
    op.execute("CREATE INDEX ix_nodes_delivery_id ON nodes (delivery_id) WHERE delivery_id IS NOT NULL")
    op.execute("CREATE INDEX ix_nodes_maintenance_id ON nodes (maintenance_id) WHERE maintenance_id IS NOT NULL")
    op.execute("""
        CREATE TABLE node_checks (
            id text CONSTRAINT pk_node_checks PRIMARY KEY,
            node_id text NOT NULL CONSTRAINT fk_node_checks_node_id REFERENCES nodes (id) ON DELETE CASCADE,
            "check" text NOT NULL,
            at timestamptz NOT NULL,
            ok boolean NOT NULL,
            detail text NOT NULL DEFAULT ''
        )
    """)
    op.execute("CREATE INDEX ix_node_checks_node_id ON node_checks (node_id, id)")
