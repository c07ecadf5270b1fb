"""`skerry fleet join`: it becomes a program of the Slurm engine, which prepares the machine it is called on."""

import os
import sys
from typing import Annotated

import typer

PROGRAM = "skerry.compute.engines.slurm.join"


def join(
    shared: Annotated[str | None, typer.Option(metavar="FOLDER", help="What all nodes and the server share.")] = None,
    work: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where tasks work. [default: /var/lib/skerry/slurm]")
    ] = None,
    name: Annotated[str | None, typer.Option(help="NodeName in Slurm. [default: this host's name]")] = None,
    munge_socket: Annotated[
        str | None, typer.Option(metavar="PATH", help="Where it is not in its usual place.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks and the lines as JSON.")] = False,
) -> None:
    """Prepare this machine as a node of a Slurm fleet, and print its lines for Slurm's files. As root.

    Makes the user and the folders that tasks need, checks slurmd and munge; exit code 1 where
    something is missing. Calling it again changes nothing.
    """
    options = {"--shared": shared, "--work": work, "--name": name, "--munge-socket": munge_socket}
    args = [word for option, value in options.items() if value is not None for word in (option, value)]
    sys.stdout.flush()
    sys.stderr.flush()
    # In our place, so that its exit code is ours.
    os.execv(sys.executable, [sys.executable, "-m", PROGRAM, *args, *(["--json"] if as_json else [])])  # noqa: S606
