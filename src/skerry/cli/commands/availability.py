"""`skerry availability`."""

import shutil
from datetime import UTC, datetime
from typing import Annotated

import typer

from skerry.cli import inputs
from skerry.cli.commanding import Commands
from skerry.cli.figures import when
from skerry.cli.freechart import MARKS, NOTHING, Chart, availability_columns, spelled
from skerry.cli.session import Session
from skerry.cli.speech import dim, note
from skerry.client.answers.capacity import Availability

commands = Commands()
app = commands.app

FEWEST_MARKS, MOST_MARKS = 20, 96
GAPS = 12
"""Columns between the columns."""
FIGURES = 19
"""Columns for the numbers of nodes."""


@commands.command("availability")
def availability(
    session: Session,
    sku: Annotated[str | None, typer.Option(help="Of this SKU.")] = None,
    site: Annotated[str | None, typer.Option(help="At this site.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="Such as 2026-12-01 or 30d. [default: now]")] = None,
    end: Annotated[str | None, typer.Option("--to", help="[default: 30 days later]")] = None,
) -> None:
    """Show when how many nodes are free to reserve.

    A picture of this moment, not a promise: `skerry quote` gives offers that can be held.
    """
    now = datetime.now(UTC)
    with session.client() as client:
        found = client.availability(
            sku=sku,
            site=site,
            start=inputs.future(start, now, "--from") if start else None,
            end=inputs.future(end, now, "--to") if end else None,
        )
    if session.out.as_json:
        session.out.json(found.raw)
    elif not found.data:
        note("There is nothing for sale there.")
    else:
        _draw(session, found)


def _draw(session: Session, found: Availability) -> None:
    names = max(len(row.site) for row in found.data) + max(len(row.sku) for row in found.data)
    room = shutil.get_terminal_size((120, 24)).columns - names - FIGURES - GAPS
    chart = Chart.of(found, min(MOST_MARKS, max(FEWEST_MARKS, room)))
    session.out.table(availability_columns(chart), found.data)
    dim(
        f"{when(found.start)} to {when(found.end)} UTC. A mark is {spelled(chart.step)}: the fewest nodes free in it, "
        f"{NOTHING} none, {MARKS[-1]} all."
    )
