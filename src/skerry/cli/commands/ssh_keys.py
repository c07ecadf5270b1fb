"""`skerry ssh-keys`."""

import re
from pathlib import Path
from typing import Annotated

import typer

from skerry.cli.commanding import Commands
from skerry.cli.failures import wrong_use
from skerry.cli.figures import when
from skerry.cli.machines import Yes, read_public_key, usual_key
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.client.answers.machines import SshKey

commands = Commands("Public keys that machines are made with.")
app = commands.app

COLUMNS: tuple[Column[SshKey], ...] = (
    Column("name", lambda key: key.name, whole=True),
    Column("type", lambda key: key.type),
    Column("fingerprint", lambda key: key.fingerprint, whole=True),
    Column("created", lambda key: when(key.created_at), whole=True),
)


@commands.command("add")
def add_key(
    session: Session,
    path: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="The public key. [default: the first of ~/.ssh/id_*.pub]")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call it. [default: the key's comment]")] = None,
) -> None:
    """Store a public key under a name."""
    file = path.expanduser() if path is not None else usual_key()
    if file is None:
        raise wrong_use("There is no public key in ~/.ssh.", "`ssh-keygen -t ed25519` makes one.")
    text = read_public_key(file)
    with session.client() as client:
        key = client.ssh_keys.create(name or _name_of(text, file), text)
    session.out.done(f"Stored {key.name}: {key.fingerprint}", key.raw)


@commands.command("list")
def list_keys(session: Session) -> None:
    """List the project's SSH keys."""
    with session.client() as client:
        empty = "There are no SSH keys. `skerry ssh-keys add` stores yours."
        session.out.listing(client.ssh_keys.list(), COLUMNS, empty=empty)


@commands.command("remove")
def remove_key(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="KEY", help="Name, id or fingerprint.")],
    yes: Yes = False,
) -> None:
    """Forget a key. Machines that were made with it keep it, until they are terminated."""
    session.confirm(f"Remove the SSH key {name}? Machines that were made with it keep it.", yes=yes)
    with session.client() as client:
        key = client.ssh_keys.delete(name)
    session.out.done(f"Removed {key.name}.", key.raw)


def _name_of(text: str, file: Path) -> str:
    """The key's comment, else the file's name, as far as names may be like that."""
    words = text.split(None, 2)
    base = words[2] if len(words) > 2 else file.stem
    return re.sub(r"[^A-Za-z0-9@._-]+", "-", base).strip("-._@")[:100] or "key"
