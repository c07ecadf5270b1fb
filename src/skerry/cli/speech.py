"""Words to people, on stderr: stdout belongs to what was asked for. Without rich, which `--help` has no use for."""

import os
import sys

import typer

from skerry.cli.failures import Failure


def note(text: str) -> None:
    """An ordinary line."""
    typer.secho(printable(text), err=True, color=_colour())


def dim(text: str) -> None:
    """A line that may be overlooked."""
    typer.secho(printable(text), err=True, dim=True, color=_colour())


def complain(failure: Failure) -> None:
    typer.secho("Error: ", err=True, nl=False, fg="red", bold=True, color=_colour())
    typer.secho(printable(failure.message), err=True, color=_colour())
    for line in failure.details:
        note(f"  {line}")
    if failure.suggestion:
        note(failure.suggestion)


def debugging() -> bool:
    """SKERRY_DEBUG=1 shows tracebacks."""
    return os.environ.get("SKERRY_DEBUG", "") not in ("", "0")


def interactive() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def printable(text: str) -> str:
    """Without characters that a terminal would act on: names, messages and answers come from elsewhere."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def _colour() -> bool | None:
    """None leaves it to whether stderr is a terminal."""
    return False if os.environ.get("NO_COLOR") else None
