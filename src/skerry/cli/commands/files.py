"""`skerry files`."""

from pathlib import Path
from typing import Annotated

import typer

from skerry.cli import inputs
from skerry.cli.commanding import Commands
from skerry.cli.failures import wrong_use
from skerry.cli.figures import size, when
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.cli.transfers import download, upload
from skerry.client.answers.work import File

commands = Commands("Files in the cloud: upload, list, get and remove.")
app = commands.app

FileId = Annotated[str, typer.Argument(metavar="FILE", help="The file's id.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", dir_okay=False, help="Where to. [default: stdout]")]

COLUMNS: tuple[Column[File], ...] = (
    Column("id", lambda file: file.id, whole=True),
    Column("name", lambda file: file.filename),
    Column("purpose", lambda file: file.purpose, whole=True),
    Column("size", lambda file: size(file.bytes), right=True),
    Column("created", lambda file: when(file.created), whole=True),
    Column("expires", lambda file: when(file.expires), whole=True),
)


@commands.command("upload")
def upload_file(
    session: Session,
    path: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True)],
    purpose: Annotated[str, typer.Option(help="What it is for; it is checked for that as it comes.")] = "batch",
    expires: Annotated[
        str | None, typer.Option(help="Delete it after so long, such as 7d; an hour to 30 days. [default: never]")
    ] = None,
) -> None:
    """Upload a file, and print its id."""
    session.require_own_project("A file")
    seconds = inputs.seconds(expires, "--expires") if expires else None
    with session.client() as client:
        file = upload(client, path, purpose=purpose, expires_after=seconds)
    session.out.made(file.id, f"Uploaded {file.filename}: {size(file.bytes)}.", file.raw)


@commands.command("list")
def list_files(
    session: Session,
    purpose: Annotated[str | None, typer.Option(help="Only those of this purpose.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
) -> None:
    """List the project's files, the newest first."""
    session.require_own_project("A file")
    with session.client() as client:
        files = client.files.list(purpose=purpose, limit=min(limit, 1000))
        empty = "There are no files. `skerry files upload FILE` puts one there."
        session.out.listing(files, COLUMNS, empty=empty, limit=limit)


@commands.command("show")
def show_file(session: Session, file_id: FileId) -> None:
    """Show one file."""
    session.require_own_project("A file")
    with session.client() as client:
        file = client.files.get(file_id)
    session.out.fields(
        file,
        [
            ("id", file.id),
            ("name", file.filename),
            ("purpose", file.purpose),
            ("status", file.status),
            ("bytes", f"{file.bytes:,}"),
            ("sha256", file.sha256),
            ("created", when(file.created)),
            ("expires", when(file.expires)),
        ],
    )


@commands.command("get")
def get_file(session: Session, file_id: FileId, output: Output = None) -> None:
    """Download a file."""
    session.require_own_project("A file")
    if session.out.as_json and output is None:
        raise wrong_use("--json needs -o: the file itself goes to stdout.")
    with session.client() as client:
        written = download(client, file_id, output)
    if output is not None:
        told = {"id": file_id, "path": str(output), "bytes": written}
        session.out.done(f"Wrote {output}: {size(written)}.", told)


@commands.command("remove")
def remove_file(
    session: Session,
    file_id: FileId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a file, for good."""
    session.require_own_project("A file")
    session.confirm(f"Delete {file_id} for good?", yes=yes)
    with session.client() as client:
        client.files.delete(file_id)
    session.out.done(f"Deleted {file_id}.", {"id": file_id, "deleted": True})
