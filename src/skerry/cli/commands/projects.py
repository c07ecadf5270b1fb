"""`skerry projects`."""

from typing import Annotated

import typer

from skerry.cli import inputs
from skerry.cli.commanding import Commands, Organization
from skerry.cli.figures import when
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.client.answers.identity import Project

commands = Commands("Projects of the organization.")
app = commands.app

COLUMNS: tuple[Column[Project], ...] = (
    Column("id", lambda project: project.id, whole=True),
    Column("name", lambda project: project.name, whole=True),
    Column("organization", lambda project: project.organization),
    Column("jurisdictions", lambda project: ", ".join(project.jurisdictions) or "any"),
    Column("trusted", lambda project: "yes" if project.trusted else "no"),
    Column("created", lambda project: when(project.created_at), whole=True),
)


@commands.command("list")
def list_projects(session: Session, organization: Organization = None) -> None:
    """List the projects that the key may see."""
    with session.client(operator=organization is not None) as client:
        empty = "There are no projects. `skerry projects create` makes one."
        session.out.listing(client.projects.list(organization=organization), COLUMNS, empty=empty)


@commands.command("create")
def create_project(
    session: Session,
    name: Annotated[str, typer.Argument(help="Its name.")],
    jurisdiction: Annotated[
        list[str] | None,
        typer.Option(help="Where its data may be, such as NO or EU; several times. [default: anywhere]"),
    ] = None,
    organization: Organization = None,
    trusted: Annotated[
        bool, typer.Option("--trusted", help="Its code may share a boundary with others (operators).")
    ] = False,
) -> None:
    """Create a project."""
    needs_operator = organization is not None or trusted
    with session.client(operator=needs_operator) as client:
        project = client.projects.create(
            name,
            jurisdictions=inputs.words(jurisdiction or []) or None,
            organization=organization,
            trusted=trusted or None,
        )
    session.out.done(f"Created project {project.name}: {project.id}", project.raw)
