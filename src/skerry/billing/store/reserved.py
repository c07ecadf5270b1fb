"""What reservations were sold at, and charges that no meter brings."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, insert, select, text, update

from skerry.billing.model import (
    CancellationTerms,
    ChargeKind,
    OneOff,
    PricedLeg,
    Rates,
    ReservedTerms,
)
from skerry.billing.tables import one_off_charges, reserved_terms
from skerry.db.database import Tx
from skerry.kernel.clock import rfc3339
from skerry.kernel.ids import ContractId, KeyId, OrganizationId, ProjectId
from skerry.kernel.paging import Page, PageRequest
from skerry.kernel.windows import Window

_t, _o = reserved_terms.c, one_off_charges.c
_SETTLING = "skerry.billing.reserved.settling"


class TermsStore:
    async def add(self, tx: Tx, terms: ReservedTerms, opened_by: str) -> None:
        await tx.execute(
            insert(reserved_terms).values(
                reservation=terms.reservation,
                organization=terms.organization,
                project=terms.project,
                currency=terms.currency,
                contract=terms.contract,
                cancellation=terms.cancellation.to_json(),
                opened_at=terms.opened_at,
                opened_by=opened_by,
                changed_at=terms.opened_at,
                **_sold(terms),
            )
        )

    async def save(self, tx: Tx, terms: ReservedTerms, now: datetime) -> None:
        change = update(reserved_terms).where(_t.reservation == terms.reservation)
        await tx.execute(change.values(changed_at=now, closed_at=terms.closed_at, **_sold(terms)))

    async def find(self, tx: Tx, reservation: str, *, lock: bool = False) -> tuple[ReservedTerms, KeyId] | None:
        """The terms, and the key that they were agreed to with. Reservations are looked up by who owns them."""
        wanted = select(reserved_terms).where(_t.reservation == reservation)
        row = (await tx.execute(wanted.with_for_update() if lock else wanted)).one_or_none()
        return (_terms(row), KeyId(row.opened_by)) if row else None

    async def rates(self, tx: Tx, project: ProjectId, window: Window) -> dict[str, Rates]:
        """What a project's reservations cost in a window, by their ids."""
        wanted = select(_t.reservation, _t.rates).where(
            _t.project == project, _t.last_hour > window.start, _t.first_hour < window.end
        )
        return {row.reservation: Rates.from_json(row.rates) for row in await tx.execute(wanted)}

    async def unsettled_of(
        self,
        tx: Tx,
        *,
        project: ProjectId | None = None,
        organization: OrganizationId | None = None,
        key: KeyId | None = None,
    ) -> list[ReservedTerms]:
        """What is not settled to its end, of a project, an organization or a key of the project."""
        given = ((_t.project, project), (_t.organization, organization), (_t.opened_by, key))
        which: list[ColumnElement[bool]] = [column == value for column, value in given if value is not None]
        rows = await tx.execute(select(reserved_terms).where(_t.settled_at.is_(None), *which).order_by(_t.reservation))
        return [_terms(row) for row in rows]

    # Settling acts for all projects at once, one process at a time.

    async def try_settling(self, tx: Tx) -> bool:
        found = await tx.execute(
            text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": _SETTLING}
        )
        return bool(found.scalar_one())

    async def to_settle(self, tx: Tx, now: datetime, after: str, limit: int) -> list[ReservedTerms]:
        """Those that have begun and are not settled, in the order of their ids."""
        wanted = select(reserved_terms).where(_t.settled_at.is_(None), _t.first_hour <= now, _t.reservation > after)
        return [_terms(row) for row in await tx.execute(wanted.order_by(_t.reservation).limit(limit))]

    async def settled(self, tx: Tx, reservations: Collection[str], now: datetime) -> None:
        await tx.execute(update(reserved_terms).where(_t.reservation.in_(reservations)).values(settled_at=now))


class ChargeStore:
    async def add(self, tx: Tx, charge: OneOff, now: datetime, created_by: str) -> None:
        await tx.execute(
            insert(one_off_charges).values(
                id=charge.id,
                organization=charge.organization,
                project=charge.project,
                resource=charge.resource,
                kind=charge.kind.value,
                amount=charge.amount,
                currency=charge.currency,
                at=charge.at,
                reason=charge.reason,
                dims=dict(charge.dims),
                created_at=now,
                created_by=created_by,
            )
        )

    async def within(self, tx: Tx, project: ProjectId, window: Window) -> list[OneOff]:
        wanted = select(one_off_charges).where(_o.project == project, _o.at >= window.start, _o.at < window.end)
        return [_charge(row) for row in await tx.execute(wanted.order_by(_o.id))]

    async def page(self, tx: Tx, project: ProjectId, resource: str | None, request: PageRequest) -> Page[OneOff]:
        wanted = select(one_off_charges).where(_o.project == project)
        if resource is not None:
            wanted = wanted.where(_o.resource == resource)
        if request.after is not None:
            wanted = wanted.where(_o.id > request.after[0])
        rows = await tx.execute(wanted.order_by(_o.id).limit(request.limit + 1))
        return Page.cut([_charge(row) for row in rows], request, lambda charge: (charge.id,))

    async def get(self, tx: Tx, project: ProjectId, id: str) -> OneOff | None:
        row = (await tx.execute(select(one_off_charges).where(_o.project == project, _o.id == id))).one_or_none()
        return _charge(row) if row else None


def legs_to_json(legs: Sequence[PricedLeg]) -> list[dict[str, Any]]:
    return [
        {
            "sku": leg.sku,
            "site": leg.site,
            "nodes": leg.nodes,
            "start": rfc3339(leg.window.start),
            "end": rfc3339(leg.window.end),
        }
        for leg in legs
    ]


def _sold(terms: ReservedTerms) -> dict[str, Any]:
    rates = terms.rates.rates
    return {
        "rates": terms.rates.to_json(),
        "legs": legs_to_json(terms.legs),
        "first_hour": min(rate.start for rate in rates),
        "last_hour": max(rate.end for rate in rates),
    }


def _leg(value: dict[str, Any]) -> PricedLeg:
    window = Window(datetime.fromisoformat(value["start"]), datetime.fromisoformat(value["end"]))
    return PricedLeg(value["sku"], value["site"], value["nodes"], window)


def _terms(row: Row[Any]) -> ReservedTerms:
    return ReservedTerms(
        reservation=row.reservation,
        organization=OrganizationId(row.organization),
        project=ProjectId(row.project),
        currency=row.currency,
        rates=Rates.from_json(row.rates),
        legs=tuple(map(_leg, row.legs)),
        cancellation=CancellationTerms.from_json(row.cancellation),
        contract=ContractId(row.contract) if row.contract else None,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
    )


def _charge(row: Row[Any]) -> OneOff:
    return OneOff(
        id=row.id,
        organization=OrganizationId(row.organization),
        project=ProjectId(row.project),
        resource=row.resource,
        kind=ChargeKind(row.kind),
        amount=row.amount,
        currency=row.currency,
        at=row.at,
        reason=row.reason,
        dims=row.dims,
    )
