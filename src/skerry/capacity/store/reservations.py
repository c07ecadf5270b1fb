"""Reservations in the database: admitted many in one call, read, changed."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Row,
    and_,
    delete,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError

from skerry.billing.model import ReservedPrice
from skerry.capacity.calendar.model import LeafKey
from skerry.capacity.live import KnownSupply
from skerry.capacity.locking import lock_numbers, organization_lock
from skerry.capacity.model import Leg, Reservation, ReservationStatus, Scope
from skerry.capacity.store.quotes import energy_from_json, energy_to_json
from skerry.capacity.tables import reservation_legs as legs_table
from skerry.capacity.tables import reservations as t
from skerry.db.database import Tx
from skerry.kernel.clock import rfc3339
from skerry.kernel.ids import LeafId, OrganizationId, ProjectId, ReservationId
from skerry.kernel.paging import Page, PageRequest
from skerry.kernel.windows import Window

_ADMIT: Final = text(
    "SELECT capacity_admit(:now, cast(:locks AS bigint[]), cast(:reservations AS jsonb), cast(:legs AS jsonb),"
    " cast(:supply AS jsonb), cast(:limits AS jsonb), cast(:events AS jsonb))"
)
_REQUIRE: Final = text("SELECT capacity_require(:reservation, :now, cast(:supply AS jsonb))")


class NotAdmitted(Exception):
    """Why a reservation is not made, or not kept."""


class LeafTaken(NotAdmitted):
    """A leaf has too few nodes left at some moment of a leg."""


class SupplyChanged(NotAdmitted):
    """What was known of a leaf's supply is old: read it anew and try again."""


class OfferSold(NotAdmitted):
    """There is a reservation of this offer already."""


class HoldRefused(NotAdmitted):
    """A limit of holds; `limit` is one of holds, node_seconds, repeats."""

    def __init__(self, limit: str) -> None:
        super().__init__(limit)
        self.limit = limit


@dataclass(frozen=True, slots=True)
class HoldLimits:
    """Of one organization at a time. `repeats`: how often the same SKU and time may be held in a day and let go."""

    holds: int = 10
    node_seconds: int = 32 * 90 * 86_400
    repeats: int = 3


@dataclass(frozen=True, slots=True)
class Admission:
    """A reservation to be made, of which offer and by whom, with the event that tells of it."""

    reservation: Reservation
    offer: str | None
    by: str
    event: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ReservationFilter:
    """None: any. `statuses` are those that rows have in the database."""

    status: ReservationStatus | None = None
    sku: str | None = None
    name: str | None = None


