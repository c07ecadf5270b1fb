"""Sites, halls, leaves, SKUs and nodes."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE sites (
            id text CONSTRAINT pk_sites PRIMARY KEY,
            name text NOT NULL CONSTRAINT uq_sites_name UNIQUE,
            country text,
            grid_zone text,
            pue numeric,
            power_cap_kw numeric,
            energy_price numeric,
            energy_currency text,
            carbon_source text,
            created_at timestamptz NOT NULL
        )
    """)
    op.execute("""
        CREATE TABLE halls (
            id text CONSTRAINT pk_halls PRIMARY KEY,
            name text NOT NULL CONSTRAINT uq_halls_name UNIQUE,
            site_id text NOT NULL CONSTRAINT fk_halls_site_id REFERENCES sites (id),
            created_at timestamptz NOT NULL
        )
    """)
    op.execute("""
        CREATE TABLE leaves (
            id text CONSTRAINT pk_leaves PRIMARY KEY,
            name text NOT NULL CONSTRAINT uq_leaves_name UNIQUE,
            hall_id text NOT NULL CONSTRAINT fk_leaves_hall_id REFERENCES halls (id),
            fabric text,
            spares integer NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL
        )
    """)
    op.execute("""
        CREATE TABLE skus (
            id text CONSTRAINT pk_skus PRIMARY KEY,
            name text NOT NULL CONSTRAINT uq_skus_name UNIQUE,
            accelerator text NOT NULL,
            accelerators_per_node integer NOT NULL,
            cpu integer NOT NULL,
            memory bigint NOT NULL,
            nvlink boolean NOT NULL,
            tdp_w integer,
            idle_w integer,
            on_demand_nodes integer,
            created_at timestamptz NOT NULL
        )
    """)
    op.execute("""
        CREATE TABLE nodes (
            id text CONSTRAINT pk_nodes PRIMARY KEY,
            hostname text NOT NULL CONSTRAINT uq_nodes_hostname UNIQUE,
            sku_id text NOT NULL CONSTRAINT fk_nodes_sku_id REFERENCES skus (id),
            leaf_id text NOT NULL CONSTRAINT fk_nodes_leaf_id REFERENCES leaves (id),
            accelerators jsonb NOT NULL,
            status text NOT NULL,
            status_reason jsonb,
            health jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX ix_nodes_leaf_id ON nodes (leaf_id)")
