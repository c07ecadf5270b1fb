"""Offers, reservations and changes as text. Pure: values in, lines out."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec

from skerry.cli.figures import count, grouped, hour, when
from skerry.cli.output import Column
from skerry.client.answers.base import Money
from skerry.client.answers.capacity import (
    ChangeQuote,
    DeliveryHour,
    Leg,
    Offer,
    OfferEnergy,
    Quote,
    Reservation,
    ReservationEstimate,
    ReservedPrice,
)
from skerry.client.answers.runtime import Event

MOST_LEGS = 4
"""Leaves that are named in a line; the rest is counted."""


def lasting(start: datetime, end: datetime) -> str:
    """How long, to the minute from an hour on: `14 d`, `1 d 12 h`, `90 s`."""
    left = int((end - start).total_seconds())
    if left < 3600:
        return f"{left // 60} min" if left % 60 == 0 else f"{left:,} s"
    days, rest = divmod(left, 86_400)
    hours, rest = divmod(rest, 3600)
    parts = ((days, "d"), (hours, "h"), (rest // 60, "min"))
    return " ".join(f"{number:,} {unit}" for number, unit in parts if number)


def legs_text(legs: Sequence[Leg], *, most: int = MOST_LEGS) -> str:
    """Nodes by leaf: `16 in gb-fife-a-2`, with windows where they differ. So many leaves at most, else their number."""
    parts = [part for leaf in dict.fromkeys(leg.leaf for leg in legs) for part in _over_time(leaf, legs)]
    same = len({(part.start, part.end) for part in parts}) == 1
    if same and len(parts) > most:
        return f"{sum(part.nodes for part in parts):,} in {len(parts)} leaves"
    shown = [
        f"{part.nodes:,} in {part.leaf}" + ("" if same else f" ({_brief(part.start)} – {_brief(part.end)})")
        for part in parts[:most]
    ]
    if len(parts) > most:
        shown.append(f"{len(parts) - most} more")
    return ", ".join(shown)


def _over_time(leaf: str, legs: Sequence[Leg]) -> Iterator[Leg]:
    """How many nodes there are in a leaf, from change to change: legs of one leaf may overlap."""
    own = [leg for leg in legs if leg.leaf == leaf]
    edges = sorted({edge for leg in own for edge in (leg.start, leg.end)})
    before: Leg | None = None
    for start, end in pairwise(edges):
        nodes = sum(leg.nodes for leg in own if leg.start <= start and end <= leg.end)
        if before is not None and before.nodes == nodes:
            before = msgspec.structs.replace(before, end=end)
            continue
        if before is not None and before.nodes:
            yield before
        before = msgspec.structs.replace(own[0], nodes=nodes, start=start, end=end)
    if before is not None:
        yield before


def price_text(price: ReservedPrice) -> str:
    return f"{grouped(price.total)} {price.currency}"


def amount(price: ReservedPrice) -> Money:
    return Money(price.total, price.currency)


def energy_text(energy: OfferEnergy) -> str:
    """Both are estimates at full load; nothing where the node's power is not known."""
    if not energy.kwh and not energy.gco2e:
        return ""
    kilos = energy.gco2e / 1000
    carbon = f"{kilos:,.1f} kg" if kilos >= 1 else f"{energy.gco2e} g"
    return f"about {energy.kwh:,.1f} kWh, {carbon} CO2e"


RESERVATIONS: tuple[Column[Reservation], ...] = (
    Column("id", lambda own: own.id, whole=True),
    Column("name", lambda own: own.name),
    Column("status", lambda own: own.status, whole=True),
    Column("nodes", lambda own: f"{own.nodes:,} {own.sku}", whole=True),
    Column("from (UTC)", lambda own: hour(own.start), whole=True),
    Column("for", lambda own: lasting(own.start, own.end), whole=True),
)

HOURS: tuple[Column[DeliveryHour], ...] = (
    Column("site", lambda row: row.site, whole=True),
    Column("from (UTC)", lambda row: when(row.start), whole=True),
    Column("to", lambda row: when(row.end), whole=True),
    Column("promised", lambda row: count(row.promised), right=True),
    Column("delivered", lambda row: count(row.delivered), right=True),
    Column("short", lambda row: count(max(0, row.promised - row.delivered) or None), right=True),
)


EVENTS: tuple[Column[Event], ...] = (
    Column("at (UTC)", lambda event: when(event.at), whole=True),
    Column("what", lambda event: event.type.removeprefix("reservation."), whole=True),
    Column("", lambda event: event_words(event.data)),
)


def event_words(data: Mapping[str, Any]) -> str:
    """What an event of a reservation has to tell."""
    reason = data.get("reason") if isinstance(data.get("reason"), dict) else data
    assert reason is not None
    words = [str(data.get("kind") or ""), str(data.get("leaf") or "")]
    words += [str(reason.get("message") or reason.get("code", "").replace("_", " ")).rstrip(".")]
    words += [", ".join(f"{leg.get('nodes')} in {leg.get('leaf')}" for leg in data.get("legs") or ())]
    if "start" in data and "end" in data:
        words.append(f"{_moment(data['start'])} – {_moment(data['end'])}")
    for name in ("bound", "given_back", "lost"):
        if nodes := data.get(name):
            words.append(f"{name.replace('_', ' ')} {len(nodes):,} node{'s' if len(nodes) > 1 else ''}")
    for name in ("charge", "refund", "fee"):
        value = data.get(name)
        if isinstance(value, dict) and Decimal(value["amount"]):
            words.append(f"{name} {money_text(Money(Decimal(value['amount']), value['currency']))}")
    if created := data.get("created"):
        words.append(f"created {', '.join(created)}")
    words += [f"{name} {data[name]}" for name in ("parent", "short") if data.get(name)]
    return "; ".join(filter(None, words))


