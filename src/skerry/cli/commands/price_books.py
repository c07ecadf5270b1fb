"""`skerry price-books`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from skerry.cli import figures, inputs
from skerry.cli.commanding import Commands
from skerry.cli.failures import wrong_use
from skerry.cli.figures import when
from skerry.cli.pricefiles import json_object
from skerry.cli.session import Session

commands = Commands("Put new prices in force (operators).")
app = commands.app

BOOK = {"version", "currency", "effective_from", "prices"}


@commands.command("publish")
def publish_prices(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON, as `skerry prices --json` shows it.")],
    start: Annotated[str | None, typer.Option("--from", help="Such as 2026-12-01 or 30d. [default: now]")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Put new prices in force, instead of all that are. What is sold keeps its price."""
    book = json_object(file, BOOK)
    rows = book.get("prices")
    if not isinstance(rows, list) or not rows:
        raise wrong_use(f"{file} has no prices.", "An empty price book would make everything free.")
    now = datetime.now(UTC)
    moment = inputs.future(start, now, "--from") if start else None
    if moment is None and book.get("effective_from"):
        # A book that was read says since when it has been in force: it is published for now.
        later = inputs.future(book["effective_from"], now, "effective_from")
        moment = later if later > now else None
    about = f"{figures.count(len(rows))} prices from {when(moment) if moment else 'now'}"
    session.confirm(f"Publish {about}? They replace all others.", yes=yes)
    with session.client(operator=True) as client:
        currency = book.get("currency") or client.prices().currency
        made = client.contracts.publish_prices(rows, currency=currency, effective_from=moment)
    session.out.done(f"Published version {made.version}.", made.raw)
