"""`skerry members`."""

from typing import Annotated, Literal

import typer

from skerry.cli.commanding import Commands, Organization
from skerry.cli.figures import when
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.client.answers.identity import Member

commands = Commands("People of the organization.")
app = commands.app

COLUMNS: tuple[Column[Member], ...] = (
    Column("id", lambda member: member.id, whole=True),
    Column("email", lambda member: member.email, whole=True),
    Column("role", lambda member: member.role),
    Column("since", lambda member: when(member.created_at), whole=True),
)


@commands.command("list")
def list_members(session: Session, organization: Organization = None) -> None:
    """List the members."""
    with session.client(operator=organization is not None) as client:
        empty = "There are no members. `skerry members add` adds one."
        session.out.listing(client.members.list(organization=organization), COLUMNS, empty=empty)


@commands.command("add")
def add_member(
    session: Session,
    email: Annotated[str, typer.Argument()],
    role: Annotated[
        Literal["owner", "admin", "member", "billing", "viewer"], typer.Option(help="What they may do.")
    ] = "member",
    organization: Organization = None,
) -> None:
    """Add somebody to the organization."""
    with session.client(operator=organization is not None) as client:
        member = client.members.add(email, role=role, organization=organization)
    session.out.done(f"Added {member.email} as {member.role}.", member.raw)