def price_fields(price: ReservedPrice) -> list[tuple[str, str]]:
    """The total, by the hour, and the lines it is made of."""
    lines = [
        (f"  {line.line}", f"{grouped(line.amount)} ({grouped(line.node_hour)} for a node and hour)")
        for line in price.lines
    ]
    return [("price", f"{price_text(price)}, {grouped(price.hourly)} an hour"), *lines]


def field_lines(fields: Sequence[tuple[str, str]]) -> str:
    """Fields under each other, for words beside the answer."""
    width = max(len(title) for title, _ in fields)
    return "\n".join(f"{title.ljust(width)}  {text}" for title, text in fields if text)


def estimate_fields(found: ReservationEstimate) -> list[tuple[str, str]]:
    """What one is asked to agree to."""
    return [
        ("from", f"{when(found.start)} UTC"),
        ("to", f"{when(found.end)} UTC ({lasting(found.start, found.end)})"),
        ("nodes", legs_text(found.legs)),
        *price_fields(found.price),
        ("energy", energy_text(found.energy)),
    ]


def reservation_fields(own: Reservation) -> list[tuple[str, str]]:
    possible = [verb for verb, action in own.actions.items() if action.get("available")]
    return [
        ("name", own.name),
        ("id", own.id),
        ("status", own.status),
        ("reason", _reason(own)),
        ("held until", f"{when(own.expires_at)} UTC" if own.expires_at and own.status == "held" else ""),
        ("sku", own.sku),
        ("nodes", legs_text(own.legs, most=len(own.legs)) or count(own.nodes)),
        ("scope", f"{own.scope}{', required' if own.scope_required else ''}" if own.scope != "any" else ""),
        ("from", f"{when(own.start)} UTC"),
        ("to", f"{when(own.end)} UTC ({lasting(own.start, own.end)})"),
        *price_fields(own.price),
        ("energy", energy_text(own.energy)),
        ("tags", ", ".join(f"{name}={value}" for name, value in own.tags.items())),
        ("part of", own.parent or ""),
        ("created", when(own.created_at)),
        ("bought", when(own.confirmed_at)),
        ("ended", when(own.ended_at)),
        ("you can", ", ".join(possible)),
    ]


def change_lines(before: Reservation, quote: ChangeQuote, projects: Sequence[str] = ()) -> Iterator[str]:
    """What a change does, and what it costs: one thing a line. `projects`: what the parts of a split were called."""
    yield f"Before: {_span(before.legs)}."
    yield f"After:  {_span(quote.new_legs)}." if quote.new_legs else "After:  nothing is left of it."
    for number, part in enumerate(quote.parts):
        project = projects[number] if number < len(projects) else part.project
        yield f"        {legs_text(part.legs)} for project {project}, {price_text(part.price)}."
    if quote.price is not None:
        yield f"Price:  {price_text(before.price)} → {price_text(quote.price)}."
    costs = [
        f"{word} {money_text(value)}"
        for word, value in (("to pay more:", quote.charge), ("not to be paid any more:", quote.refund))
        if value.amount > 0
    ]
    if quote.fee.amount > 0:
        costs.append(f"fee for what is given up, included: {money_text(quote.fee)}")
    yield f"Costs:  {'; '.join(costs) or 'nothing'}."


def money_text(value: Money) -> str:
    return f"{grouped(value.amount)} {value.currency}"


def no_offer_words(quote: Quote) -> tuple[str, str]:
    """Why there is no offer, and what would work."""
    none = quote.no_offer_reason
    if none is None:
        return "There is no offer.", ""
    if none.earliest is not None:
        return _sentence(none.message), f"It is free from {when(none.earliest)} UTC on."
    if none.nodes:
        return _sentence(none.message), f"{none.nodes:,} nodes are free then."
    return _sentence(none.message), ""


def offer_lines(offer: Offer) -> list[str]:
    """An offer in three lines, which fit any terminal."""
    energy = energy_text(offer.energy)
    return [
        f"{offer.id}  {offer.kind}",
        f"    {when(offer.start)} UTC for {lasting(offer.start, offer.end)}, "
        f"{offer.site or 'several sites'}: {legs_text(offer.legs)}",
        f"    {price_text(offer.price)}, {grouped(offer.price.hourly)} an hour{'; ' if energy else ''}{energy}",
    ]


def total_hours(seconds: int) -> str:
    """Node-seconds, in hours as well."""
    return f"{seconds:,} node-seconds ({grouped(Decimal(seconds) / 3600, 2)} node-hours)"


def _span(legs: Sequence[Leg]) -> str:
    first, last = min(leg.start for leg in legs), max(leg.end for leg in legs)
    shown = legs_text(legs)
    return shown if "(" in shown else f"{shown}, {when(first)} – {when(last)} UTC"


def _reason(own: Reservation) -> str:
    reason = own.status_reason
    return (reason.message or reason.code.replace("_", " ")) if reason else ""


def _brief(time: datetime) -> str:
    """As short as it can be said exactly."""
    return when(time) if time.second else hour(time)


def _moment(text: str) -> str:
    return when(datetime.fromisoformat(text))


def _sentence(text: str) -> str:
    whole = text[:1].upper() + text[1:]
    return whole if whole.endswith((".", "!", "?")) else f"{whole}."
