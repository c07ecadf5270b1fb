"""`skerry login` and `skerry whoami`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from skerry.cli.commanding import Commands
from skerry.cli.failures import wrong_use
from skerry.cli.session import Session, in_words
from skerry.cli.speech import dim
from skerry.client import Credentials, Skerry
from skerry.client.answers.identity import Whoami
from skerry.client.config import DEFAULT_PROFILE, DEFAULT_URL

commands = Commands()
app = commands.app


@commands.command("login")
def login(
    session: Session,
    url: Annotated[str | None, typer.Argument(help=f"Address of the cloud. [default: {DEFAULT_URL}]")] = None,
    api_key_stdin: Annotated[bool, typer.Option("--api-key-stdin", help="Read the key from stdin.")] = False,
) -> None:
    """Store the address and key of a cloud, after checking them.

    They become the profile that --profile names ("default" without it) in $SKERRY_HOME/credentials.toml.
    """
    name = session.profile or DEFAULT_PROFILE
    with in_words():
        credentials = Credentials.load()
        address = (url or os.environ.get("SKERRY_URL") or str(credentials.content.get("url") or DEFAULT_URL)).rstrip(
            "/"
        )
        key = _read_key(api_key_stdin)
        trusted = os.environ.get("SKERRY_CA_CERT")
        ca_cert = str(Path(trusted).absolute()) if trusted else None
        with Skerry(address, key, ca_cert=ca_cert) as client:
            me = client.whoami()
        stored = credentials.with_profile(name, url=address, api_key=key, ca_cert=ca_cert)
        stored.save()
        plain_use = name == DEFAULT_PROFILE and not any(
            credentials.content.get(k) for k in ("project_key", "operator_key")
        )
    session.out.done(
        f"Logged in to {address} as {me.key_name} of {_project(me)}; stored as profile {name} in {stored.path}.",
        {"profile": name, "url": address, "path": str(stored.path), "whoami": me.raw},
    )
    if not plain_use and not session.out.as_json:
        dim(f"Use it with --profile {name}, or SKERRY_PROFILE={name}.")


@commands.command("whoami")
def whoami(session: Session) -> None:
    """Show which key is in use, and what it may do."""
    with session.client() as client:
        me = client.whoami()
    connection = session.connection()
    session.out.fields(
        me,
        [
            ("key", f"{me.key_name} {me.key_id}".strip()),
            ("project", f"{_project(me)} {me.project_id}".strip()),
            ("scopes", ", ".join(me.scopes)),
            ("models", ", ".join(me.models or ())),
            ("url", connection.url),
            ("from", connection.source),
        ],
    )


def _read_key(from_stdin: bool) -> str:
    if from_stdin:
        key = sys.stdin.readline().strip()
    elif sys.stdin.isatty():
        key = str(typer.prompt("API key", hide_input=True, err=True)).strip()
    else:
        raise wrong_use("There is nobody to ask for the key.", "Pass it on stdin, with --api-key-stdin.")
    if not key:
        raise wrong_use("The key is empty.")
    return key


def _project(me: Whoami) -> str:
    return f"{me.organization or me.organization_id}/{me.project or me.project_id}"
