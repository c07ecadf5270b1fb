"""`skerry fleet health`, `signals`, `approve`, `reject`, `mended` and `check`."""

from typing import Annotated

import typer

from skerry.cli.commanding import Commands
from skerry.cli.figures import when
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.client.answers.health import NodeSignal, Remediation

Id = Annotated[str, typer.Argument(metavar="ID", help="`skerry fleet health` lists them.")]
OPEN = "Every node is well, as far as anything was noticed."

CASES: tuple[Column[Remediation], ...] = (
    Column("id", lambda case: case.id, whole=True),
    Column("node", lambda case: case.node, whole=True),
    Column("status", lambda case: case.status, whole=True),
    Column("action", lambda case: case.action, whole=True),
    Column("cause", lambda case: case.cause),
    Column("next", lambda case: case.status_reason.message),
)
SIGNALS: tuple[Column[NodeSignal], ...] = (
    Column("node", lambda signal: signal.node, whole=True),
    Column("severity", lambda signal: signal.severity, whole=True),
    Column("kind", lambda signal: signal.kind, whole=True),
    Column("last", lambda signal: when(signal.last_at), whole=True),
    Column("times", lambda signal: f"{signal.count:,}", right=True),
    Column("what", lambda signal: signal.detail),
)
_DONE = {
    "approve": "Approved: it is done as soon as the node is empty.",
    "reject": "Rejected: the node takes work again.",
    "mended": "A burn-in runs now; the node takes work again if it passes.",
}


def add(commands: Commands) -> None:
    """To the commands of `skerry fleet`."""
    commands.command("health")(show_health)
    commands.command("signals")(list_signals)
    commands.command("approve")(approve_remediation)
    commands.command("reject")(reject_remediation)
    commands.command("mended")(mended_remediation)
    commands.command("check")(check_node)


def show_health(
    session: Session,
    every: Annotated[bool, typer.Option("--all", help="Closed cases, too.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 100,
) -> None:
    """Show nodes that are not well, and what is to be done about them."""
    with session.client(operator=True) as client:
        cases = client.health.remediations(open=None if every else True)
        session.out.listing(cases, CASES, empty=OPEN, limit=limit)


def list_signals(
    session: Session,
    node: Annotated[str | None, typer.Argument(metavar="[NODE]", help="Hostname or id.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 50,
) -> None:
    """List what was noticed on the nodes, newest first."""
    with session.client(operator=True) as client:
        session.out.listing(client.health.signals(node=node), SIGNALS, empty="Nothing was noticed.", limit=limit)


def approve_remediation(session: Session, id: Id) -> None:
    """Have it done as soon as the node is empty."""
    _decide(session, id, "approve")


def reject_remediation(session: Session, id: Id) -> None:
    """Say that the node is well."""
    _decide(session, id, "reject")


def mended_remediation(session: Session, id: Id) -> None:
    """Say that it was done by hand."""
    _decide(session, id, "mended")


def check_node(
    session: Session,
    node: Annotated[str, typer.Argument(metavar="NODE", help="Hostname or id.")],
    bandwidth: Annotated[str | None, typer.Option(metavar="NODE", help="Measure the way to this node instead.")] = None,
) -> None:
    """Have a node checked as soon as it is idle."""
    check = "bandwidth" if bandwidth else "burn_in"
    with session.client(operator=True) as client:
        run = client.health.check(node, check=check, peer=bandwidth)
    words = f"{run.check} of {run.node} begins when it is idle: `skerry fleet signals {run.node}` and its checks tell."
    session.out.done(words, run.raw)


def _decide(session: Session, id: str, decision: str) -> None:
    with session.client(operator=True) as client:
        case = client.health.decide(id, decision)
    session.out.done(f"{case.node}: {_DONE[decision]}", case.raw)
