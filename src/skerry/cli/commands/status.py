"""`skerry status`: asks `python -m skerry.server status`, and draws the answer."""

import json
import subprocess
import sys
from typing import Annotated, Any

import typer

from skerry.cli.failures import Failure
from skerry.cli.output import Answers, Column
from skerry.cli.speech import note

app = typer.Typer(add_completion=False, rich_markup_mode=None)
# A callback keeps typer from taking an app of one command for that command.
app.callback()(lambda: None)

COLUMNS: tuple[Column[dict[str, Any]], ...] = (
    Column("role", lambda process: str(process.get("role") or ""), whole=True),
    Column("pid", lambda process: str(process.get("pid") or "–"), right=True),
    Column("status", lambda process: str(process.get("status") or ""), whole=True),
    Column("resource", lambda process: str(process.get("resource") or ""), whole=True),
    Column("reason", lambda process: str(process.get("reason") or "")),
)


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show the processes of the cloud on this machine.

    Exit code 0: ready; otherwise it is not.
    """
    asked = subprocess.run([sys.executable, "-m", "skerry.server", "status", "--json"], capture_output=True, text=True)
    try:
        answer = json.loads(asked.stdout)
    except ValueError as error:
        last = asked.stderr.strip().splitlines()[-1:] or ["it said nothing."]
        raise Failure(f"The status cannot be told: {last[0]}", code=asked.returncode or 1) from error
    if as_json:
        sys.stdout.write(asked.stdout)
    else:
        _draw(answer)
    raise typer.Exit(asked.returncode)


def _draw(answer: dict[str, Any]) -> None:
    processes = answer.get("processes") or []
    if not processes:
        note("Skerry is not running here. `skerry up` starts it.")
        return
    state = "ready" if answer.get("ready") else "not ready"
    note(f"Skerry {answer.get('version') or ''} at {answer.get('url') or '?'} is {state}.\n")
    Answers(as_json=False).table(COLUMNS, processes)
    for line in _reasons(answer.get("reasons")):
        note(line)


def _reasons(reasons: Any) -> list[str]:
    """What is missing: a mapping of part to reason, or a list of objects with both."""
    if isinstance(reasons, dict):
        return [f"{part}: {reason}" for part, reason in reasons.items()]
    return [f"{item.get('part')}: {item.get('reason')}" for item in reasons or () if isinstance(item, dict)]
