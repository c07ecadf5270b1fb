"""`skerry reserve`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from skerry.cli import inputs
from skerry.cli.capacityview import estimate_fields, field_lines, offer_lines, price_text
from skerry.cli.commanding import Commands
from skerry.cli.failures import Failure, wrong_use
from skerry.cli.figures import when
from skerry.cli.session import Session
from skerry.cli.speech import interactive, note
from skerry.client import Conflict
from skerry.client.answers.base import reader
from skerry.client.answers.capacity import Quote, Reservation

commands = Commands()
app = commands.app


@commands.command("reserve")
def reserve(
    session: Session,
    offer: Annotated[str, typer.Argument(metavar="OFFER", help="Its id, from `skerry quote`.")],
    name: Annotated[str | None, typer.Option(help="What to call it. [default: after what it is]")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be said several times.")] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Only hold it for some minutes, which costs nothing.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would cost, and reserve nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Buy it without a question.")] = False,
) -> None:
    """Hold an offer, and buy it if you agree to its price.

    While you are asked, nobody else can have it. If you say no it stays held for some minutes: `skerry reservations
    confirm` buys it, `skerry reservations drop` gives it back.
    """
    tags = inputs.pairs(tag or [], "--tag")
    if yes and hold:
        raise wrong_use("--hold does not buy, --yes does.", "Say one of them.")
    if not (yes or hold or dry_run or interactive()):
        raise wrong_use("There is nobody to ask.", "Say --yes to buy it, or --hold to hold it only.")
    with session.client() as client, with_fresh_offers():
        if dry_run or not session.out.as_json:
            estimate = client.reservations.estimate(offer)
            if dry_run:
                session.out.fields(estimate, estimate_fields(estimate))
                return
            note(field_lines(estimate_fields(estimate)))
        made = client.reservations.create(offer, name=name, tags=tags, confirm=yes)
        if not yes:
            held(session, made)
        if not (yes or hold):
            session.confirm(f"Buy it for {price_text(made.price)}?", yes=False)
            made = client.reservations.confirm(made.id)
    session.out.made(made.id, f"Bought: {made.name}." if made.status != "held" else f"Held: {made.name}.", made.raw)


def held(session: Session, made: Reservation) -> None:
    if not session.out.as_json:
        note(f"{made.id} is held until {when(made.expires_at)} UTC; `skerry reservations confirm {made.id}` buys it.")


@contextmanager
def with_fresh_offers() -> Iterator[None]:
    """A refusal that brings a fresh quote shows its offers."""
    try:
        yield
    except Conflict as error:
        raw = (error.problem.raw or {}).get("quote")
        if not isinstance(raw, dict) or not raw.get("offers"):
            raise
        fresh = reader(Quote)(raw)
        details = tuple(line for offer in fresh.offers for line in offer_lines(offer))
        raise Failure(error.detail, details=details, suggestion="Reserve one of these instead.") from error
