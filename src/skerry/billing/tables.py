"""Tables of billing. Private: only the stores of this package read and write them."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from skerry.db.schema import metadata

_TIME = DateTime(timezone=True)

price_books: Final = Table(
    "price_books",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("currency", Text, nullable=False),
    Column("effective_from", _TIME, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("created_by", Text, nullable=False),
)
"""Append-only, like their lines: what was charged can be computed again."""

prices: Final = Table(
    "prices",
    metadata,
    Column("book", Integer, ForeignKey("price_books.version"), primary_key=True, autoincrement=False),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("meter", Text, nullable=False),
    Column("price_line", Text),
    Column("model", Text),
    Column("sku", Text),
    Column("site", Text),
    Column("capacity_class", Text),
    Column("charge_by", Text),
    Column("unit_quantity", BigInteger, nullable=False),
    Column("unit_price", Numeric, nullable=False),
)

balance_accounts: Final = Table(
    "balance_accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("target_kind", Text, nullable=False),
    Column("target_id", Text, nullable=False),
    Column("organization", Text),
    Column("project", Text),
    Column("window_kind", Text, nullable=False),
    Column("limit_nano", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("alert_at", JSONB, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("updated_at", _TIME, nullable=False),
    Column("deleted_at", _TIME),
    CheckConstraint("num_nonnulls(project, organization) = 1", name="owner"),
)
"""An account belongs to a project, or else to an organization."""
Index(
    "ix_balance_accounts_single",
    balance_accounts.c.kind,
    balance_accounts.c.target_id,
    unique=True,
    postgresql_where=text("kind <> 'budget' AND deleted_at IS NULL"),
)
_LIVE = text("deleted_at IS NULL")
Index(
    "ix_balance_accounts_target",
    balance_accounts.c.target_id,
    balance_accounts.c.target_kind,
    postgresql_where=_LIVE,
)
Index("ix_balance_accounts_project", balance_accounts.c.project, balance_accounts.c.id, postgresql_where=_LIVE)
Index(
    "ix_balance_accounts_organization",
    balance_accounts.c.organization,
    balance_accounts.c.id,
    postgresql_where=_LIVE,
)

balance_periods: Final = Table(
    "balance_periods",
    metadata,
    Column("account", Text, ForeignKey("balance_accounts.id"), primary_key=True),
    Column("period_start", _TIME, primary_key=True),
    Column("period_end", _TIME, nullable=False),
    Column("committed_nano", BigInteger, nullable=False),
    Column("spent_nano", BigInteger, nullable=False),
    Column("alerts_sent", JSONB, nullable=False),
)

balance_leases: Final = Table(
    "balance_leases",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account", Text, ForeignKey("balance_accounts.id"), nullable=False),
    Column("period_start", _TIME, nullable=False),
    Column("journal", Text, nullable=False),
    Column("amount_nano", BigInteger, nullable=False),
    Column("spent_nano", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("expires_at", _TIME, nullable=False),
    Column("closed_at", _TIME),
)
Index(
    "ix_balance_leases_open",
    balance_leases.c.journal,
    balance_leases.c.expires_at,
    postgresql_where=text("state = 'open'"),
)
Index(
    "ix_balance_leases_account",
    balance_leases.c.account,
    balance_leases.c.id,
    postgresql_where=text("state = 'open'"),
)
Index("ix_balance_leases_journal", balance_leases.c.journal)

contracts: Final = Table(
    "contracts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("starts_at", _TIME, nullable=False),
    Column("ends_at", _TIME),
    Column("cancellation", JSONB, nullable=False),
    Column("credit_limit_nano", BigInteger),
    Column("credit_before_nano", BigInteger),
    Column("credit_applied_at", _TIME),
    Column("credit_lifted_at", _TIME),
    Column("created_at", _TIME, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("ended_by", Text),
    CheckConstraint("ends_at IS NULL OR ends_at >= starts_at", name="window"),
)
"""One in force at a time for each organization: the database excludes that they overlap."""
Index("ix_contracts_organization", contracts.c.organization, contracts.c.id)

contract_prices: Final = Table(
    "contract_prices",
    metadata,
    Column("contract", Text, ForeignKey("contracts.id"), primary_key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("meter", Text, nullable=False),
    Column("price_line", Text),
    Column("model", Text),
    Column("sku", Text),
    Column("site", Text),
    Column("capacity_class", Text),
    Column("charge_by", Text),
    Column("unit_quantity", BigInteger, nullable=False),
    Column("unit_price", Numeric, nullable=False),
)

reserved_terms: Final = Table(
    "reserved_terms",
    metadata,
    Column("reservation", Text, primary_key=True),
    Column("organization", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("contract", Text),
    Column("cancellation", JSONB, nullable=False),
    Column("rates", JSONB, nullable=False),
    Column("legs", JSONB, nullable=False),
    Column("first_hour", _TIME, nullable=False),
    Column("last_hour", _TIME, nullable=False),
    Column("opened_at", _TIME, nullable=False),
    Column("opened_by", Text, nullable=False),
    Column("changed_at", _TIME, nullable=False),
    Column("closed_at", _TIME),
    Column("settled_at", _TIME),
)
"""What a reservation was sold at, for its life; all its rates lie in `[first_hour, last_hour)`."""
Index("ix_reserved_terms_project", reserved_terms.c.project, reserved_terms.c.last_hour)
Index(
    "ix_reserved_terms_unsettled",
    reserved_terms.c.first_hour,
    postgresql_where=text("settled_at IS NULL"),
)

one_off_charges: Final = Table(
    "one_off_charges",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("resource", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("amount", Numeric, nullable=False),
    Column("currency", Text, nullable=False),
    Column("at", _TIME, nullable=False),
    Column("reason", Text, nullable=False),
    Column("dims", JSONB, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("created_by", Text, nullable=False),
)
"""Append-only."""
Index("ix_one_off_charges_project", one_off_charges.c.project, one_off_charges.c.at)
