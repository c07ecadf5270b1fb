"""`skerry quote`."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer

from skerry.cli import inputs
from skerry.cli.capacityview import no_offer_words, offer_lines
from skerry.cli.commanding import Commands
from skerry.cli.failures import Failure, wrong_use
from skerry.cli.figures import when
from skerry.cli.session import Session
from skerry.cli.speech import note, printable
from skerry.client.answers.capacity import Quote

commands = Commands()
app = commands.app


@commands.command("quote")
def quote(
    session: Session,
    sku: Annotated[str, typer.Option(help="What kind of node; `skerry availability` lists them.")],
    nodes: Annotated[int | None, typer.Option("--nodes", "-n", min=1, help="How many.")] = None,
    length: Annotated[str | None, typer.Option("--for", metavar="TIME", help="How long: 12h, 14d, 8w.")] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="Exactly then. [default: the earliest]"),
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Until then, in place of --for.")] = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="TIME", help="The earliest from then on: 2026-12-01, or 7d.")
    ] = None,
    window: Annotated[
        list[str] | None,
        typer.Option(
            "--window", metavar="FROM/TO=NODES", help="A ramp: one for each window, in place of --nodes and times."
        ),
    ] = None,
    site: Annotated[list[str] | None, typer.Option(help="Only there; may be said several times.")] = None,
    scope: Annotated[
        Literal["leaf", "hall", "site", "any"] | None,
        typer.Option(help="How near each other, if possible."),
    ] = None,
    required: Annotated[bool, typer.Option("--required", help="Only offers that keep to --scope.")] = False,
    capacity_class: Annotated[
        Literal["reserved", "on_demand", "spot"] | None,
        typer.Option("--class", help="on_demand and spot are priced here, and taken when work starts."),
    ] = None,
) -> None:
    """Ask what nodes cost and when they can be had.

    Nothing is kept by asking: `skerry quote --sku h100-sxm.8x --nodes 16 --for 14d --scope leaf` gives offers.
    """
    asked: dict[str, Any] = {
        **_when(nodes, length, start, end, after, window or []),
        "sites": inputs.words(site or []),
        "scope": scope,
        "scope_required": True if required else None,
        "capacity_class": capacity_class,
    }
    with session.client() as client:
        found = client.quotes.create(sku, **asked)
    show_quote(session, found)
    if not found.offers:
        message, suggestion = no_offer_words(found)
        raise Failure(message, suggestion=suggestion)


def show_quote(session: Session, found: Quote) -> None:
    """Its offers, and what to do with them."""
    if session.out.as_json:
        session.out.json(found.raw)
    elif found.offers:
        for offer in found.offers:
            print(printable("\n".join(offer_lines(offer))))
        if found.capacity_class in ("", "reserved"):
            note(f"`skerry reserve OFFER` takes one; they stand until {when(found.expires_at)} UTC.")
        else:
            note(f"{found.capacity_class} capacity is not reserved: it is taken when work starts.")


def _when(
    nodes: int | None, length: str | None, start: str | None, end: str | None, after: str | None, windows: list[str]
) -> dict[str, Any]:
    """The fields of a quote that say how many and when."""
    now = datetime.now(UTC)
    if windows:
        if nodes is not None or length or start or end or after:
            raise wrong_use("--window says how many and when: leave --nodes, --for, --from, --to and --after out.")
        return {"schedule": [_window(text, now) for text in windows]}
    if nodes is None or (not length and not end):
        raise wrong_use("Say how many nodes, and for how long.", "Such as --nodes 16 --for 14d.")
    if length and end:
        raise wrong_use("--for and --to both say when it ends.", "Leave one of them out.")
    if end and not start:
        raise wrong_use("--to needs --from.", "Without a fixed start say --for.")
    return {
        "nodes": nodes,
        "duration_seconds": inputs.seconds(length, "--for") if length else None,
        "start_at": inputs.future(start, now, "--from") if start else None,
        "end_at": inputs.future(end, now, "--to") if end else None,
        "earliest_after": inputs.future(after, now, "--after") if after else None,
    }


def _window(text: str, now: datetime) -> tuple[datetime, datetime, int]:
    times, _, nodes = text.rpartition("=")
    start, slash, end = times.partition("/")
    if not slash or not nodes.isdecimal():
        raise wrong_use(f"--window: {text!r} is not a window.", "It takes the form 2027-01-01/2027-03-01=64.")
    return inputs.future(start, now, "--window"), inputs.future(end, now, "--window"), int(nodes)
