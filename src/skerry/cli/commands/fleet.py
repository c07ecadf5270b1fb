"""`skerry fleet`."""

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from skerry.cli import inputs
from skerry.cli.commanding import Commands
from skerry.cli.commands import fleet_health, fleet_plans
from skerry.cli.commands.fleet_join import join
from skerry.cli.failures import Failure, wrong_use
from skerry.cli.figures import when
from skerry.cli.fleetview import CATALOGUE, HALLS, LEAVES, by_hall, late_lines, plan_lines, summary
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.cli.speech import note, printable
from skerry.client.answers.fleet import Delivery, FleetNode, FleetPlan, Maintenance

commands = Commands("The machines: declare, show, take out and bring back (operators).")
app = commands.app
app.command("join")(join)
fleet_health.add(commands)
fleet_plans.add(commands)

EXAMPLES = ("this-machine", "one-site", "four-sites")
MANY_LEAVES = 60
"""From so many on, the fleet is shown by hall unless all leaves are asked for."""

File = Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True, allow_dash=True)]
Prune = Annotated[bool, typer.Option("--prune", help="Remove what the file does not name, never what is sold.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Node = Annotated[str, typer.Argument(metavar="NODE", help="Hostname or id.")]
Reason = Annotated[str, typer.Option(help="Why; the node's timeline keeps it.")]
Until = Annotated[str | None, typer.Option(help="Counts again from then on: 4h, 2d, or a time.")]
Force = Annotated[bool, typer.Option("--force", help="Even if it leaves confirmed reservations short.")]

NODES: tuple[Column[FleetNode], ...] = (
    Column("hostname", lambda node: node.hostname, whole=True),
    Column("sku", lambda node: node.sku, whole=True),
    Column("leaf", lambda node: node.leaf, whole=True),
    Column("status", lambda node: node.status, whole=True),
    Column("until", lambda node: when(node.until), whole=True),
    Column("reason", lambda node: node.status_reason.message if node.status_reason else ""),
)
DELIVERIES: tuple[Column[Delivery], ...] = (
    Column("name", lambda delivery: delivery.name, whole=True),
    Column("site", lambda delivery: delivery.site, whole=True),
    Column("sku", lambda delivery: delivery.sku, whole=True),
    Column("nodes", lambda delivery: f"{delivery.nodes:,}", right=True),
    Column("in service", lambda delivery: when(delivery.service_at), whole=True),
    Column("confidence", lambda delivery: f"{delivery.confidence:.0%}", right=True),
    Column("milestone", lambda delivery: delivery.milestone or "", whole=True),
    Column("arrived", lambda delivery: f"{delivery.arrived:,}" if delivery.arrived else "", right=True),
)
WINDOWS: tuple[Column[Maintenance], ...] = (
    Column("id", lambda window: window.id, whole=True),
    Column("leaf", lambda window: window.leaf, whole=True),
    Column("sku", lambda window: window.sku, whole=True),
    Column("nodes", lambda window: f"{window.nodes:,}", right=True),
    Column("start", lambda window: when(window.start), whole=True),
    Column("end", lambda window: when(window.end), whole=True),
    Column("reason", lambda window: window.reason),
)


@commands.command("show")
def show_fleet(
    session: Session,
    leaves: Annotated[bool, typer.Option("--leaves", help="Every leaf, however many there are.")] = False,
) -> None:
    """Show what there is: halls or leaves with their nodes, what is out of service and what is planned."""
    with session.client(operator=True) as client:
        rows = list(client.fleet.overview())
    empty = "There are no nodes. `skerry fleet apply FILE` declares some, `skerry fleet example` shows how."
    if leaves or session.out.as_json or len(rows) < MANY_LEAVES:
        session.out.listing(rows, LEAVES, empty=empty)
    else:
        session.out.listing(by_hall(rows), HALLS, empty=empty)
        note(f"{len(rows):,} leaves, added up by hall; --leaves shows each.")


@commands.command("plan")
def plan_fleet(session: Session, file: File, prune: Prune = False) -> None:
    """Show what applying a fleet file would change. Changes nothing; exit code 1 where it could not be applied."""
    document = _read(file)
    with session.client(operator=True) as client:
        plan = client.fleet.plan(document, prune=prune)
    _show(session, plan)
    if plan.refused:
        raise _refused()


@commands.command("apply")
def apply_fleet(session: Session, file: File, yes: Yes = False, prune: Prune = False) -> None:
    """Make the fleet what a file says: shows the plan, asks, and applies it, all or nothing."""
    document = _read(file)
    with session.client(operator=True) as client:
        plan = client.fleet.plan(document, prune=prune)
        if not session.out.as_json or plan.refused:
            _show(session, plan)
        if plan.refused:
            raise _refused()
        if plan.changes:
            session.confirm("Apply this?", yes=yes)
        applied = client.fleet.apply(document, prune=prune)
    session.out.done(f"Applied: {summary(applied)}" if plan.changes else "There is nothing to change.", applied.raw)


@commands.command("catalogue")
def show_catalogue(session: Session) -> None:
    """List SKUs that a fleet file may use by their name alone. `~` marks figures that are assumed."""
    with session.client(operator=True) as client:
        session.out.listing(client.fleet.catalogue(), CATALOGUE, empty="The catalogue is empty.")


@commands.command("example")
def show_example(
    session: Session,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help=", ".join(EXAMPLES))] = None,
) -> None:
    """Print an example of a fleet file: `skerry fleet example one-site > fleet.yaml`."""
    if name is None:
        session.out.done(f"There are: {', '.join(EXAMPLES)}.", {"examples": list(EXAMPLES)})
        return
    if name not in EXAMPLES:
        raise wrong_use(f"There is no example {name!r}.", f"There are: {', '.join(EXAMPLES)}.")
    text = files("skerry.cli").joinpath("fleets", f"{name}.yaml").read_text(encoding="utf-8")
    if session.out.as_json:
        session.out.json({"name": name, "document": text})
    else:
        print(text, end="")