class ReservationStore:
    async def admit(
        self,
        tx: Tx,
        wanted: Sequence[Admission],
        *,
        now: datetime,
        supply: Sequence[KnownSupply],
        limits: HoldLimits | None,
    ) -> dict[str, NotAdmitted]:
        """Lock, count, insert, in one call; returns those that are refused, by id. The others are admitted."""
        made = [one.reservation for one in wanted]
        given = {
            "now": now,
            "locks": _locks(made, limits),
            "reservations": json.dumps([_row(one.reservation, one.offer, one.by) for one in wanted]),
            "legs": json.dumps([_leg_row(own, leg) for own in made for leg in own.legs]),
            "supply": json.dumps([one.to_json() for one in supply]),
            "limits": json.dumps(asdict(limits)) if limits is not None else None,
            "events": json.dumps([{**one.event, "at": rfc3339(one.event["at"])} for one in wanted if one.event]),
        }
        refused = (await tx.execute(_ADMIT, given)).scalar_one()
        return {id: _REFUSALS[why]() if why in _REFUSALS else HoldRefused(why) for id, why in refused.items()}

    async def require(self, tx: Tx, reservation: str, now: datetime, supply: Sequence[KnownSupply]) -> None:
        """That its live legs stand on nodes that are there, all promises counted. Raises LeafTaken, SupplyChanged."""
        given = {"reservation": reservation, "now": now, "supply": json.dumps([one.to_json() for one in supply])}
        with refusals():
            await tx.execute(_REQUIRE, given)

    async def find(
        self, tx: Tx, project: ProjectId | None, id: str, *, lock: bool = False
    ) -> tuple[Reservation, str | None] | None:
        """With the id of its offer. `project` None: any, for reconcilers."""
        query = select(t).where(t.c.id == id)
        if project is not None:
            query = query.where(t.c.project == project)
        row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
        if row is None:
            return None
        (found,) = await self._with_legs(tx, [row])
        return found, row.offer_id

    async def page(
        self, tx: Tx, project: ProjectId, wanted: ReservationFilter, request: PageRequest, now: datetime
    ) -> Page[Reservation]:
        """Newest first."""
        query = select(t).where(t.c.project == project, *_conditions(wanted, now))
        if request.after is not None:
            query = query.where(t.c.id < request.after[0])
        rows = (await tx.execute(query.order_by(t.c.id.desc()).limit(request.limit + 1))).all()
        return Page.cut(await self._with_legs(tx, rows), request, lambda one: (one.id,))

    async def lapsed(self, tx: Tx, now: datetime, limit: int) -> list[Reservation]:
        """Holds whose time is over and of which that is not written down yet; locked, those under way left out."""
        query = (
            select(t)
            .where(t.c.status == ReservationStatus.HELD.value, t.c.expires_at <= now)
            .order_by(t.c.expires_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return await self._with_legs(tx, (await tx.execute(query)).all())

    async def set(self, tx: Tx, project: ProjectId, id: str, values: Mapping[str, Any]) -> None:
        await tx.execute(update(t).where(t.c.id == id, t.c.project == project).values(**values))

    async def insert_split(self, tx: Tx, reservation: Reservation, by: str) -> None:
        """One that has its nodes of another: nothing is counted, nothing can be refused."""
        await tx.execute(insert(t).values(**_row(reservation, None, by, times=lambda value: value)))
        await self.put_legs(tx, reservation)

    async def put_legs(self, tx: Tx, reservation: Reservation, *, live: bool = True) -> None:
        """Its legs are these now: others of its go, those that are there by id are brought up to date."""
        kept = {leg.id for leg in reservation.legs}
        await tx.execute(
            delete(legs_table).where(legs_table.c.reservation == reservation.id, legs_table.c.id.not_in(kept))
        )
        there = set(
            (await tx.execute(select(legs_table.c.id).where(legs_table.c.reservation == reservation.id))).scalars()
        )
        for leg in reservation.legs:
            row = {**_leg_row(reservation, leg, times=lambda value: value), "live": live}
            if leg.id in there:
                await tx.execute(update(legs_table).where(legs_table.c.id == leg.id).values(**row))
            else:
                await tx.execute(insert(legs_table).values(**row))

    async def free_legs(self, tx: Tx, id: str) -> None:
        """They stay, as history; they count no longer."""
        await tx.execute(update(legs_table).where(legs_table.c.reservation == id).values(live=False))

    async def keep_legs(self, tx: Tx, id: str) -> None:
        """They do not lapse any more."""
        await tx.execute(update(legs_table).where(legs_table.c.reservation == id).values(expires_at=None))

    async def _with_legs(self, tx: Tx, rows: Sequence[Row[Any]]) -> list[Reservation]:
        if not rows:
            return []
        query = (
            select(legs_table)
            .where(legs_table.c.reservation.in_([row.id for row in rows]))
            .order_by(legs_table.c.start_at, legs_table.c.leaf_name, legs_table.c.id)
        )
        legs: dict[str, list[Leg]] = {}
        for row in await tx.execute(query):
            legs.setdefault(row.reservation, []).append(_leg(row))
        return [_reservation(row, tuple(legs.get(row.id, ()))) for row in rows]


_REFUSALS: Final[Mapping[str, type[NotAdmitted]]] = {"supply": SupplyChanged, "sold": OfferSold, "taken": LeafTaken}


def keys_of(reservation: Reservation, legs: Collection[Leg] | None = None) -> list[LeafKey]:
    """The leaves of its legs, or of others for it."""
    chosen = reservation.legs if legs is None else legs
    return sorted({LeafKey(leg.leaf, reservation.sku) for leg in chosen})


@contextmanager
def refusals() -> Iterator[None]:
    """What `capacity_require` raises, as exceptions of ours."""
    try:
        yield
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        if state == "SK001":
            raise LeafTaken from None
        if state == "SK003":
            raise SupplyChanged from None
        raise


def _conditions(wanted: ReservationFilter, now: datetime) -> list[ColumnElement[bool]]:
    """A hold past its time reads as expired, whether or not that is written down."""
    found: list[ColumnElement[bool]] = []
    lapsed = and_(t.c.status == ReservationStatus.HELD.value, t.c.expires_at <= now)
    if wanted.status is ReservationStatus.HELD:
        found.append(and_(t.c.status == wanted.status.value, t.c.expires_at > now))
    elif wanted.status is ReservationStatus.EXPIRED:
        found.append(or_(t.c.status == wanted.status.value, lapsed))
    elif wanted.status is not None:
        found.append(t.c.status == wanted.status.value)
    if wanted.sku is not None:
        found.append(t.c.sku == wanted.sku)
    if wanted.name is not None:
        found.append(t.c.name == wanted.name)
    return found


def _locks(made: Sequence[Reservation], limits: HoldLimits | None) -> list[int]:
    """Of organizations first, whose holds are counted; nobody waits for anybody in a circle."""
    organizations = {organization_lock(own.organization) for own in made} if limits is not None else ()
    return [*sorted(organizations), *lock_numbers({key for own in made for key in keys_of(own)})]


def _row(reservation: Reservation, offer: str | None, by: str, times: Any = rfc3339) -> dict[str, Any]:
    def time(value: datetime | None) -> Any:
        return times(value) if value is not None else None

    return {
        "id": reservation.id,
        "project": reservation.project,
        "organization": reservation.organization,
        "name": reservation.name,
        "sku": reservation.sku,
        "status": reservation.status.value,
        "status_reason": {"code": reservation.reason_code, "message": reservation.reason},
        "scope": reservation.scope.value,
        "scope_required": reservation.scope_required,
        "price": reservation.price.to_json(),
        "energy": energy_to_json(reservation.energy),
        "tags": dict(reservation.tags),
        "offer_id": offer,
        "parent": reservation.parent,
        "start_at": time(reservation.start),
        "end_at": time(reservation.end),
        "node_seconds": reservation.node_seconds,
        "version": reservation.version,
        "expires_at": time(reservation.expires_at),
        "confirmed_at": time(reservation.confirmed_at),
        "ended_at": time(reservation.ended_at),
        "created_by": by,
        "created_at": time(reservation.created_at),
        "updated_at": time(reservation.updated_at),
    }


def _leg_row(reservation: Reservation, leg: Leg, times: Any = rfc3339) -> dict[str, Any]:
    expires = reservation.expires_at
    return {
        "id": leg.id,
        "reservation": reservation.id,
        "project": reservation.project,
        "leaf": leg.leaf,
        "leaf_name": leg.leaf_name,
        "hall": leg.hall,
        "site": leg.site,
        "sku": reservation.sku,
        "nodes": leg.nodes,
        "start_at": times(leg.window.start),
        "end_at": times(leg.window.end),
        "expires_at": times(expires) if expires is not None else None,
        "live": True,
    }


def _leg(row: Row[Any]) -> Leg:
    return Leg(
        leaf=LeafId(row.leaf),
        leaf_name=row.leaf_name,
        hall=row.hall,
        site=row.site,
        nodes=row.nodes,
        window=Window(row.start_at, row.end_at),
        id=row.id,
    )


def _reservation(row: Row[Any], legs: tuple[Leg, ...]) -> Reservation:
    return Reservation(
        id=ReservationId(row.id),
        project=ProjectId(row.project),
        organization=OrganizationId(row.organization),
        name=row.name,
        sku=row.sku,
        status=ReservationStatus(row.status),
        reason_code=row.status_reason["code"],
        reason=row.status_reason["message"],
        scope=Scope(row.scope),
        scope_required=row.scope_required,
        legs=legs,
        price=ReservedPrice.from_json(row.price),
        energy=energy_from_json(row.energy),
        created_at=row.created_at,
        updated_at=row.updated_at,
        expires_at=row.expires_at,
        version=row.version,
        parent=ReservationId(row.parent) if row.parent else None,
        tags=row.tags,
        confirmed_at=row.confirmed_at,
        ended_at=row.ended_at,
    )


def fields_of_legs(reservation: Reservation) -> dict[str, Any]:
    """What a reservation's row repeats of its legs."""
    return {
        "start_at": reservation.start,
        "end_at": reservation.end,
        "node_seconds": reservation.node_seconds,
        "price": reservation.price.to_json(),
        "energy": energy_to_json(reservation.energy),
    }
