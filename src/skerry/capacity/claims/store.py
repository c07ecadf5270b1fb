"""Claims in the database. Whoever inserts or moves claims of a leaf holds the lock of that leaf."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from psycopg.errors import ExclusionViolation
from sqlalchemy import ColumnElement, Row, and_, case, func, insert, literal, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import TSTZRANGE, Range
from sqlalchemy.exc import IntegrityError

from skerry.capacity.claims.errors import NodeTaken
from skerry.capacity.claims.model import Claim, HolderKind
from skerry.capacity.claims.tables import capacity_claims as t
from skerry.db.database import Tx
from skerry.kernel.classes import CapacityClass
from skerry.kernel.ids import ClaimId, LeafId, NodeId

_UPPER: Final = func.upper(t.c.during)


class ClaimStore:
    async def insert(self, tx: Tx, claims: Sequence[Claim]) -> None:
        """All or none. Raises NodeTaken, after which the transaction may go on without them."""
        if not claims:
            return
        await self._guarded(tx, insert(t), [_values(claim) for claim in claims])

    async def end(self, tx: Tx, ids: Collection[ClaimId], at: datetime, *, released: bool = False) -> None:
        """These claims hold their nodes no longer than until `at`; what has not begun by then never did.

        `released`: their holders are gone as well.
        """
        if not ids:
            return
        begun = func.lower(t.c.during) < at
        shorter = and_(begun, or_(func.upper_inf(t.c.during), at < _UPPER))
        cut = func.tstzrange(func.lower(t.c.during), literal(at, type_=t.c.delivered_at.type), "[)", type_=TSTZRANGE)
        values: dict[str, Any] = {"during": case((shorter, cut), else_=t.c.during), "void": or_(t.c.void, ~begun)}
        if released:
            values["released_at"] = func.coalesce(t.c.released_at, at)
        await tx.execute(update(t).where(t.c.id.in_(ids)).values(values))

    async def extend(self, tx: Tx, ids: Collection[ClaimId], until: datetime) -> None:
        """These claims end at `until`, later or earlier than before. Raises NodeTaken, and then nothing has changed."""
        if not ids:
            return
        until_then = func.tstzrange(
            func.lower(t.c.during), literal(until, type_=t.c.delivered_at.type), "[)", type_=TSTZRANGE
        )
        await self._guarded(tx, update(t).where(t.c.id.in_(ids)).values(during=until_then))

    async def live(
        self, tx: Tx, keys: Collection[tuple[LeafId, str]], now: datetime, *, nodes: Collection[NodeId] | None = None
    ) -> list[Claim]:
        """All claims on these (leaf, SKU) that hold a node now or later, by node and start."""
        if not keys or (nodes is not None and not nodes):
            return []
        where: list[ColumnElement[bool]] = [tuple_(t.c.leaf, t.c.sku).in_(list(keys)), ~t.c.void, _not_over(now)]
        if nodes is not None:
            where.append(t.c.node.in_(nodes))
        rows = await tx.execute(select(t).where(*where).order_by(t.c.node, func.lower(t.c.during), t.c.id))
        return [_claim(row) for row in rows]

    async def unreleased(self, tx: Tx, leaf: LeafId, sku: str, now: datetime) -> list[Claim]:
        """Claims of workloads that are over while their holder is not known to be gone."""
        rows = await tx.execute(
            select(t).where(
                t.c.leaf == leaf,
                t.c.sku == sku,
                t.c.holder_kind == HolderKind.WORKLOAD.value,
                ~t.c.void,
                t.c.released_at.is_(None),
                now >= _UPPER,
            )
        )
        return [_claim(row) for row in rows]

    async def of_holders(
        self,
        tx: Tx,
        holders: Collection[str],
        *,
        live_at: datetime | None = None,
        key: tuple[LeafId, str] | None = None,
    ) -> list[Claim]:
        """Claims of reservations or workloads, by start; over ones and void ones too unless `live_at` is given.

        `key`: only those of this leaf and SKU.
        """
        if not holders:
            return []
        where: list[ColumnElement[bool]] = [t.c.holder.in_(holders)]
        if live_at is not None:
            where += [~t.c.void, _not_over(live_at)]
        if key is not None:
            where += [t.c.leaf == key[0], t.c.sku == key[1]]
        rows = await tx.execute(select(t).where(*where).order_by(func.lower(t.c.during), t.c.node, t.c.id))
        return [_claim(row) for row in rows]

    async def inside(self, tx: Tx, reservation: str, now: datetime) -> list[Claim]:
        """Live claims of the workloads that run inside a reservation."""
        rows = await tx.execute(
            select(t)
            .where(
                t.c.reservation == reservation,
                t.c.holder_kind == HolderKind.WORKLOAD.value,
                ~t.c.void,
                _not_over(now),
            )
            .order_by(t.c.node, t.c.id)
        )
        return [_claim(row) for row in rows]

    async def reclaim(self, tx: Tx, ids: Collection[ClaimId], at: datetime) -> None:
        """Give notice: by `at` their holders are to be gone. An earlier notice stands."""
        if ids:
            notice = func.least(func.coalesce(t.c.reclaim_at, at), at)
            await tx.execute(update(t).where(t.c.id.in_(ids)).values(reclaim_at=notice))

    async def reclaimed(self, tx: Tx, until: datetime, limit: int = 500) -> list[Claim]:
        """Claims under notice whose holders are not gone yet, the most urgent first; notices up to `until`."""
        rows = await tx.execute(
            select(t)
            .where(t.c.reclaim_at.is_not(None), t.c.released_at.is_(None), ~t.c.void, t.c.reclaim_at <= until)
            .order_by(t.c.reclaim_at)
            .limit(limit)
        )
        return [_claim(row) for row in rows]

    async def delivered(self, tx: Tx, ids: Collection[ClaimId], at: datetime) -> None:
        """Whoever runs these nodes says that they are there for their holder; the first word counts."""
        if ids:
            await tx.execute(update(t).where(t.c.id.in_(ids), t.c.delivered_at.is_(None)).values(delivered_at=at))

    async def undelivered(self, tx: Tx, ids: Collection[ClaimId]) -> None:
        """They are not there any more, or not yet."""
        if ids:
            gone = update(t).where(t.c.id.in_(ids), t.c.delivered_at.is_not(None))
            await tx.execute(gone.values(delivered_at=None))

    async def on_nodes(self, tx: Tx, nodes: Collection[NodeId], now: datetime) -> list[Claim]:
        """All claims that hold one of these nodes now or later, by node and start."""
        if not nodes:
            return []
        where = (t.c.node.in_(nodes), ~t.c.void, _not_over(now))
        rows = await tx.execute(select(t).where(*where).order_by(t.c.node, func.lower(t.c.during), t.c.id))
        return [_claim(row) for row in rows]

    async def _guarded(self, tx: Tx, statement: Any, rows: Sequence[Mapping[str, Any]] | None = None) -> None:
        """In a savepoint: a refusal by the constraint undoes this statement alone."""
        try:
            async with tx.begin_nested():
                if rows is None:
                    await tx.execute(statement)
                else:
                    await tx.execute(statement, list(rows))
        except IntegrityError as error:
            if isinstance(error.orig, ExclusionViolation):
                raise NodeTaken from None
            raise


def _not_over(now: datetime) -> Any:
    return or_(func.upper_inf(t.c.during), now < _UPPER)


def _values(claim: Claim) -> dict[str, Any]:
    return {
        "id": claim.id,
        "project": claim.project,
        "holder_kind": claim.holder_kind.value,
        "holder": claim.holder,
        "capacity_class": claim.capacity_class.value,
        "reservation": claim.reservation,
        "leg": claim.leg,
        "leaf": claim.leaf,
        "sku": claim.sku,
        "node": claim.node,
        "accelerators": Range(*claim.accelerators),
        "level": Range(*claim.level),
        "during": Range(claim.start, claim.end),
        "pool": claim.pool,
        "void": claim.void,
        "created_at": claim.created_at,
        "delivered_at": claim.delivered_at,
        "reclaim_at": claim.reclaim_at,
        "released_at": claim.released_at,
    }


def _claim(row: Row[Any]) -> Claim:
    return Claim(
        id=row.id,
        project=row.project,
        holder_kind=HolderKind(row.holder_kind),
        holder=row.holder,
        capacity_class=CapacityClass(row.capacity_class),
        leaf=row.leaf,
        sku=row.sku,
        node=row.node,
        accelerators=(row.accelerators.lower, row.accelerators.upper),
        start=row.during.lower,
        end=row.during.upper,
        created_at=row.created_at,
        reservation=row.reservation,
        leg=row.leg,
        pool=row.pool,
        void=row.void,
        delivered_at=row.delivered_at,
        reclaim_at=row.reclaim_at,
        released_at=row.released_at,
    )
