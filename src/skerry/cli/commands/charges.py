"""`skerry charges`."""

from typing import Annotated

import typer

from skerry.cli.commanding import Commands
from skerry.cli.figures import money, when
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.client.answers.contracts import Charge

commands = Commands()
app = commands.app

COLUMNS: tuple[Column[Charge], ...] = (
    Column("id", lambda charge: charge.id, whole=True),
    Column("at", lambda charge: when(charge.at)),
    Column("kind", lambda charge: charge.kind, whole=True),
    Column("for", lambda charge: charge.resource, whole=True),
    Column("amount", lambda charge: money(charge.amount), right=True),
    Column("reason", lambda charge: charge.reason),
)


@commands.command("charges")
def charges(
    session: Session,
    resource: Annotated[str | None, typer.Option(help="Of this alone, such as a reservation.")] = None,
) -> None:
    """Show one-off charges.

    Fees for cancelling are some. They are part of `skerry costs` as well.
    """
    with session.client() as client:
        empty = "There are no one-off charges."
        session.out.listing(client.charges.list(resource=resource), COLUMNS, empty=empty)
