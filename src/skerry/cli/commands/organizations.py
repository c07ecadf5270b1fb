"""`skerry organizations`."""

from typing import Annotated, Literal

import typer

from skerry.cli.commanding import Commands
from skerry.cli.failures import wrong_use
from skerry.cli.figures import when
from skerry.cli.limits import Concurrent, Rpm, Tpm, changed, shown
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.client.answers.identity import Organization

commands = Commands("Organizations, their limits and tiers (operators).")
app = commands.app

Name = Annotated[str, typer.Argument(metavar="ORGANIZATION", help="Name or id.")]

COLUMNS: tuple[Column[Organization], ...] = (
    Column("id", lambda organization: organization.id, whole=True),
    Column("name", lambda organization: organization.name, whole=True),
    Column("tier", lambda organization: organization.tier),
    Column("limits", lambda organization: shown(organization.limits)),
    Column("created", lambda organization: when(organization.created_at), whole=True),
)


@commands.command("list")
def list_organizations(session: Session) -> None:
    """List the organizations."""
    with session.client(operator=True) as client:
        empty = "There are no organizations. `skerry organizations create` makes one."
        session.out.listing(client.organizations.list(), COLUMNS, empty=empty)


@commands.command("show")
def show_organization(session: Session, name: Name) -> None:
    """Show one organization."""
    with session.client(operator=True) as client:
        found = client.organizations.get(name)
    session.out.fields(
        found,
        [
            ("name", found.name),
            ("id", found.id),
            ("tier", found.tier),
            ("limits", shown(found.limits) or "none"),
            ("created", when(found.created_at)),
        ],
    )


@commands.command("create")
def create_organization(session: Session, name: Annotated[str, typer.Argument(help="Its name.")]) -> None:
    """Create an organization. Its first project will be its home, whose keys manage it."""
    with session.client(operator=True) as client:
        made = client.organizations.create(name)
    session.out.done(f"Created organization {made.name}: {made.id}", made.raw)


@commands.command("set")
def set_organization(
    session: Session,
    name: Name,
    rpm: Rpm = None,
    tpm: Tpm = None,
    concurrent: Concurrent = None,
    tier: Annotated[
        Literal["standard", "free"] | None, typer.Option(help="free ones are slowed first when demand surges.")
    ] = None,
) -> None:
    """Set its limits, which hold for all its projects together, and its tier."""
    if tier is None and rpm is None and tpm is None and concurrent is None:
        raise wrong_use("There is nothing to change.", "--rpm, --tpm, --concurrent or --tier.")
    with session.client(operator=True) as client:
        before = client.organizations.get(name)
        limits = changed(before.limits, rpm, tpm, concurrent)
        after = client.organizations.update(before.id, limits=limits, tier=tier)
    session.out.done(f"{after.name}: tier {after.tier}, limits {shown(after.limits) or 'none'}.", after.raw)
