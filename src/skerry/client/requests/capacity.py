"""Requests about capacity: what is free, quotes, reservations and their changes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from skerry.client.answers.base import reader
from skerry.client.answers.capacity import (
    Availability,
    ChangeQuote,
    DeliveryHour,
    DeliveryRecord,
    Quote,
    Reservation,
    ReservationEstimate,
)
from skerry.client.call import CONTROL, Call, Page, act, at, create, estimate, get, listing, rfc3339

QUOTES = f"{CONTROL}/quotes"
RESERVATIONS = f"{CONTROL}/reservations"


def availability(
    *, sku: str | None = None, site: str | None = None, start: datetime | None = None, end: datetime | None = None
) -> Call[Availability]:
    """How many nodes are free when, by site and SKU: from now on, for 30 days, unless said otherwise."""
    window = {"from": start, "to": end}
    return get(f"{CONTROL}/capacity/availability", reader(Availability), sku=sku, site=site, **window)


def create_quote(
    sku: str,
    *,
    nodes: int | None = None,
    duration_seconds: int | None = None,
    start_at: datetime | None = None,
    end_at: datetime | None = None,
    earliest_after: datetime | None = None,
    schedule: Sequence[tuple[datetime, datetime, int]] = (),
    sites: Sequence[str] = (),
    scope: str | None = None,
    scope_required: bool | None = None,
    capacity_class: str | None = None,
) -> Call[Quote]:
    """Priced offers for `nodes` with `duration_seconds` or `end_at`, or for a `schedule` of (start, end, nodes).

    Without `start_at` the earliest start is sought, from `earliest_after` on. `scope` (leaf, hall, site, any) is
    preferred unless `scope_required`. Times are whole seconds.
    """
    body = {
        "sku": sku,
        "nodes": nodes,
        "duration_seconds": duration_seconds,
        "start_at": _time(start_at),
        "end_at": _time(end_at),
        "earliest_after": _time(earliest_after),
        "schedule": [{"start": rfc3339(a), "end": rfc3339(b), "nodes": count} for a, b, count in schedule] or None,
        "sites": list(sites) or None,
        "scope": scope,
        "scope_required": scope_required,
        "capacity_class": capacity_class,
    }
    return create(QUOTES, reader(Quote), body)


def get_quote(quote_id: str) -> Call[Quote]:
    """As it was answered."""
    return get(at(QUOTES, quote_id), reader(Quote))


def reserve(
    offer_id: str, *, name: str | None = None, tags: Mapping[str, str] | None = None, confirm: bool = False
) -> Call[Reservation]:
    """Hold an offer for some minutes, or with `confirm` buy it at once.

    Raises Conflict for an offer that lapsed or was taken, with a fresh quote in `problem.raw["quote"]`.
    """
    body = {"offer_id": offer_id, "name": name, "tags": dict(tags) if tags else None, "confirm": confirm}
    return create(RESERVATIONS, reader(Reservation), body)


def estimate_reservation(offer_id: str) -> Call[ReservationEstimate]:
    """What an offer costs. Reserves nothing."""
    return estimate(RESERVATIONS, reader(ReservationEstimate), {"offer_id": offer_id})


def list_reservations(
    *, status: str | None = None, sku: str | None = None, name: str | None = None, limit: int | None = None
) -> Call[Page[Reservation]]:
    """The project's, newest first."""
    return listing(RESERVATIONS, reader(Reservation), status=status, sku=sku, name=name, limit=limit)


def get_reservation(reservation_id: str) -> Call[Reservation]:
    return get(at(RESERVATIONS, reservation_id), reader(Reservation))


def confirm_reservation(reservation_id: str) -> Call[Reservation]:
    """Buy what is held. Raises PaymentRequired where budgets or the credit do not cover it."""
    return act(at(RESERVATIONS, reservation_id, "confirm"), reader(Reservation))


def drop_reservation(reservation_id: str) -> Call[Reservation]:
    """Give a hold back. What is bought is cancelled by a change."""
    return Call("DELETE", at(RESERVATIONS, reservation_id), reader(Reservation))


def quote_cancel(reservation_id: str) -> Call[ChangeQuote]:
    """To give up all that is to come."""
    return _change(reservation_id, "cancel")


def quote_extend(reservation_id: str, end_at: datetime) -> Call[ChangeQuote]:
    """To keep the last nodes until `end_at`."""
    return _change(reservation_id, "extend", end_at=rfc3339(end_at))


def quote_shrink(reservation_id: str, nodes: int, *, since: datetime | None = None) -> Call[ChangeQuote]:
    """To keep `nodes` nodes from a moment on; from now or its start on, unless `since` is given."""
    more = {"from": rfc3339(since)} if since else {}
    return _change(reservation_id, "shrink", nodes=nodes, **more)


def quote_move(reservation_id: str, start_at: datetime, *, site: str | None = None) -> Call[ChangeQuote]:
    """To have the same at another time, or at another site."""
    return _change(reservation_id, "move", start_at=rfc3339(start_at), site=site)


def quote_split(reservation_id: str, parts: Mapping[str, int]) -> Call[ChangeQuote]:
    """To hand nodes to other projects of the organization: nodes by project."""
    listed = [{"project": project, "nodes": nodes} for project, nodes in parts.items()]
    return _change(reservation_id, "split", parts=listed)


def change_reservation(reservation_id: str, change_quote_id: str) -> Call[Reservation]:
    """Carry out a change as it was quoted.

    Raises Conflict for a quote that is good no longer, with a fresh one in `problem.raw["quote"]`.
    """
    body = {"change_quote_id": change_quote_id}
    return create(at(RESERVATIONS, reservation_id, "changes"), reader(Reservation), body)


def get_delivery(reservation_id: str) -> Call[DeliveryRecord]:
    """Sums of what was promised and delivered."""
    return get(at(RESERVATIONS, reservation_id, "delivery"), reader(DeliveryRecord))


def list_delivery_hours(reservation_id: str, *, limit: int | None = None) -> Call[Page[DeliveryHour]]:
    """What was promised and delivered, by site and clock hour."""
    return listing(at(RESERVATIONS, reservation_id, "delivery"), reader(DeliveryHour), limit=limit)


def _change(reservation_id: str, kind: str, **asked: Any) -> Call[ChangeQuote]:
    path = at(RESERVATIONS, reservation_id, "change-quotes")
    return create(path, reader(ChangeQuote), {"kind": kind, **asked})


def _time(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None
