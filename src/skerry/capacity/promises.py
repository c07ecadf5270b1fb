"""What is promised, as the database has it. Whoever decides by it holds the leaves' locks (`locking.py`)."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, or_, select, text, tuple_

from skerry.capacity.calendar.model import Booking, LeafKey
from skerry.capacity.model import ReservationStatus
from skerry.capacity.moments import ceil_second, seconds
from skerry.capacity.tables import leaf_versions, reservation_legs, reservations
from skerry.db.database import Tx
from skerry.fleet.model import Step
from skerry.kernel.ids import LeafId, ProjectId, ReservationId
from skerry.kernel.windows import Window

FOREVER: Final = seconds(datetime(9999, 1, 1, tzinfo=UTC))
"""The end of what is open-ended, in Unix seconds."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A leg that counts against the calendar, and whose it is."""

    leg: str
    reservation: ReservationId
    project: ProjectId
    status: ReservationStatus
    created_at: datetime
    leaf: LeafId
    leaf_name: str
    sku: str
    nodes: int
    window: Window
    expires_at: datetime | None
    """Of a hold."""

    @property
    def key(self) -> LeafKey:
        return LeafKey(self.leaf, self.sku)


@dataclass(frozen=True, slots=True)
class Version:
    """`promises` rises with every change on a leaf, `supply` only where there are more or fewer nodes."""

    promises: int = 0
    supply: int = 0


# Each node with an on-demand claim outside the pool or in it counts once, however many parts of it are taken.
_ON_DEMAND = """
    SELECT leaf, sku, node, pool, lower(taken) AS start_at, upper(taken) AS end_at
      FROM (SELECT leaf, sku, node, pool, unnest(range_agg(during)) AS taken
              FROM capacity_claims
             WHERE NOT void AND capacity_class = 'on_demand' AND (upper_inf(during) OR upper(during) > :now) {of}
             GROUP BY leaf, sku, node, pool) AS by_node
"""
_ALL_ON_DEMAND: Final = text(_ON_DEMAND.format(of=""))
_SOME_ON_DEMAND: Final = text(_ON_DEMAND.format(of="AND leaf = ANY(:leaves)"))

_LEAST_FREE: Final = text("SELECT capacity_least_free(:leaf, :sku, :start, :end, :now, :starts, :nodes)")
_TOUCH: Final = text("SELECT capacity_touch(:leaves, :skus, :supply)")


class Promises:
    """Legs, on-demand claims and versions of leaves."""

    async def legs(self, tx: Tx, keys: Collection[LeafKey] | None, now: datetime) -> list[Promise]:
        """Legs that are live and not over, by start; of some leaves or (None) all. Lapsed holds are left out."""
        legs = reservation_legs.c
        where: list[ColumnElement[bool]] = [
            legs.live,
            legs.end_at > now,
            or_(legs.expires_at.is_(None), legs.expires_at > now),
        ]
        if keys is not None:
            where.append(tuple_(legs.leaf, legs.sku).in_([(key.leaf, key.sku) for key in keys]))
        query = (
            select(reservation_legs, reservations.c.status, reservations.c.created_at)
            .join(reservations, reservations.c.id == legs.reservation)
            .where(*where)
            .order_by(legs.start_at, legs.id)
        )
        return [
            Promise(
                leg=row.id,
                reservation=ReservationId(row.reservation),
                project=ProjectId(row.project),
                status=ReservationStatus(row.status),
                created_at=row.created_at,
                leaf=LeafId(row.leaf),
                leaf_name=row.leaf_name,
                sku=row.sku,
                nodes=row.nodes,
                window=Window(row.start_at, row.end_at),
                expires_at=row.expires_at,
            )
            for row in await tx.execute(query)
        ]

    async def bookings(self, tx: Tx, keys: Collection[LeafKey] | None, now: datetime) -> dict[LeafKey, list[Booking]]:
        """All that takes nodes of some leaves or (None) all: legs and on-demand claims. Leaves without any are not in
        it."""
        found: dict[LeafKey, list[Booking]] = {}
        for key, booking in await self._leg_bookings(tx, keys, now):
            found.setdefault(key, []).append(booking)
        for key, booking in await self._on_demand(tx, keys, now):
            found.setdefault(key, []).append(booking)
        return found

    async def versions(self, tx: Tx, keys: Collection[LeafKey] | None = None) -> dict[LeafKey, Version]:
        """Of leaves that ever had a promise; others are at `Version()`."""
        query = select(leaf_versions)
        if keys is not None:
            query = query.where(
                tuple_(leaf_versions.c.leaf, leaf_versions.c.sku).in_([(key.leaf, key.sku) for key in keys])
            )
        return {LeafKey(row.leaf, row.sku): Version(row.version, row.supply) for row in await tx.execute(query)}

    async def least_free(self, tx: Tx, key: LeafKey, window: Window, now: datetime, supply: Sequence[Step]) -> int:
        """The fewest nodes that are free at any moment of the window; negative where more is promised than there is.

        `supply`: what may be promised there (`rules/supply.py`), ordered.
        """
        given = {
            "leaf": key.leaf,
            "sku": key.sku,
            "start": window.start,
            "end": window.end,
            "now": now,
            "starts": [step.start for step in supply],
            "nodes": [step.nodes for step in supply],
        }
        return int((await tx.execute(_LEAST_FREE, given)).scalar_one())

    async def touch(self, tx: Tx, keys: Iterable[LeafKey], *, supply: bool = False) -> None:
        """What is promised on these leaves, or what they have, has changed: calendars everywhere read them anew."""
        touched = sorted(set(keys))
        if touched:
            leaves, skus = [key.leaf for key in touched], [key.sku for key in touched]
            await tx.execute(_TOUCH, {"leaves": leaves, "skus": skus, "supply": int(supply)})

    async def _leg_bookings(
        self, tx: Tx, keys: Collection[LeafKey] | None, now: datetime
    ) -> list[tuple[LeafKey, Booking]]:
        return [
            (
                promise.key,
                Booking(
                    promise.leg,
                    promise.nodes,
                    seconds(promise.window.start),
                    seconds(promise.window.end),
                    seconds(promise.expires_at) if promise.expires_at is not None else None,
                ),
            )
            for promise in await self.legs(tx, keys, now)
        ]

    async def _on_demand(
        self, tx: Tx, keys: Collection[LeafKey] | None, now: datetime
    ) -> list[tuple[LeafKey, Booking]]:
        if keys is None:
            rows: Iterable[Any] = await tx.execute(_ALL_ON_DEMAND, {"now": now})
        else:
            rows = await tx.execute(_SOME_ON_DEMAND, {"now": now, "leaves": [key.leaf for key in keys]})
        found = []
        for row in rows:
            key = LeafKey(row.leaf, row.sku)
            if keys is None or key in keys:
                start = seconds(row.start_at)
                end = FOREVER if row.end_at is None else seconds(ceil_second(row.end_at))
                found.append((key, Booking(f"{row.node}:{row.pool}:{start}", 1, start, end, pool=row.pool)))
        return found
