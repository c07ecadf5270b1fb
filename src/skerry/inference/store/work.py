"""Leases of the reconciler, across projects."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, select

from skerry.db.claim import claim_rows, guarded_update
from skerry.db.database import Tx
from skerry.inference.model import Endpoint
from skerry.inference.store.rows import endpoint_of
from skerry.inference.tables import endpoints as e


@dataclass(frozen=True, slots=True)
class Claimed:
    """An endpoint under lease. `hints` is the count of hints when it was claimed."""

    endpoint: Endpoint
    lease_token: str
    hints: int
    wishes: int


class EndpointWork:
    """What the reconciler holds."""

    async def claim(self, tx: Tx, limit: int, lease_seconds: float, now: datetime) -> list[Claimed]:
        rows = await claim_rows(
            tx,
            e,
            where=e.c.due_at <= now,
            order_by=[e.c.due_at, e.c.id],
            limit=limit,
            lease_seconds=lease_seconds,
            now=now,
        )
        return [Claimed(endpoint_of(row), row.lease_token, row.hints, row.wishes) for row in rows]

    async def keep(self, tx: Tx, claimed: Claimed) -> bool:
        """Lock the row for the rest of the transaction. False: the lease was lost, or somebody wants it otherwise
        since it was claimed."""
        mine = (e.c.id == claimed.endpoint.id) & (e.c.lease_token == claimed.lease_token)
        query = select(e.c.id).where(mine, e.c.wishes == claimed.wishes).with_for_update()
        return (await tx.execute(query)).first() is not None

    async def give_back(
        self, tx: Tx, claimed: Claimed, due_in: float | None, now: datetime, values: Mapping[str, Any]
    ) -> bool:
        """Look again in `due_in` seconds, or at once where a hint came meanwhile."""
        due = None if due_in is None else now + timedelta(seconds=due_in)
        again = case((e.c.hints == claimed.hints, due), else_=now)
        changes = {**values, "due_at": again}
        return await guarded_update(tx, e, claimed.endpoint.id, claimed.lease_token, changes)
