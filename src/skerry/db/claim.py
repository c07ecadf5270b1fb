"""Leasing rows: claim with a token, work outside the transaction, write only while the token still stands."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Column, ColumnElement, DateTime, Row, Table, Text, and_, or_, select, update

from skerry.db.database import Tx


def lease_columns() -> list[Column[Any]]:
    """The columns a table needs for `claim_rows`: `Table("things", metadata, …, *lease_columns())`."""
    return [Column("lease_token", Text), Column("lease_until", DateTime(timezone=True))]


async def claim_rows(
    tx: Tx,
    table: Table,
    *,
    where: ColumnElement[bool],
    order_by: Sequence[ColumnElement[Any]],
    limit: int,
    lease_seconds: float,
    now: datetime,
) -> list[Row[Any]]:
    """Lease up to `limit` rows that nobody holds; rows as they are now, in no order, with a fresh `lease_token`.

    Rows that another transaction is just claiming are passed over, not waited for. A lease that has ended
    (`lease_until` ≤ `now`) may be taken over: whoever held it will find its guarded update refused.
    """
    free = or_(table.c.lease_until.is_(None), table.c.lease_until <= now)
    picked = (
        select(table.c.id)
        .where(and_(where, free))
        .order_by(*order_by)
        .limit(limit)
        .with_for_update(skip_locked=True, of=table)
        .cte("picked")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    claim = (
        update(table)
        .where(table.c.id == picked.c.id)
        .values(lease_token=uuid4().hex, lease_until=now + timedelta(seconds=lease_seconds))
        .returning(table)
    )
    return list((await tx.execute(claim)).all())


async def guarded_update(
    tx: Tx, table: Table, id: object, lease_token: str, values: Mapping[str, Any], *, release: bool = True
) -> bool:
    """Write `values` and give the lease back (`release=False`: keep it). False, and nothing written, if it was lost."""
    changes = dict(values)
    if release:
        changes |= {"lease_token": None, "lease_until": None}
    if not changes:
        raise ValueError("nothing to write")
    result = await tx.execute(
        update(table).where(table.c.id == id, table.c.lease_token == lease_token).values(**changes)
    )
    return result.rowcount == 1
