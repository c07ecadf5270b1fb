"""`skerry up`, `down` and the single roles: they become `python -m skerry.server ROLE`."""

import os
import sys
from typing import Annotated, Literal

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)

FORWARDING = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def become(role: str, *args: str) -> None:
    """Replaces this process, so that signals, terminal and exit code are the server's own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "skerry.server", role, *args])  # noqa: S606


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def up(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Public port. [default: 8080]")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when it is ready, and leave it running.")
    ] = False,
    engine: Annotated[
        Literal["embedded", "slurm"] | None, typer.Option(help="What starts work. [default: embedded]")
    ] = None,
    virtual_nodes: Annotated[int | None, typer.Option(min=1, help="Divide this machine into so many nodes.")] = None,
    tls_cert: Annotated[str | None, typer.Option(metavar="FILE", help="Speak HTTPS with this certificate.")] = None,
    tls_key: Annotated[str | None, typer.Option(metavar="FILE", help="The certificate's private key.")] = None,
) -> None:
    """Start a cloud on this machine.

    Without --detach it stays in the foreground; Ctrl-C stops it.
    """
    # Only what was said is passed on: the server's own settings decide the rest.
    options = {
        "--port": port,
        "--host": host,
        "--engine": engine,
        "--virtual-nodes": virtual_nodes,
        "--tls-cert": tls_cert,
        "--tls-key": tls_key,
    }
    args = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    become("up", *args, *(["--detach"] if detach else []))


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def down(as_json: Annotated[bool, typer.Option("--json", help="Say what was done as JSON.")] = False) -> None:
    """Stop the cloud on this machine."""
    become("down", *(["--json"] if as_json else []))


@app.command()
def reload(as_json: Annotated[bool, typer.Option("--json", help="Say what was done as JSON.")] = False) -> None:
    """Replace the gateway and its certificate without cutting an answer.

    The new gateway reads the certificate anew, and serves before the old one ends, which finishes
    what it has. Where the new one does not come up, nothing changes.
    """
    become("reload", *(["--json"] if as_json else []))


@app.command(context_settings=FORWARDING)
def gateway(ctx: typer.Context) -> None:
    """Run a gateway alone, for a cloud of several machines."""
    become("gateway", *ctx.args)


@app.command(context_settings=FORWARDING)
def server(ctx: typer.Context) -> None:
    """Run an API server alone."""
    become("server", *ctx.args)


@app.command(context_settings=FORWARDING)
def controller(ctx: typer.Context) -> None:
    """Run a controller alone."""
    become("controller", *ctx.args)


@app.command(context_settings=FORWARDING, hidden=True)
def agent(ctx: typer.Context) -> None:
    """Run the agent that starts work on this machine."""
    become("agent", *ctx.args)


@app.command(context_settings=FORWARDING, hidden=True)
def shipper(ctx: typer.Context) -> None:
    """Run the process that ships usage records."""
    become("shipper", *ctx.args)
