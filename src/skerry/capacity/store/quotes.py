"""Quotes and their offers in the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Row, delete, insert, select, text

from skerry.billing.model import ReservedPrice
from skerry.capacity.model import (
    Leg,
    NoOffer,
    Offer,
    OfferEnergy,
    OfferKind,
    Quote,
    QuoteRequest,
    Scope,
)
from skerry.capacity.moments import instant, seconds
from skerry.capacity.tables import offers, quotes
from skerry.db.database import Tx
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import rfc3339
from skerry.kernel.ids import LeafId, OfferId, ProjectId, QuoteId
from skerry.kernel.windows import Schedule, Span, Window

_OFFERS: Final = text(
    "SELECT o.id, o.project, o.quote_id, o.body, o.expires_at, q.request"
    " FROM offers AS o JOIN quotes AS q ON q.id = o.quote_id WHERE o.id = ANY(:ids)"
)


@dataclass(frozen=True, slots=True)
class Quoted:
    """An offer with the request that it answers."""

    offer: Offer
    request: QuoteRequest


class QuoteStore:
    async def insert(self, tx: Tx, quote: Quote) -> None:
        await tx.execute(
            insert(quotes).values(
                id=quote.id,
                project=quote.project,
                request=request_to_json(quote.request),
                no_offer=_no_offer_to_json(quote.no_offer),
                created_at=quote.created_at,
                expires_at=quote.expires_at,
            )
        )
        if quote.offers:
            rows = [_offer_row(quote, number, offer) for number, offer in enumerate(quote.offers)]
            await tx.execute(insert(offers).values(rows))

    async def find(self, tx: Tx, project: ProjectId, id: str) -> Quote | None:
        row = (await tx.execute(select(quotes).where(quotes.c.id == id, quotes.c.project == project))).one_or_none()
        if row is None:
            return None
        found = await tx.execute(select(offers).where(offers.c.quote_id == id).order_by(offers.c.n))
        return Quote(
            id=QuoteId(row.id),
            project=ProjectId(row.project),
            request=request_from_json(row.request),
            offers=tuple(_offer(own) for own in found),
            created_at=row.created_at,
            expires_at=row.expires_at,
            no_offer=_no_offer(row.no_offer),
        )

    async def offer(self, tx: Tx, project: ProjectId, id: str) -> Quoted | None:
        query = (
            select(offers, quotes.c.request)
            .join(quotes, quotes.c.id == offers.c.quote_id)
            .where(offers.c.id == id, offers.c.project == project)
        )
        row = (await tx.execute(query)).one_or_none()
        return None if row is None else Quoted(_offer(row), request_from_json(row.request))

    async def offers(self, tx: Tx, ids: Sequence[OfferId]) -> dict[tuple[ProjectId, OfferId], Quoted]:
        """Those of them that there are, whosever they are."""
        rows = await tx.execute(_OFFERS, {"ids": sorted(set(ids))})
        return {
            (ProjectId(row.project), OfferId(row.id)): Quoted(_offer(row), request_from_json(row.request))
            for row in rows
        }

    async def forget(self, tx: Tx, before: datetime) -> int:
        """Drop quotes made before a moment; what was reserved of them stays."""
        return (await tx.execute(delete(quotes).where(quotes.c.created_at < before))).rowcount


def request_to_json(request: QuoteRequest) -> dict[str, Any]:
    schedule = request.schedule
    return {
        "sku": request.sku,
        "nodes": request.nodes,
        "duration_seconds": request.duration_seconds,
        "start_at": rfc3339(request.start_at) if request.start_at else None,
        "earliest_after": rfc3339(request.earliest_after),
        "schedule": [[*_window(span.window), span.count] for span in schedule.spans] if schedule else None,
        "sites": list(request.sites),
        "scope": request.scope.value,
        "scope_required": request.scope_required,
        "capacity_class": request.capacity_class.value,
    }


def request_from_json(value: Mapping[str, Any]) -> QuoteRequest:
    schedule = value["schedule"]
    return QuoteRequest(
        sku=value["sku"],
        nodes=value["nodes"],
        duration_seconds=value["duration_seconds"],
        start_at=_time(value["start_at"]) if value["start_at"] else None,
        earliest_after=_time(value["earliest_after"]),
        schedule=Schedule(tuple(Span(Window(_time(a), _time(b)), n) for a, b, n in schedule)) if schedule else None,
        sites=tuple(value["sites"]),
        scope=Scope(value["scope"]),
        scope_required=value["scope_required"],
        capacity_class=CapacityClass(value["capacity_class"]),
    )


def legs_to_json(legs: tuple[Leg, ...]) -> list[dict[str, Any]]:
    """Times as Unix seconds: legs are many and are read often."""
    return [
        {
            "id": leg.id,
            "leaf": leg.leaf,
            "name": leg.leaf_name,
            "hall": leg.hall,
            "site": leg.site,
            "nodes": leg.nodes,
            "start": seconds(leg.window.start),
            "end": seconds(leg.window.end),
        }
        for leg in legs
    ]


def legs_from_json(values: list[dict[str, Any]]) -> tuple[Leg, ...]:
    return tuple(
        Leg(
            leaf=LeafId(value["leaf"]),
            leaf_name=value["name"],
            hall=value["hall"],
            site=value["site"],
            nodes=value["nodes"],
            window=Window(instant(value["start"]), instant(value["end"])),
            id=value["id"],
        )
        for value in values
    )


def energy_to_json(energy: OfferEnergy) -> dict[str, int]:
    return {"wh": energy.wh, "gco2e": energy.gco2e}


def energy_from_json(value: Mapping[str, int]) -> OfferEnergy:
    return OfferEnergy(value["wh"], value["gco2e"])


def _offer_row(quote: Quote, number: int, offer: Offer) -> dict[str, Any]:
    body = {
        "kind": offer.kind.value,
        "start": rfc3339(offer.start),
        "end": rfc3339(offer.end),
        "site": offer.site,
        "legs": legs_to_json(offer.legs),
        "fragmentation": str(offer.fragmentation),
        "price": offer.price.to_json(),
        "energy": energy_to_json(offer.energy),
    }
    return {
        "id": offer.id,
        "quote_id": quote.id,
        "project": quote.project,
        "n": number,
        "body": body,
        "expires_at": offer.expires_at,
    }


def _offer(row: Row[Any]) -> Offer:
    body = row.body
    return Offer(
        id=OfferId(row.id),
        quote=QuoteId(row.quote_id),
        kind=OfferKind(body["kind"]),
        start=_time(body["start"]),
        end=_time(body["end"]),
        site=body["site"],
        legs=legs_from_json(body["legs"]),
        fragmentation=Decimal(body["fragmentation"]),
        price=ReservedPrice.from_json(body["price"]),
        energy=energy_from_json(body["energy"]),
        expires_at=row.expires_at,
    )


def _no_offer_to_json(no_offer: NoOffer | None) -> dict[str, Any] | None:
    if no_offer is None:
        return None
    earliest = rfc3339(no_offer.earliest) if no_offer.earliest else None
    return {"code": no_offer.code, "message": no_offer.message, "earliest": earliest, "nodes": no_offer.nodes}


def _no_offer(value: Mapping[str, Any] | None) -> NoOffer | None:
    if value is None:
        return None
    earliest = _time(value["earliest"]) if value["earliest"] else None
    return NoOffer(value["code"], value["message"], earliest, value["nodes"])


def _window(window: Window) -> tuple[str, str]:
    return rfc3339(window.start), rfc3339(window.end)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
