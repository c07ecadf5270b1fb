"""`skerry projects`."""

from typing import Annotated

import typer

from skerry.cli import inputs
from skerry.cli.commanding import Commands, Organization
from skerry.cli.failures import wrong_use
from skerry.cli.figures import when
from skerry.cli.limits import Concurrent, Rpm, Tpm, changed, shown
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.client.answers.identity import Project

commands = Commands("Projects of the organization.")
app = commands.app

Name = Annotated[str, typer.Argument(metavar="PROJECT", help="Name or id.")]

COLUMNS: tuple[Column[Project], ...] = (
    Column("id", lambda project: project.id, whole=True),
    Column("name", lambda project: project.name, whole=True),
    Column("organization", lambda project: project.organization),
    Column("jurisdictions", lambda project: ", ".join(project.jurisdictions) or "any"),
    Column("limits", lambda project: shown(project.limits)),
    Column("trusted", lambda project: "yes" if project.trusted else "no"),
    Column("created", lambda project: when(project.created_at), whole=True),
)


@commands.command("list")
def list_projects(session: Session, organization: Organization = None) -> None:
    """List the projects that the key may see."""
    with session.client(operator=organization is not None) as client:
        empty = "There are no projects. `skerry projects create` makes one."
        session.out.listing(client.projects.list(organization=organization), COLUMNS, empty=empty)


@commands.command("show")
def show_project(session: Session, name: Name) -> None:
    """Show one project."""
    with session.client() as client:
        found = client.projects.get(name)
    session.out.fields(
        found,
        [
            ("name", found.name),
            ("id", found.id),
            ("organization", found.organization),
            ("jurisdictions", ", ".join(found.jurisdictions) or "any"),
            ("trusted", "yes" if found.trusted else "no"),
            ("limits", shown(found.limits) or "none"),
            ("log content", "kept" if found.log_content else "not kept"),
            ("created", when(found.created_at)),
        ],
    )


@commands.command("set")
def set_project(
    session: Session,
    name: Name,
    rpm: Rpm = None,
    tpm: Tpm = None,
    concurrent: Concurrent = None,
    log_content: Annotated[
        bool | None, typer.Option("--log-content/--no-log-content", help="Keep what was asked and answered, encrypted.")
    ] = None,
    rename: Annotated[str | None, typer.Option(metavar="NAME", help="Another name.")] = None,
    jurisdiction: Annotated[
        list[str] | None, typer.Option(help="Where its data may be; several times, any: anywhere.")
    ] = None,
) -> None:
    """Set its limits, and whether the request log keeps what was said."""
    places = None if jurisdiction is None else [one for one in inputs.words(jurisdiction) if one != "any"]
    if all(value is None for value in (rpm, tpm, concurrent, log_content, rename, places)):
        raise wrong_use("There is nothing to change.", "--rpm, --tpm, --concurrent, --log-content or --rename.")
    with session.client() as client:
        before = client.projects.get(name)
        limits = changed(before.limits, rpm, tpm, concurrent)
        after = client.projects.update(
            before.id, name=rename, jurisdictions=places, limits=limits, log_content=log_content
        )
    kept = "kept" if after.log_content else "not kept"
    words = f"{after.name}: limits {shown(after.limits) or 'none'}; what is said is {kept}."
    session.out.done(words, after.raw)


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
