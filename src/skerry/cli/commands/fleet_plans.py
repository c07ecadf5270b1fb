"""`skerry fleet order`, `reached`, `plan-maintenance`, `call-off` and `retire`: what will come, and what goes away."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from skerry.cli import inputs
from skerry.cli.commanding import Commands
from skerry.cli.failures import wrong_use
from skerry.cli.figures import when
from skerry.cli.fleetview import late_lines
from skerry.cli.session import Session
from skerry.client.answers.fleet import Delivery

Name = Annotated[str, typer.Argument(metavar="DELIVERY", help="Name or id.")]
Leaf = Annotated[str, typer.Argument(metavar="LEAF", help="Name or id.")]
Window = Annotated[str, typer.Argument(metavar="MAINTENANCE", help="`skerry fleet maintenance` lists them.")]
Node = Annotated[str, typer.Argument(metavar="NODE", help="Hostname or id.")]
Nodes = Annotated[int, typer.Option("--nodes", "-n", min=1, help="How many.")]
Sku = Annotated[str, typer.Option(help="Of this SKU.")]
Reason = Annotated[str, typer.Option(help="Why; the timeline keeps it.")]
Force = Annotated[bool, typer.Option("--force", help="Even if it leaves confirmed reservations short.")]


class Milestone(StrEnum):
    """As the server knows them, in their order."""

    ORDERED = "ordered"
    DELIVERED = "delivered"
    INSTALLED = "installed"
    BURNT_IN = "burnt_in"
    ACCEPTED = "accepted"


def add(commands: Commands) -> None:
    """To the commands of `skerry fleet`."""
    commands.command("order")(order)
    commands.command("reached")(reached)
    commands.command("plan-maintenance")(plan_maintenance)
    commands.command("call-off")(call_off)
    commands.command("retire")(retire)


def order(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    site: Annotated[str, typer.Option(help="Where they will stand.")],
    sku: Sku,
    nodes: Nodes,
    service_at: Annotated[str, typer.Option("--in-service", metavar="TIME", help="From then on: a date, or 90d.")],
    hall: Annotated[str | None, typer.Option(help="New leaves are made in this hall …")] = None,
    leaf_size: Annotated[int | None, typer.Option(min=1, help="… of so many nodes each.")] = None,
    leaf: Annotated[list[str] | None, typer.Option(metavar="LEAF=NODES", help="Leaves that are there already.")] = None,
    confidence: Annotated[float, typer.Option(min=0, max=1, help="How sure it is; so much of it is sold.")] = 1,
) -> None:
    """Write down nodes that are ordered: they are sold from their date of service on."""
    if bool(leaf) == (hall is not None or leaf_size is not None):
        raise wrong_use("Say where they go: --hall and --leaf-size, or --leaf.")
    at = inputs.future(service_at, datetime.now(UTC), "--in-service")
    with session.client(operator=True) as client:
        made = client.fleet.order(
            name,
            site=site,
            sku=sku,
            nodes=nodes,
            service_at=at,
            confidence=confidence,
            hall=hall,
            leaf_size=leaf_size,
            leaves=_leaves(leaf) if leaf else None,
        )
    session.out.done(f"{made.name}: {made.nodes:,} nodes, in service on {when(made.service_at)}.", made.raw)


def reached(
    session: Session,
    delivery: Name,
    milestone: Annotated[Milestone, typer.Argument(help="Which.")],
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="When it was. [default: now]")] = None,
    force: Force = False,
) -> None:
    """Say how far a delivery is. Once accepted, only nodes that are in the fleet count."""
    now = datetime.now(UTC)
    moment = inputs.past(at, now, "--at") if at else now.replace(microsecond=0)
    with session.client(operator=True) as client:
        planned = _planned(client.fleet.delivery(delivery), milestone)
        found = client.fleet.reached(delivery, milestone.value, reached_at=moment, planned=planned, force=force)
    words = [f"{found.name} is {milestone.value.replace('_', ' ')}.", *late_lines(found.makes_late)]
    session.out.done("\n".join(words), found.raw)


def plan_maintenance(
    session: Session,
    leaf: Leaf,
    nodes: Nodes,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="A time, or 2d.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="A time, or 3d.")],
    reason: Reason,
    sku: Annotated[str | None, typer.Option(help="Of this SKU, where the leaf has several.")] = None,
    force: Force = False,
) -> None:
    """Take so many nodes of a leaf away for a window. Says first which reservations that would leave short."""
    now = datetime.now(UTC)
    begin, finish = inputs.future(start, now, "--from"), inputs.future(end, now, "--to")
    with session.client(operator=True) as client:
        made = client.fleet.plan_maintenance(
            leaf, nodes=nodes, start=begin, end=finish, reason=reason, sku=sku, force=force
        )
    words = f"{made.id}: {made.nodes:,} nodes of {made.leaf} are away from {when(made.start)} to {when(made.end)}."
    session.out.done("\n".join([words, *late_lines(made.makes_late)]), made.raw)


def call_off(session: Session, maintenance: Window) -> None:
    """Call a window of maintenance off, or end one that has begun."""
    with session.client(operator=True) as client:
        gone = client.fleet.call_off_maintenance(maintenance)
    session.out.done(f"{gone.id} is called off.", gone.raw)


def retire(session: Session, node: Node, reason: Reason, force: Force = False) -> None:
    """Take a node out for good."""
    with session.client(operator=True) as client:
        gone = client.fleet.move(node, "retire", reason=reason, force=force)
    session.out.done("\n".join([f"{gone.hostname} is {gone.status}.", *late_lines(gone.makes_late)]), gone.raw)


def _leaves(values: list[str]) -> dict[str, int]:
    found = {}
    for name, count in inputs.pairs(values, "--leaf").items():
        if not count.isdecimal() or not int(count):
            raise wrong_use(f"--leaf {name}={count}: how many nodes?", "Such as --leaf no-b-1=32.")
        found[name] = int(count)
    return found


def _planned(delivery: Delivery, milestone: Milestone) -> str | None:
    """The date that was planned for it, which stays."""
    rows = delivery.raw.get("milestones", [])
    return next((row["planned_at"] for row in rows if row["name"] == milestone.value), None)
