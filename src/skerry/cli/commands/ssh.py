"""`skerry ssh`."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from skerry.cli.commanding import Commands
from skerry.cli.failures import Failure, wrong_use
from skerry.cli.machines import fingerprint, reason
from skerry.cli.session import Session
from skerry.client import Credentials, NotFound, Skerry
from skerry.client.answers.machines import Cluster, Instance, Ssh

commands = Commands()
app = commands.app


@commands.command("ssh")
def ssh(
    session: Session,
    name: Annotated[str, typer.Argument(help="An instance or a cluster.")],
    command: Annotated[list[str] | None, typer.Argument(metavar="[-- COMMAND...]", help="Run this instead.")] = None,
    node: Annotated[int | None, typer.Option(min=0, help="Of a cluster: this node. [default: 0]")] = None,
    identity: Annotated[
        Path | None,
        typer.Option("--identity", "-i", exists=True, dir_okay=False, help="Private key. [default: the one that fits]"),
    ] = None,
    forward: Annotated[
        list[str] | None,
        typer.Option("--forward", "-L", metavar="PORT:HOST:PORT", help="Reach a port of it from here; several times."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command, and run nothing.")] = False,
) -> None:
    """Log in to an instance or a node of a cluster.

    Its host key is checked against the cloud's record.
    """
    with session.client() as client:
        machine = _machine(client, name)
    place, alias = _place(machine, node)
    program = shutil.which("ssh")
    if program is None:
        raise Failure("There is no ssh on this machine.", suggestion="Install OpenSSH's client.")
    known = _known_hosts(alias, place)
    arguments = _arguments(
        place, alias, known, identity or _fitting_key(machine.ssh_keys), forward or (), command or ()
    )
    if dry_run or session.out.as_json:
        session.out.json({"command": [program, *arguments]})
        return
    os.execv(program, [program, *arguments])  # noqa: S606 - a list of words, no shell


def _machine(client: Skerry, name: str) -> Instance | Cluster:
    """An instance of that name, else a cluster."""
    try:
        return client.instances.get(name)
    except NotFound:
        pass
    try:
        return client.clusters.get(name)
    except NotFound as error:
        raise Failure(
            f"There is neither an instance nor a cluster {name!r}.",
            suggestion="`skerry instance list` and `skerry cluster list` show what there is.",
        ) from error


def _place(machine: Instance | Cluster, node: int | None) -> tuple[Ssh, str]:
    """How to log in, and under which name the host key is kept."""
    if isinstance(machine, Instance):
        if node is not None:
            raise wrong_use(f"{machine.name} is an instance: it has no nodes to choose from.")
        found = machine.ssh
    else:
        number = node or 0
        if number >= len(machine.nodes):
            raise wrong_use(f"--node: {machine.name} has nodes 0 to {len(machine.nodes) - 1}.")
        found = machine.nodes[number].ssh
    if found is None:
        noun = "instance" if isinstance(machine, Instance) else "cluster"
        again = f"`skerry {noun} start {machine.name}` starts it." if machine.status == "stopped" else "Try again then."
        raise Failure(f"{machine.name} is {machine.status}: {reason(machine)}", suggestion=again)
    return found, machine.id


def _known_hosts(alias: str, place: Ssh) -> Path:
    """A file of our own: addresses are used again for other machines, so that hosts are known by their ids."""
    folder = Credentials.load().path.parent / "ssh"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{alias}.known_hosts"
    path.write_text(f"{alias} {place.host_key}\n", encoding="utf-8")
    return path


def _fitting_key(fingerprints: Sequence[str]) -> Path | None:
    """This user's private key whose public one may log in; None leaves it to ssh and its agent."""
    folder = Path("~/.ssh").expanduser()
    for public in sorted(folder.glob("*.pub")) if folder.is_dir() else ():
        private = public.with_suffix("")
        try:
            fits = fingerprint(public.read_text(encoding="utf-8")) in fingerprints
        except (OSError, UnicodeDecodeError):
            continue
        if fits and private.is_file():
            return private
    return None


def _arguments(
    place: Ssh, alias: str, known: Path, key: Path | None, forward: Sequence[str], command: Sequence[str]
) -> list[str]:
    options = {
        "HostKeyAlias": alias,
        "UserKnownHostsFile": f'"{known}"',
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    if key is not None:
        words += ["-i", str(key), "-o", "IdentitiesOnly=yes"]
    for one in forward:
        words += ["-L", one]
    return [*words, "-p", str(place.port), "-l", place.user, "--", place.host, *command]