@commands.command("nodes")
def list_nodes(
    session: Session,
    site: Annotated[str | None, typer.Option(help="At this site.")] = None,
    leaf: Annotated[str | None, typer.Option(help="In this leaf.")] = None,
    sku: Annotated[str | None, typer.Option(help="Of this SKU.")] = None,
    status: Annotated[str | None, typer.Option(help="ready, draining, failed …")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 100,
) -> None:
    """List nodes."""
    with session.client(operator=True) as client:
        found = client.fleet.nodes(site=site, leaf=leaf, sku=sku, status=status)
        session.out.listing(found, NODES, empty="There are no such nodes.", limit=limit)


@commands.command("cordon")
def cordon_node(session: Session, node: Node, reason: Reason, until: Until = None, force: Force = False) -> None:
    """Give a node nothing new; what runs on it goes on."""
    _move(session, node, "cordon", reason, until, force=force)


@commands.command("drain")
def drain_node(session: Session, node: Node, reason: Reason, until: Until = None, force: Force = False) -> None:
    """Empty a node. Says first which confirmed reservations that would leave short."""
    _move(session, node, "drain", reason, until, force=force)


@commands.command("resume")
def resume_node(session: Session, node: Node, reason: Reason = "back in service") -> None:
    """Bring a node back."""
    _move(session, node, "resume", reason, None, force=False)


@commands.command("fail")
def fail_node(session: Session, node: Node, reason: Reason) -> None:
    """Say that a node has failed, and hear whom that makes late."""
    _move(session, node, "fail", reason, None, force=False)


@commands.command("deliveries")
def list_deliveries(session: Session) -> None:
    """List nodes that are ordered and not there yet."""
    with session.client(operator=True) as client:
        session.out.listing(client.fleet.deliveries(), DELIVERIES, empty="There are no deliveries.")


@commands.command("slip")
def slip_delivery(
    session: Session,
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="Name or id.")],
    to: Annotated[str, typer.Argument(metavar="TIME", help="When it comes: a date, or 30d.")],
) -> None:
    """Give a delivery another date of service, and hear whom that makes late."""
    at = inputs.future(to, datetime.now(UTC), "TIME")
    with session.client(operator=True) as client:
        found = client.fleet.slip(delivery, service_at=at)
    words = [f"{found.name} comes on {when(found.service_at)}.", *late_lines(found.makes_late)]
    session.out.done("\n".join(words), found.raw)


@commands.command("maintenance")
def list_maintenance(session: Session, leaf: Annotated[str | None, typer.Option(help="Of this leaf.")] = None) -> None:
    """List windows of maintenance."""
    with session.client(operator=True) as client:
        session.out.listing(client.fleet.maintenance(leaf=leaf), WINDOWS, empty="No maintenance is planned.")


def _move(session: Session, node: str, verb: str, reason: str, until: str | None, *, force: bool) -> None:
    end = inputs.future(until, datetime.now(UTC), "--until") if until else None
    with session.client(operator=True) as client:
        moved = client.fleet.move(node, verb, reason=reason, until=end, force=force)
    words = f"{moved.hostname} is {moved.status}{f' until {when(moved.until)}' if moved.until else ''}."
    session.out.done("\n".join([words, *late_lines(moved.makes_late)]), moved.raw)


def _read(file: Path) -> str:
    try:
        return typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise wrong_use(f"{file} is not text.", "A fleet file is YAML in UTF-8.") from error


def _show(session: Session, plan: FleetPlan) -> None:
    if session.out.as_json:
        session.out.json(plan.raw)
        return
    for line in plan_lines(plan):
        print(printable(line))
    note(summary(plan) if plan.changes else "There is nothing to change.")


def _refused() -> Failure:
    return Failure(
        "It takes away what is sold or in use.", suggestion="Leave it in the file, or move what stands on it first."
    )
