"""Tables of the binder: where it is with each reservation, and what was delivered of it."""

from typing import Final

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, Table, Text, text

from skerry.capacity.tables import reservations
from skerry.db.claim import lease_columns
from skerry.db.schema import metadata

# A row for each reservation from its start less the lead time until all of it is on record.
reservation_bindings: Final = Table(
    "reservation_bindings",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    # Counts hints that something happened: one that comes while the row is leased is seen when the lease is given back.
    Column("hints", BigInteger, nullable=False, server_default="0"),
    # When it was first there as a whole: nothing counts as delivered before.
    Column("active_at", DateTime(timezone=True)),
    Column("metered_through", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    Column("failures", Integer, nullable=False, server_default="0"),
    *lease_columns(),
    Index("ix_reservation_bindings_due", "due_at", postgresql_where=text("ended_at IS NULL")),
)

reservation_delivery: Final = Table(
    "reservation_delivery",
    metadata,
    Column("reservation", Text, primary_key=True),
    Column("t0", DateTime(timezone=True), primary_key=True),
    Column("site", Text, primary_key=True),
    Column("t1", DateTime(timezone=True), nullable=False),
    Column("project", Text, nullable=False),
    # Node-seconds.
    Column("promised", BigInteger, nullable=False),
    Column("delivered", BigInteger, nullable=False),
)

Index(
    "ix_reservations_confirmed",
    reservations.c.start_at,
    postgresql_where=text("status = 'confirmed'"),
)
