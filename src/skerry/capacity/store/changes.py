"""Change quotes in the database."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import delete, insert, select, update

from skerry.billing.model import ReservedPrice
from skerry.capacity.asking import ChangeAsk, SplitPart
from skerry.capacity.changing import ChangePlan, ChangeQuote, PartLegs
from skerry.capacity.store.quotes import energy_from_json, energy_to_json, legs_from_json, legs_to_json
from skerry.capacity.tables import change_quotes as t
from skerry.db.database import Tx
from skerry.kernel.clock import rfc3339
from skerry.kernel.ids import ProjectId, ReservationId
from skerry.kernel.money import plain


class ChangeStore:
    async def insert(self, tx: Tx, quote: ChangeQuote) -> None:
        await tx.execute(
            insert(t).values(
                id=quote.id,
                reservation=quote.reservation,
                project=quote.project,
                kind=quote.kind.value,
                version=quote.version,
                body={"ask": _ask_to_json(quote.ask), "plan": _plan_to_json(quote.plan)},
                created_at=quote.created_at,
                expires_at=quote.expires_at,
            )
        )

    async def find(self, tx: Tx, project: ProjectId, reservation: str, id: str) -> ChangeQuote | None:
        where = (t.c.id == id, t.c.reservation == reservation, t.c.project == project)
        row = (await tx.execute(select(t).where(*where))).one_or_none()
        if row is None:
            return None
        return ChangeQuote(
            id=row.id,
            reservation=ReservationId(row.reservation),
            project=ProjectId(row.project),
            ask=_ask(row.body["ask"]),
            version=row.version,
            plan=_plan(row.body["plan"]),
            created_at=row.created_at,
            expires_at=row.expires_at,
            used_at=row.used_at,
        )

    async def use(self, tx: Tx, project: ProjectId, id: str, now: datetime) -> None:
        await tx.execute(update(t).where(t.c.id == id, t.c.project == project).values(used_at=now))

    async def forget(self, tx: Tx, before: datetime) -> int:
        return (await tx.execute(delete(t).where(t.c.created_at < before))).rowcount


def _ask_to_json(ask: ChangeAsk) -> dict[str, Any]:
    return {
        "kind": ask.kind,
        "end_at": rfc3339(ask.end_at) if ask.end_at else None,
        "nodes": ask.nodes,
        "since": rfc3339(ask.since) if ask.since else None,
        "start_at": rfc3339(ask.start_at) if ask.start_at else None,
        "site": ask.site,
        "parts": [[part.project, part.nodes] for part in ask.parts],
    }


def _ask(value: Mapping[str, Any]) -> ChangeAsk:
    return ChangeAsk(
        kind=value["kind"],
        end_at=_time(value["end_at"]),
        nodes=value["nodes"],
        since=_time(value["since"]),
        start_at=_time(value["start_at"]),
        site=value["site"],
        parts=tuple(SplitPart(project, nodes) for project, nodes in value["parts"]),
    )


def _plan_to_json(plan: ChangePlan) -> dict[str, Any]:
    return {
        "legs": legs_to_json(plan.legs),
        "price": plan.price.to_json() if plan.price is not None else None,
        "energy": energy_to_json(plan.energy),
        "charge": plain(plan.charge),
        "refund": plain(plan.refund),
        "fee": plain(plan.fee),
        "currency": plan.currency,
        "parts": [
            {
                "project": part.project,
                "legs": legs_to_json(part.legs),
                "price": part.price.to_json(),
                "energy": energy_to_json(part.energy),
            }
            for part in plan.parts
        ],
    }


def _plan(value: Mapping[str, Any]) -> ChangePlan:
    return ChangePlan(
        legs=legs_from_json(value["legs"]),
        price=ReservedPrice.from_json(value["price"]) if value["price"] is not None else None,
        energy=energy_from_json(value["energy"]),
        charge=Decimal(value["charge"]),
        refund=Decimal(value["refund"]),
        fee=Decimal(value["fee"]),
        currency=value["currency"],
        parts=tuple(
            PartLegs(
                ProjectId(part["project"]),
                legs_from_json(part["legs"]),
                ReservedPrice.from_json(part["price"]),
                energy_from_json(part["energy"]),
            )
            for part in value["parts"]
        ),
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
