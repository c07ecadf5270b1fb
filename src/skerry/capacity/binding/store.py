"""Rows of the binder, and what it reads of reservations. Across all projects: nothing here is a customer's question."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, and_, exists, func, literal, literal_column, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert

from skerry.capacity.binding.model import Booked, DeliveryRow, Work
from skerry.capacity.binding.rules.choosing import Need
from skerry.capacity.binding.rules.delivery import Promise, Record
from skerry.capacity.binding.tables import reservation_bindings as b
from skerry.capacity.binding.tables import reservation_delivery as d
from skerry.capacity.claims.tables import capacity_claims as c
from skerry.capacity.model import ReservationStatus
from skerry.capacity.tables import reservation_legs as g
from skerry.capacity.tables import reservations as r
from skerry.db.claim import claim_rows, guarded_update
from skerry.db.database import Tx
from skerry.kernel.ids import LeafId, ProjectId, ReservationId

BOUND: Final = (
    ReservationStatus.CONFIRMED,
    ReservationStatus.DELIVERING,
    ReservationStatus.LATE,
    ReservationStatus.ACTIVE,
)
"""In these a reservation has nodes from its start less the lead time on."""
_ADOPT_A_PASS: Final = 500
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class BindingStore:
    """Leases, needs and records."""

    async def adopt(self, tx: Tx, starting_by: datetime, now: datetime) -> int:
        """Take on what was bought and starts by then; how many there were. What is further on was taken on before."""
        known = exists().where(b.c.id == r.c.id)
        due = (
            select(r.c.id, r.c.project, literal(now, type_=b.c.due_at.type))
            .where(r.c.status == literal_column("'confirmed'"), r.c.start_at <= starting_by, ~known)
            .order_by(r.c.start_at)
            .limit(_ADOPT_A_PASS)
        )
        adopted = upsert(b).from_select(["id", "project", "due_at"], due).on_conflict_do_nothing()
        return (await tx.execute(adopted)).rowcount

    async def claim(self, tx: Tx, now: datetime, limit: int, lease_seconds: float) -> list[Work]:
        rows = await claim_rows(
            tx,
            b,
            where=and_(b.c.ended_at.is_(None), b.c.due_at <= now),
            order_by=[b.c.due_at, b.c.id],
            limit=limit,
            lease_seconds=lease_seconds,
            now=now,
        )
        return [_work(row) for row in rows]

    async def lock(self, tx: Tx, work: Work) -> Work | None:
        """The row as it is now, locked; None where the lease was lost."""
        held = and_(b.c.id == work.id, b.c.lease_token == work.lease_token)
        row = (await tx.execute(select(b).where(held).with_for_update())).one_or_none()
        return _work(row) if row is not None else None

    async def release(self, tx: Tx, work: Work, values: dict[str, Any]) -> bool:
        return await guarded_update(tx, b, work.id, work.lease_token, values)

    async def hint(self, tx: Tx, reservations: Collection[ReservationId], now: datetime) -> int:
        """Have these looked at now; how many. A row that is being worked on is passed over: that work has yet to wait
        for a lock of the caller's, the reservation's or a leaf's, and then sees what the caller did."""
        return await self._hint(tx, b.c.id.in_(reservations), now) if reservations else 0

    async def hint_leaves(self, tx: Tx, leaves: Collection[LeafId] | None, now: datetime) -> int:
        """The same for all that have, or are to have, nodes of these leaves (None: of any)."""
        if leaves is None:
            return await self._hint(tx, b.c.ended_at.is_(None), now)
        theirs = select(g.c.reservation).where(g.c.leaf.in_(leaves), g.c.live, g.c.end_at > now)
        return await self._hint(tx, b.c.id.in_(theirs), now)

    async def _hint(self, tx: Tx, which: ColumnElement[bool], now: datetime) -> int:
        free = select(b.c.id).where(which, b.c.ended_at.is_(None)).with_for_update(skip_locked=True)
        hinted = update(b).where(b.c.id.in_(free)).values(due_at=func.least(b.c.due_at, now), hints=b.c.hints + 1)
        return (await tx.execute(hinted)).rowcount

    async def lock_reservation(self, tx: Tx, id: ReservationId) -> Booked:
        """Before any lock of a leaf, as everybody who changes a reservation does."""
        row = (await tx.execute(select(r).where(r.c.id == id).with_for_update())).one()
        return Booked(
            id=row.id,
            project=row.project,
            sku=row.sku,
            status=ReservationStatus(row.status),
            reason_code=row.status_reason.get("code", ""),
            reason=row.status_reason.get("message", ""),
            start=row.start_at,
            end=row.end_at,
            parent=row.parent,
            ended_at=row.ended_at,
        )

    async def explain(self, tx: Tx, booked: Booked, reason: dict[str, str], now: datetime) -> None:
        await tx.execute(
            update(r)
            .where(r.c.id == booked.id, r.c.project == booked.project)
            .values(status_reason=reason, updated_at=now)
        )

    async def keys(self, tx: Tx, id: ReservationId, now: datetime) -> list[tuple[LeafId, str]]:
        """Leaves and SKUs where it is to have nodes, now or later, or still has some."""
        legs = select(g.c.leaf, g.c.sku).where(g.c.reservation == id, g.c.live, g.c.end_at > now)
        claims = select(c.c.leaf, c.c.sku).where(c.c.holder == id, ~c.c.void, now < func.upper(c.c.during))
        return [(LeafId(leaf), sku) for leaf, sku in await tx.execute(legs.union(claims))]

    async def needs(
        self, tx: Tx, keys: Collection[tuple[LeafId, str]], starting_by: datetime, now: datetime
    ) -> dict[tuple[LeafId, str], list[Need]]:
        """Legs of those leaves that are to have their nodes now, of all reservations that the binder has taken on."""
        found: dict[tuple[LeafId, str], list[Need]] = {key: [] for key in keys}
        query = (
            select(g)
            .join(r, r.c.id == g.c.reservation)
            .join(b, b.c.id == g.c.reservation)
            .where(
                tuple_(g.c.leaf, g.c.sku).in_(list(keys)),
                g.c.live,
                g.c.start_at <= starting_by,
                g.c.end_at > now,
                r.c.status.in_([status.value for status in BOUND]),
            )
        )
        for row in await tx.execute(query) if keys else ():
            need = Need(row.id, row.reservation, row.nodes, row.start_at, row.end_at, row.project)
            found[row.leaf, row.sku].append(need)
        return found

    async def families(self, tx: Tx, ids: Iterable[ReservationId]) -> dict[ReservationId, ReservationId | None]:
        """What each of these reservations was split from."""
        rows = await tx.execute(select(r.c.id, r.c.parent).where(r.c.id.in_(list(ids))))
        return {row.id: row.parent for row in rows}

    async def promises(self, tx: Tx, booked: Booked) -> list[Promise]:
        """All of its legs, those that are over included, as far as they went before it ended."""
        rows = await tx.execute(select(g).where(g.c.reservation == booked.id).order_by(g.c.start_at, g.c.id))
        last = (
            booked.ended_at.replace(microsecond=0) if booked.ended_at is not None else datetime.max.replace(tzinfo=UTC)
        )
        legs = [Promise(row.leaf, row.site, row.nodes, row.start_at, min(row.end_at, last)) for row in rows]
        return [leg for leg in legs if leg.start < leg.end]

    async def record(self, tx: Tx, id: ReservationId, project: ProjectId, pieces: Sequence[Record]) -> None:
        """A second time changes nothing: what is on record stands."""
        if pieces:
            rows = [
                {
                    "reservation": id,
                    "project": project,
                    "site": piece.site,
                    "t0": piece.t0,
                    "t1": piece.t1,
                    "promised": piece.promised,
                    "delivered": piece.delivered,
                }
                for piece in pieces
            ]
            await tx.execute(upsert(d).on_conflict_do_nothing(), rows)

    async def recorded(
        self, tx: Tx, project: ProjectId, id: ReservationId, after: tuple[datetime, str] | None, limit: int
    ) -> list[DeliveryRow]:
        """In order of time, after a place in that order."""
        query = select(d).where(d.c.project == project, d.c.reservation == id)
        if after is not None:
            query = query.where(tuple_(d.c.t0, d.c.site) > after)
        rows = await tx.execute(query.order_by(d.c.t0, d.c.site).limit(limit))
        return [DeliveryRow(row.site, row.t0, row.t1, row.promised, row.delivered) for row in rows]

    async def recorded_sum(self, tx: Tx, project: ProjectId, id: ReservationId) -> tuple[int, int]:
        """Node-seconds promised and delivered, as far as they are on record."""
        query = select(func.coalesce(func.sum(d.c.promised), 0), func.coalesce(func.sum(d.c.delivered), 0))
        row = (await tx.execute(query.where(d.c.project == project, d.c.reservation == id))).one()
        return int(row[0]), int(row[1])


def _work(row: Row[Any]) -> Work:
    return Work(
        id=row.id,
        project=row.project,
        lease_token=row.lease_token or "",
        hints=row.hints,
        failures=row.failures,
        active_at=row.active_at,
        metered_through=row.metered_through,
    )
