"""`skerry`: the command line. Light on purpose; see `lazy.py`."""

import sys
from typing import Annotated

import typer

from skerry import __version__
from skerry.cli.failures import ExitCode, Failure
from skerry.cli.lazy import RootGroup
from skerry.cli.speech import complain, debugging

app = typer.Typer(
    cls=RootGroup,
    name="skerry",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main() -> None:
    try:
        app(prog_name="skerry")
    except Exception as error:
        if debugging():
            raise
        words = f"{type(error).__name__}: {error}"
        complain(Failure(words, suggestion="This is a bug in skerry. SKERRY_DEBUG=1 shows where it happened."))
        sys.exit(ExitCode.FAILED)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"skerry {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    profile: Annotated[
        str | None, typer.Option(envvar="SKERRY_PROFILE", help="Use a profile that `skerry login` has stored.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Reserve, run, serve, meter and bill GPU capacity.

    `skerry up` starts a cloud on this machine; `skerry chat` talks to it.
    """
    ctx.obj = profile
