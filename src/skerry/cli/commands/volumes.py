"""`skerry volumes`."""

from typing import Annotated

import typer

from skerry.cli.commanding import Commands
from skerry.cli.figures import size, when
from skerry.cli.machines import Yes, size_of
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.client.answers.machines import Volume

commands = Commands("Room that outlives machines: create, list, show and delete.")
app = commands.app

Name = Annotated[str, typer.Argument(metavar="VOLUME", help="Name or id.")]


def _users(volume: Volume) -> str:
    return ", ".join(f"{one.id} at {one.target}{' (read-only)' * one.read_only}" for one in volume.attached_to)


COLUMNS: tuple[Column[Volume], ...] = (
    Column("name", lambda one: one.name, whole=True),
    Column("kind", lambda one: one.kind),
    Column("size", lambda one: size(one.bytes), right=True),
    Column("site", lambda one: one.site),
    Column("status", lambda one: one.status, whole=True),
    Column("attached to", _users),
)


@commands.command("create")
def create_volume(
    session: Session,
    name: Annotated[str, typer.Argument(help="What to call it.")],
    bytes: Annotated[str, typer.Option("--size", metavar="SIZE", help="Such as 100GiB; it is what is paid.")],
    site: Annotated[str | None, typer.Option(help="Where. [default: the only one]")] = None,
    tier: Annotated[str | None, typer.Option(help="[default: standard]")] = None,
) -> None:
    """Make a volume. `--volume NAME:/PATH` of `skerry instance create` attaches it."""
    with session.client() as client:
        made = client.volumes.create(name, bytes=size_of(bytes, "--size"), site=site, tier=tier)
    session.out.made(made.id, f"Created {made.name}: {size(made.bytes)} at {made.site}.", made.raw)


@commands.command("list")
def list_volumes(
    session: Session,
    site: Annotated[str | None, typer.Option(help="Only those at this site.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
) -> None:
    """List the volumes, home folders of machines included."""
    with session.client() as client:
        found = client.volumes.list(site=site, limit=min(limit, 500))
        empty = "There are no volumes. `skerry volumes create NAME --size 100GiB` makes one."
        session.out.listing(found, COLUMNS, empty=empty, limit=limit)


@commands.command("show")
def show_volume(session: Session, name: Name) -> None:
    """Show one volume."""
    with session.client() as client:
        one = client.volumes.get(name)
    wipe = one.wipe or {}
    session.out.fields(
        one,
        [
            ("name", one.name),
            ("id", one.id),
            ("kind", one.kind),
            ("status", one.status),
            ("reason", one.status_reason.message if one.status_reason else ""),
            ("size", f"{size(one.bytes)} ({one.bytes:,} bytes)"),
            ("site", one.site),
            ("tier", one.tier),
            ("attached to", _users(one)),
            ("created", when(one.created_at)),
            ("deleted", when(one.deleted_at)),
            ("wiped", ", ".join(f"{name} {value}" for name, value in wipe.items())),
        ],
    )


@commands.command("delete")
def delete_volume(session: Session, name: Name, yes: Yes = False) -> None:
    """Delete a volume and all that is in it, for good."""
    session.confirm(f"Delete {name} and all that is in it, for good?", yes=yes)
    with session.client() as client:
        one = client.volumes.delete(name)
    session.out.done(f"{one.name} is {one.status}; it costs nothing any more.", one.raw)
