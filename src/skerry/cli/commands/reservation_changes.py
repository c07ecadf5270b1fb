"""The verbs of `skerry reservations` that change one: each shows its quote, asks, and carries it out."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from skerry.cli import inputs
from skerry.cli.capacityview import change_lines
from skerry.cli.commanding import Commands
from skerry.cli.failures import Failure, wrong_use
from skerry.cli.figures import when
from skerry.cli.session import Session
from skerry.cli.speech import note
from skerry.client import Skerry
from skerry.client.answers.capacity import ChangeQuote, Reservation

PREFIX = "res_"

Id = Annotated[str, typer.Argument(metavar="RESERVATION", help="Its id, or its name where only one has it.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what it would cost, and change nothing.")]


def add(commands: Commands) -> None:
    """Declares the verbs among `commands`."""
    for name, verb in (
        ("cancel", cancel),
        ("extend", extend),
        ("shrink", shrink),
        ("move", move),
        ("split", split),
    ):
        commands.command(name)(verb)


def cancel(session: Session, reservation: Id, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Give up all that is to come. What was used stays charged; the terms agreed on say whether there is a fee."""
    with session.client() as client:
        own = found_by(client, reservation)
        if own.status == "held":
            raise Failure(f"{own.id} is only held.", suggestion=f"`skerry reservations drop {own.id}` gives it back.")
        _change(session, client, own, lambda: client.reservations.quote_cancel(own.id), dry_run=dry_run, yes=yes)


def extend(
    session: Session,
    reservation: Id,
    to: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Until then, such as 2027-02-01.")] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="TIME", help="So much longer, such as 7d.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Keep the nodes that last to the end for longer."""
    if (to is None) == (by is None):
        raise wrong_use("Say until when.", "--to 2027-02-01, or --by 7d for seven days more.")
    with session.client() as client:
        own = found_by(client, reservation)
        if by is not None:
            end = own.end + timedelta(seconds=inputs.seconds(by, "--by"))
        else:
            end = inputs.future(to or "", datetime.now(UTC), "--to")
        _change(session, client, own, lambda: client.reservations.quote_extend(own.id, end), dry_run=dry_run, yes=yes)


def shrink(
    session: Session,
    reservation: Id,
    nodes: Annotated[int, typer.Option("--nodes", "-n", min=1, help="How many to keep.")],
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="From then on. [default: now, or its start]")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Cancel part of it: keep so many nodes."""
    moment = inputs.future(since, datetime.now(UTC), "--from") if since else None
    with session.client() as client:
        own = found_by(client, reservation)
        _change(
            session,
            client,
            own,
            lambda: client.reservations.quote_shrink(own.id, nodes, since=moment),
            dry_run=dry_run,
            yes=yes,
        )


def move(
    session: Session,
    reservation: Id,
    to: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Its new start. [default: as it is]")] = None,
    site: Annotated[str | None, typer.Option(help="Its new site. [default: wherever there is room]")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Have the same at another time, or at another site; before it is delivered."""
    if to is None and site is None:
        raise wrong_use("Say where to.", "--to 2027-02-01, --site NAME, or both.")
    start = inputs.future(to, datetime.now(UTC), "--to") if to else None
    with session.client() as client:
        own = found_by(client, reservation)
        _change(
            session,
            client,
            own,
            lambda: client.reservations.quote_move(own.id, start or own.start, site=site),
            dry_run=dry_run,
            yes=yes,
        )


def split(
    session: Session,
    reservation: Id,
    part: Annotated[
        list[str], typer.Option("--part", metavar="PROJECT=NODES", help="What goes where; may be said several times.")
    ],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Hand nodes to other projects of the organization; before it is delivered."""
    parts = {project: _nodes(nodes) for project, nodes in inputs.pairs(part, "--part").items()}
    with session.client() as client:
        own = found_by(client, reservation)
        _change(
            session,
            client,
            own,
            lambda: client.reservations.quote_split(own.id, parts),
            projects=tuple(parts),
            dry_run=dry_run,
            yes=yes,
        )


def found_by(client: Skerry, ref: str) -> Reservation:
    """By id, or by a name that only one has; one that is over gives way to one that is not."""
    if ref.startswith(PREFIX):
        return client.reservations.get(ref)
    named = [own for own in client.reservations.list(name=ref) if own.name == ref]
    found = [own for own in named if own.ended_at is None] or named
    if not found:
        raise Failure(f"There is no reservation {ref!r} in this project.", suggestion="`skerry reservations list`")
    if len(found) > 1:
        listed = tuple(f"{own.id}  {own.status}, from {when(own.start)} UTC" for own in found)
        raise Failure(f"{len(found)} reservations are called {ref!r}.", details=listed, suggestion="Say which by id.")
    return found[0]


def _change(
    session: Session,
    client: Skerry,
    own: Reservation,
    ask: Callable[[], ChangeQuote],
    *,
    dry_run: bool,
    yes: bool,
    projects: tuple[str, ...] = (),
) -> None:
    """The quote first; then the question, and then the change as it was quoted."""
    quote = ask()
    if dry_run and session.out.as_json:
        session.out.json(quote.raw)
        return
    if not session.out.as_json:
        note("\n".join(change_lines(own, quote, projects)))
    if dry_run:
        return
    session.confirm(f"{quote.kind.capitalize()} {own.name}?", yes=yes)
    after = client.reservations.change(own.id, quote.id)
    words = [f"Done: {after.name} is {after.status}.", *(f"Made of it: {id}" for id in after.created)]
    session.out.done("\n".join(words), after.raw)


def _nodes(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise wrong_use(f"--part: {text!r} is not a number of nodes.", "It takes the form research=4.")
    return int(text)
