"""What gateways have, and how they say it. Across projects: a gateway serves all of them."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Row, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from skerry.db.database import Tx
from skerry.inference.model import Demand, Desired
from skerry.inference.tables import demands as d
from skerry.inference.tables import endpoints as e
from skerry.inference.tables import gateway_reports as g
from skerry.kernel.ids import EndpointId


class DemandStore:
    async def report(self, tx: Tx, gateway: str, demands: Sequence[Demand], at: datetime) -> None:
        heard = insert(g).values(gateway=gateway, reported_at=at)
        await tx.execute(heard.on_conflict_do_update(index_elements=[g.c.gateway], set_={"reported_at": at}))
        # In one order, so that two reports of one gateway (before and after its restart) cannot wait for each other.
        rows = [
            {
                "gateway": gateway,
                "endpoint": demand.endpoint,
                "in_flight": demand.in_flight,
                "waiting": demand.waiting,
                "batch_waiting": demand.batch_waiting,
                "longest_wait_seconds": demand.longest_wait_seconds,
                "requests_per_minute": demand.requests_per_minute,
                "tokens_per_second": demand.tokens_per_second,
                "first_token_ms": demand.first_token_ms,
                "reported_at": at,
            }
            for demand in sorted(demands, key=lambda demand: demand.endpoint)
        ]
        if rows:
            upsert = insert(d).values(rows)
            fresh = {name: upsert.excluded[name] for name in rows[0] if name not in ("gateway", "endpoint")}
            await tx.execute(upsert.on_conflict_do_update(index_elements=[d.c.gateway, d.c.endpoint], set_=fresh))

    async def hint(self, tx: Tx, endpoints: Sequence[EndpointId], since: datetime, now: datetime) -> bool:
        """Have those looked at that have more to do than what is wanted of them can take; whether there are any."""
        load = (
            select(func.sum(d.c.in_flight + d.c.waiting))
            .where(d.c.endpoint == e.c.id, d.c.reported_at > since)
            .scalar_subquery()
        )
        crowded = (
            e.c.id.in_(endpoints),
            e.c.due_at.is_not(None),
            e.c.desired == Desired.RUN.value,
            e.c.parked_at.is_(None),
            or_(e.c.wanted == 0, e.c.wanted < e.c.max_replicas),
            load > e.c.takes,
        )
        hinted = update(e).where(*crowded).values(due_at=now, hints=e.c.hints + 1)
        return (await tx.execute(hinted)).rowcount > 0

    async def of_endpoint(self, tx: Tx, endpoint: EndpointId, since: datetime) -> list[Demand]:
        rows = await tx.execute(select(d).where(d.c.endpoint == endpoint, d.c.reported_at > since))
        return [_demand(row) for row in rows]

    async def newest(self, tx: Tx, endpoint: EndpointId, since: datetime) -> datetime | None:
        query = select(func.max(d.c.reported_at)).where(d.c.endpoint == endpoint, d.c.reported_at > since)
        found: datetime | None = (await tx.execute(query)).scalar_one_or_none()
        return found

    async def gateways(self, tx: Tx, since: datetime) -> int:
        query = select(func.count()).select_from(g).where(g.c.reported_at > since)
        return (await tx.execute(query)).scalar_one()

    async def forget(self, tx: Tx, before: datetime) -> None:
        """What gateways said that are long gone."""
        await tx.execute(delete(d).where(d.c.reported_at < before))
        await tx.execute(delete(g).where(g.c.reported_at < before))


def _demand(row: Row[tuple[object, ...]]) -> Demand:
    return Demand(
        endpoint=EndpointId(row.endpoint),
        in_flight=row.in_flight,
        waiting=row.waiting,
        longest_wait_seconds=row.longest_wait_seconds,
        requests_per_minute=row.requests_per_minute,
        tokens_per_second=row.tokens_per_second,
        first_token_ms=row.first_token_ms,
        batch_waiting=row.batch_waiting,
    )
