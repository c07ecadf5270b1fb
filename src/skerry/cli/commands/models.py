"""`skerry models`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from skerry.cli import inputs
from skerry.cli.commanding import Commands
from skerry.cli.failures import wrong_use
from skerry.cli.figures import count, when
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.cli.speech import note
from skerry.cli.waiting import wait_until_ready
from skerry.client.answers.inference import Model

commands = Commands("The catalogue: list, show, add and remove models.")
app = commands.app


def source_of(model: Model) -> str:
    """Where it comes from; customers are told the kind alone."""
    source = model.source or {}
    kind = str(source.get("kind") or "")
    return f"{kind} {source.get(kind) or ''}".strip()


COLUMNS: tuple[Column[Model], ...] = (
    Column("name", lambda model: model.name or model.id, whole=True),
    Column("engine", lambda model: model.engine),
    Column("context", lambda model: count(model.context_length), right=True),
    Column("status", lambda model: model.status),
    Column("source", source_of),
)


@commands.command("list")
def list_models(session: Session) -> None:
    """List the models of the catalogue."""
    with session.client() as client:
        session.out.listing(client.models.list(), COLUMNS, empty="There are no models. `skerry models add` adds one.")


@commands.command("show")
def show_model(session: Session, name: Annotated[str, typer.Argument(help="Name or id.")]) -> None:
    """Show one model."""
    with session.client() as client:
        model = client.models.get(name)
    session.out.fields(
        model,
        [
            ("name", model.name),
            ("id", model.id),
            ("engine", model.engine),
            ("source", source_of(model)),
            ("context", f"{count(model.context_length)} tokens" if model.context_length else ""),
            ("parameters", count(model.parameters)),
            ("license", model.license or ""),
            ("status", model.status),
            ("added", when(model.created_at)),
        ],
    )


@commands.command("add")
def add_model(
    session: Session,
    name: Annotated[str, typer.Argument(help="The name to call it by.")],
    path: Annotated[Path | None, typer.Option(help="Weights on the server's disk: a folder or a .gguf file.")] = None,
    hub: Annotated[str | None, typer.Option(help="Id of a model on the hub.")] = None,
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="An OpenAI-compatible server that has it.")
    ] = None,
    upstream_key: Annotated[str | None, typer.Option(help="Its API key; safer with --upstream-key-stdin.")] = None,
    upstream_key_stdin: Annotated[
        bool, typer.Option("--upstream-key-stdin", help="Read the upstream's API key from stdin.")
    ] = False,
    upstream_model: Annotated[str | None, typer.Option(help="What the upstream calls it. [default: NAME]")] = None,
    engine: Annotated[str | None, typer.Option(help="llamacpp, vllm or external; without it, what fits.")] = None,
    context: Annotated[int | None, typer.Option(min=1, help="Context length in tokens.")] = None,
    license: Annotated[str | None, typer.Option(help="SPDX id of its licence.")] = None,
    price_prompt: Annotated[str | None, typer.Option(help="Per million prompt tokens.")] = None,
    price_cached: Annotated[str | None, typer.Option(help="Per million prompt tokens that were cached.")] = None,
    price_completion: Annotated[str | None, typer.Option(help="Per million completion tokens.")] = None,
    wait: Annotated[
        bool | None, typer.Option("--wait/--no-wait", help="Wait until it is ready. [default: not for an upstream]")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0, help="Longest wait in seconds.")] = 600.0,
) -> None:
    """Add a model, and serve it. Say where it is: --path, --hub or --upstream.

    --path and --upstream need the operator's key.
    """
    if sum(source is not None for source in (path, hub, upstream)) != 1:
        raise wrong_use("Say where the model is.", "One of --path, --hub and --upstream.")
    if upstream is None and (upstream_key or upstream_key_stdin or upstream_model):
        raise wrong_use("--upstream-key and --upstream-model belong to --upstream.")
    price = {
        "prompt": inputs.price(price_prompt, "--price-prompt"),
        "cached": inputs.price(price_cached, "--price-cached"),
        "completion": inputs.price(price_completion, "--price-completion"),
    }
    source = {
        "path": None if path is None else str(path.expanduser().absolute()),
        "hub": hub,
        "upstream": upstream,
        "upstream_key": sys.stdin.readline().strip() if upstream_key_stdin else upstream_key,
        "upstream_model": upstream_model,
    }
    with session.client(operator=True) as client:
        model = client.models.add(
            name,
            source=source,
            engine=engine,
            context_length=context,
            license=license,
            price={part: value for part, value in price.items() if value is not None},
        )
        if not session.out.as_json:
            note(f"Added {name}.")
        if wait if wait is not None else upstream is None:
            wait_until_ready(client, name, timeout)
    session.out.done(f"Try it: skerry chat -m {name}", model.raw)


@commands.command("remove")
def remove_model(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name or id.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a model and its endpoint."""
    session.confirm(f"Remove {name}, and stop serving it?", yes=yes)
    with session.client(operator=True) as client:
        client.models.remove(name)
    session.out.done(f"Removed {name}.", {"name": name, "removed": True})
