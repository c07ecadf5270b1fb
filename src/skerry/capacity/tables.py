"""Tables of capacity: what was quoted, what is promised. Claims of nodes have their own (`claims/tables.py`)."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, DateTime, ForeignKey, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from skerry.db.schema import metadata

quotes: Final = Table(
    "quotes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("request", JSONB, nullable=False),
    Column("no_offer", JSONB(none_as_null=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Index("ix_quotes_created_at", "created_at"),
)

offers: Final = Table(
    "offers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("quote_id", Text, ForeignKey("quotes.id", ondelete="CASCADE"), nullable=False),
    Column("project", Text, nullable=False),
    Column("n", Integer, nullable=False),
    Column("body", JSONB, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Index("ix_offers_quote_id", "quote_id", "n"),
)

reservations: Final = Table(
    "reservations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("organization", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("sku", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", JSONB, nullable=False),
    Column("scope", Text, nullable=False),
    Column("scope_required", Boolean, nullable=False),
    Column("price", JSONB, nullable=False),
    Column("energy", JSONB, nullable=False),
    Column("tags", JSONB, nullable=False),
    # One offer is sold once. NULL: it came of a split.
    Column("offer_id", Text, unique=True),
    Column("parent", Text),
    # Of all its legs together: [start_at, end_at).
    Column("start_at", DateTime(timezone=True), nullable=False),
    Column("end_at", DateTime(timezone=True), nullable=False),
    Column("node_seconds", BigInteger, nullable=False),
    # Another one after every change: a change quote is good for the one it was made for.
    Column("version", Integer, nullable=False, server_default="1"),
    # Of a hold.
    Column("expires_at", DateTime(timezone=True)),
    Column("confirmed_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    Column("created_by", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Index("ix_reservations_project", "project", "id"),
    Index("ix_reservations_held", "organization", "expires_at", postgresql_where=text("status = 'held'")),
    Index(
        "ix_reservations_let_go",
        "organization",
        "created_at",
        postgresql_where=text("confirmed_at IS NULL AND status IN ('expired', 'cancelled')"),
    ),
    Index("ix_reservations_holds", "expires_at", postgresql_where=text("status = 'held'")),
)

reservation_legs: Final = Table(
    "reservation_legs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("reservation", Text, ForeignKey("reservations.id"), nullable=False),
    Column("project", Text, nullable=False),
    # The leaf's id; names are as they were when it was sold.
    Column("leaf", Text, nullable=False),
    Column("leaf_name", Text, nullable=False),
    Column("hall", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("sku", Text, nullable=False),
    Column("nodes", Integer, nullable=False),
    Column("start_at", DateTime(timezone=True), nullable=False),
    Column("end_at", DateTime(timezone=True), nullable=False),
    # Of a hold: from then on the nodes are free, whoever has or has not written that down.
    Column("expires_at", DateTime(timezone=True)),
    # Whether it counts against the calendar; one that does not is history.
    Column("live", Boolean, nullable=False),
    Index("ix_reservation_legs_reservation", "reservation"),
    Index("ix_reservation_legs_leaf", "leaf", "sku", "end_at", postgresql_where=text("live")),
)

leaf_versions: Final = Table(
    "leaf_versions",
    metadata,
    Column("leaf", Text, primary_key=True),
    Column("sku", Text, primary_key=True),
    # Rises with everything that is promised or given back there, and with every change of its supply.
    Column("version", BigInteger, nullable=False),
    # Rises with changes of its supply alone.
    Column("supply", BigInteger, nullable=False),
)

change_quotes: Final = Table(
    "change_quotes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("reservation", Text, ForeignKey("reservations.id"), nullable=False),
    Column("project", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("body", JSONB, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("used_at", DateTime(timezone=True)),
    Index("ix_change_quotes_reservation", "reservation"),
    Index("ix_change_quotes_created_at", "created_at"),
)
