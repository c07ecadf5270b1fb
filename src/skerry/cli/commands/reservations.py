"""`skerry reservations`."""

from typing import Annotated, Literal

import typer

from skerry.cli.capacityview import (
    EVENTS,
    HOURS,
    RESERVATIONS,
    field_lines,
    price_text,
    reservation_fields,
    total_hours,
)
from skerry.cli.commanding import Commands
from skerry.cli.commands import reservation_changes
from skerry.cli.commands.reservation_changes import Id, Yes, found_by
from skerry.cli.commands.reserve import with_fresh_offers
from skerry.cli.figures import when
from skerry.cli.session import Session
from skerry.cli.speech import note

commands = Commands("Capacity that is held or bought: look, confirm, change.")
app = commands.app
reservation_changes.add(commands)

Status = Literal["held", "confirmed", "delivering", "late", "active", "ended", "expired", "cancelled"]


@commands.command("list")
def list_reservations(
    session: Session,
    status: Annotated[Status | None, typer.Option(help="Only these.")] = None,
    sku: Annotated[str | None, typer.Option(help="Of this SKU.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 50,
) -> None:
    """List reservations, newest first."""
    with session.client() as client:
        found = client.reservations.list(status=status, sku=sku, limit=min(limit, 500))
        empty = "There are no such reservations. `skerry quote` asks for offers, `skerry reserve` takes one."
        session.out.listing(found, RESERVATIONS, empty=empty, limit=limit)


@commands.command("show")
def show_reservation(session: Session, reservation: Id) -> None:
    """Show one reservation: where its nodes are, what it costs, and what can be done with it."""
    with session.client() as client:
        found = found_by(client, reservation)
    session.out.fields(found, reservation_fields(found))


@commands.command("confirm")
def confirm_reservation(session: Session, reservation: Id, yes: Yes = False) -> None:
    """Buy what is held. Its price is set aside on the budgets and the credit that bear it."""
    with session.client() as client, with_fresh_offers():
        hold = found_by(client, reservation)
        if hold.status == "held" and not session.out.as_json:
            note(field_lines([field for field in reservation_fields(hold) if field[0] not in ("id", "you can")]))
        if hold.status == "held":
            session.confirm(f"Buy it for {price_text(hold.price)}?", yes=yes)
        bought = client.reservations.confirm(hold.id)
    begins = f"It begins at {when(bought.start)} UTC." if bought.status == "confirmed" else f"It is {bought.status}."
    session.out.done(f"Bought: {bought.name}. {begins}", bought.raw)


@commands.command("drop")
def drop_reservation(session: Session, reservation: Id) -> None:
    """Give a hold back, which costs nothing. What is bought is cancelled."""
    with session.client() as client:
        hold = found_by(client, reservation)
        dropped = client.reservations.drop(hold.id)
    session.out.done(f"Dropped: {dropped.name}.", dropped.raw)


@commands.command("events")
def show_events(
    session: Session,
    reservation: Id,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 200,
) -> None:
    """Show what happened to a reservation, oldest first."""
    with session.client() as client:
        own = found_by(client, reservation)
        events = client.events.of("reservations", own.id, limit=min(limit, 500))
        session.out.listing(events, EVENTS, empty="Nothing has happened yet.", limit=limit)


@commands.command("delivery")
def show_delivery(
    session: Session,
    reservation: Id,
    hours: Annotated[bool, typer.Option("--hours", help="Every hour, not only those that were short.")] = False,
) -> None:
    """Show what was promised and what was delivered. What was not delivered is not charged."""
    with session.client() as client:
        own = found_by(client, reservation)
        record = client.reservations.delivery(own.id)
        rows = list(client.reservations.delivery_hours(own.id, limit=500))
    if session.out.as_json:
        session.out.json({**record.raw, "data": [row.raw for row in rows], "has_more": False, "next_cursor": None})
        return
    if not rows:
        note(f"There is nothing on record yet: hours are recorded when they are over. It is {own.status}.")
        return
    note(f"Promised:  {total_hours(record.promised_node_seconds)}")
    note(f"Delivered: {total_hours(record.delivered_node_seconds)}")
    short = rows if hours else [row for row in rows if row.delivered < row.promised]
    if short:
        session.out.table(HOURS, short)
    else:
        note(f"No hour was short; there are {len(rows):,} (--hours shows them).")
