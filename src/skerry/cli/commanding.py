"""How commands are declared: a function that takes a Session, and gets --json, --profile and --project for free."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from skerry.cli.output import Answers
from skerry.cli.session import Session

P = ParamSpec("P")

Organization = Annotated[
    str | None, typer.Option(help="Of this organization, by id or name (operators). [default: the project's]")
]

HELP_OPTIONS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Commands:
    """The commands of one module. `app` is what the catalogue finds."""

    def __init__(self, help: str | None = None) -> None:
        self.app = typer.Typer(
            help=help, no_args_is_help=True, add_completion=False, rich_markup_mode=None, context_settings=HELP_OPTIONS
        )
        # A callback keeps typer from taking an app of one command for that command.
        self.app.callback()(lambda: None)

    def command(
        self, name: str
    ) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], None]]:
        def declare(function: Callable[Concatenate[Session, P], None]) -> Callable[Concatenate[Session, P], None]:
            self.app.command(name, context_settings=HELP_OPTIONS)(with_session(function))
            return function

        return declare


def with_session(function: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """The same function as typer is to see it: common options in the place of the session."""

    call: Callable[..., None] = function

    @wraps(function)
    def run(*, ctx: typer.Context, as_json: bool, profile: str | None, project: str | None, **own: Any) -> None:
        session = Session(Answers(as_json), profile or ctx.find_root().obj, project)
        call(session, **own)

    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in list(inspect.signature(function).parameters.values())[1:]
    ]
    parameters = [*own, *inspect.signature(_common).parameters.values()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _common(
    *,
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the API's JSON instead of text.")] = False,
    profile: Annotated[str | None, typer.Option(help="Use a profile that `skerry login` has stored.")] = None,
    project: Annotated[
        str | None, typer.Option(help="Act on this project (operators): its id, name, or organization/name.")
    ] = None,
) -> None:
    """Only its signature matters: the options that all commands share."""
