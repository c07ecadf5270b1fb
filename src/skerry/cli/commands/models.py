"""`skerry models`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from skerry.cli import inputs
from skerry.cli.commanding import Commands
from skerry.cli.failures import wrong_use
from skerry.cli.figures import count, size, when
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
    several = source.get("upstreams") or ()
    where = source.get(kind) or ""
    if len(several) > 1:
        where = ", ".join(f"{one.get('url')}={one.get('weight')}" for one in several)
    return f"{kind} {where}".strip()


def _reason(model: Model) -> str:
    return model.status_reason.message if model.status_reason else ""


COLUMNS: tuple[Column[Model], ...] = (
    Column("name", lambda model: model.name or model.id, whole=True),
    Column("engine", lambda model: model.engine),
    Column("context", lambda model: count(model.context_length), right=True),
    Column("status", lambda model: model.status),
    Column("licence", lambda model: model.license or ""),
    Column("source", source_of),
    Column("reason", _reason),
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
            ("revision", model.revision or ""),
            ("context", f"{count(model.context_length)} tokens" if model.context_length else ""),
            ("parameters", count(model.parameters)),
            ("vectors", f"{model.embedding_width} wide" if model.embedding_width else ""),
            ("size", size(model.size_bytes) if model.size_bytes else ""),
            ("licence", model.license or ""),
            ("status", model.status),
            ("reason", _reason(model)),
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
        list[str] | None,
        typer.Option(
            metavar="URL[=WEIGHT]", help="An OpenAI-compatible server that has it; several share it by weight."
        ),
    ] = None,
    upstream_key: Annotated[
        list[str] | None,
        typer.Option(help="Its API key; several in the order of --upstream. Safer with --upstream-key-stdin."),
    ] = None,
    upstream_key_stdin: Annotated[
        bool, typer.Option("--upstream-key-stdin", help="Read the API keys from stdin, a line for each --upstream.")
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
    if sum(bool(source) for source in (path, hub, upstream)) != 1:
        raise wrong_use("Say where the model is.", "One of --path, --hub and --upstream.")
    price = {
        "prompt": inputs.price(price_prompt, "--price-prompt"),
        "cached": inputs.price(price_cached, "--price-cached"),
        "completion": inputs.price(price_completion, "--price-completion"),
    }
    source = {
        "path": None if path is None else str(path.expanduser().absolute()),
        "hub": hub,
        **_upstreams(upstream or [], upstream_key or [], from_stdin=upstream_key_stdin),
        "upstream_model": upstream_model,
    }
    if not upstream and (upstream_key or upstream_key_stdin or upstream_model):
        raise wrong_use("--upstream-key and --upstream-model belong to --upstream.")
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
            note(f"Added {name}{f', licence {model.license}' if model.license else ''}.")
        if wait if wait is not None else not upstream:
            wait_until_ready(client, name, timeout)
    session.out.done(f"Try it: skerry chat -m {name}", model.raw)


def _upstreams(servers: list[str], keys: list[str], *, from_stdin: bool) -> dict[str, Any]:
    """One server as `upstream`, several or weighted ones as `upstreams`. A key goes to the server it was given for."""
    found = [inputs.weighted(server, "--upstream") for server in servers]
    given = [sys.stdin.readline().strip() for _ in found] if from_stdin else keys
    if given and found and len(given) != len(found):
        raise wrong_use(
            f"There are {len(found)} upstreams and {len(given)} keys.",
            "Give a key for each, in the same order; an empty one where there is none.",
        )
    if len(found) <= 1 and all(weight is None for _, weight in found):
        return {"upstream": found[0][0] if found else None, "upstream_key": given[0] or None if given else None}
    servers_out = []
    for number, (url, weight) in enumerate(found):
        key = given[number] if given else ""
        servers_out.append({"url": url, "weight": weight} | ({"key": key} if key else {}))
    return {"upstreams": [{name: value for name, value in one.items() if value is not None} for one in servers_out]}


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
