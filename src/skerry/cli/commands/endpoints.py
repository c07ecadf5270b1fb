"""`skerry endpoints`."""

import sys
from typing import Annotated, Any, Literal

import typer

from skerry.cli import inputs
from skerry.cli.commanding import Commands
from skerry.cli.failures import wrong_use
from skerry.cli.figures import milliseconds, money, when
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.cli.speech import interactive, note, printable
from skerry.cli.top import COLUMNS as TOP_COLUMNS
from skerry.cli.top import look, watch
from skerry.cli.waiting import wait_until_ready
from skerry.client import ByteStream
from skerry.client.answers.inference import Endpoint, EndpointEstimate, Replica

commands = Commands("Where models are served, and whether they are ready.")
app = commands.app

Name = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Name or id.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Policy = Annotated[
    Literal["prefix_affinity", "least_load", "round_robin", "random"] | None,
    typer.Option(help="How a replica is chosen. [default: prefix_affinity]"),
]
Fewest = Annotated[int | None, typer.Option("--min", min=0, help="Fewest replicas.")]
Most = Annotated[int | None, typer.Option("--max", min=0, help="Most replicas.")]
Target = Annotated[
    int | None, typer.Option("--target", min=1, help="Requests one replica is to work on at once. [default: its slots]")
]
Idle = Annotated[
    str | None, typer.Option("--idle", metavar="TIME", help="To zero after so long without a request: 300, or 5m.")
]
Queue = Annotated[str | None, typer.Option("--queue", metavar="TIME", help="Longest wait for a replica: 30, or 1m.")]


def _reason(thing: Endpoint | Replica) -> str:
    return thing.status_reason.message if thing.status_reason else ""


def _replicas(endpoint: Endpoint) -> str:
    ready = sum(replica.status == "ready" for replica in endpoint.replicas)
    return f"{ready}/{len(endpoint.replicas)}"


COLUMNS: tuple[Column[Endpoint], ...] = (
    Column("name", lambda endpoint: endpoint.name or endpoint.id, whole=True),
    Column("model", lambda endpoint: endpoint.model, whole=True),
    Column("kind", lambda endpoint: endpoint.kind),
    Column("status", lambda endpoint: endpoint.status, whole=True),
    Column("replicas", _replicas, right=True),
    Column("reason", _reason),
)


@commands.command("list")
def list_endpoints(session: Session) -> None:
    """List the endpoints."""
    with session.client() as client:
        empty = "There are no endpoints. `skerry models add` adds a model with its endpoint."
        session.out.listing(client.endpoints.list(), COLUMNS, empty=empty)


@commands.command("show")
def show_endpoint(session: Session, name: Name) -> None:
    """Show one endpoint and its replicas."""
    with session.client() as client:
        endpoint = client.endpoints.get(name)
    parts = (f"{endpoint.accelerators} accelerators" if endpoint.accelerators else "", endpoint.sku)
    fields = [
        ("name", endpoint.name),
        ("id", endpoint.id),
        ("model", endpoint.model),
        ("rollout", endpoint.next_model or ""),
        ("kind", endpoint.kind),
        ("status", endpoint.status),
        ("reason", _reason(endpoint)),
        ("scale", f"{endpoint.min_replicas} to {endpoint.max_replicas} replicas"),
        ("wanted", str(endpoint.wanted_replicas)),
        ("target", f"{endpoint.target_concurrency} requests a replica" if endpoint.target_concurrency else ""),
        ("idle", f"to zero after {endpoint.idle_timeout_seconds} s" if endpoint.idle_timeout_seconds else ""),
        ("queue", f"{endpoint.queue_seconds} s" if endpoint.queue_seconds else ""),
        ("policy", endpoint.policy),
        ("paid by", endpoint.charge_by),
        ("capacity", endpoint.capacity_class),
        ("needs", " of ".join(filter(None, parts)) if parts[0] else ""),
        ("created", when(endpoint.created_at)),
    ]
    session.out.fields(endpoint, [*fields, *(("replica", _replica(one)) for one in endpoint.replicas)])


def _replica(replica: Replica) -> str:
    start = f"(cold start {milliseconds(replica.cold_start_ms)})" if replica.cold_start_ms else ""
    share = f"weight {replica.weight}" if replica.weight != 100 else ""
    return " ".join(filter(None, (replica.id, replica.status, replica.node, share, start, _reason(replica))))


@commands.command("create")
def create_endpoint(
    session: Session,
    model: Annotated[str, typer.Option(help="The model that it serves.")],
    kind: Annotated[Literal["dedicated", "shared"], typer.Option(help="shared ones are made by operators.")] = (
        "dedicated"
    ),
    name: Annotated[str | None, typer.Option(help="What to call it by. [default: after the model]")] = None,
    fewest: Fewest = None,
    most: Most = None,
    target: Target = None,
    idle: Idle = None,
    queue: Queue = None,
    policy: Policy = None,
    capacity_class: Annotated[Literal["on_demand", "reserved", "spot"] | None, typer.Option()] = None,
    accelerators: Annotated[int | None, typer.Option(min=0, help="Of each replica. [default: as it needs]")] = None,
    sku: Annotated[str | None, typer.Option(help="On nodes of this kind. [default: the only one]")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would cost, and make nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is ready.")] = True,
    timeout: Annotated[float, typer.Option(min=0, help="Longest wait in seconds.")] = 600.0,
    yes: Yes = False,
) -> None:
    """Serve a model on replicas of your own, paid by the time they run."""
    place: dict[str, Any] = {
        "kind": kind,
        "min_replicas": fewest,
        "max_replicas": most,
        "capacity_class": capacity_class,
        "accelerators": accelerators,
        "sku": sku,
    }
    with session.client(operator=kind == "shared") as client:
        estimate = client.endpoints.estimate(model, **place)
        if dry_run:
            session.out.done(_price(estimate), estimate.raw)
            return
        session.agree(estimate.max_hour, _price(estimate), yes=yes)
        endpoint = client.endpoints.create(
            model,
            **place,
            name=name,
            target_concurrency=target,
            idle_timeout_seconds=inputs.seconds(idle, "--idle") if idle else None,
            queue_seconds=inputs.seconds(queue, "--queue") if queue else None,
            policy=policy,
        )
        if not session.out.as_json:
            note(f"Created {endpoint.name}: {endpoint.id}")
        if wait:
            endpoint = wait_until_ready(client, endpoint.id, timeout)
    session.out.done(f"Try it: skerry chat -m {endpoint.name}", endpoint.raw)


@commands.command("scale")
def scale_endpoint(
    session: Session,
    name: Name,
    fewest: Fewest = None,
    most: Most = None,
    target: Target = None,
    idle: Idle = None,
    queue: Queue = None,
    policy: Policy = None,
    default: Annotated[
        list[str] | None, typer.Option(help="target, idle or queue: back to what holds without it; several times.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Change how many replicas it may have, and how it uses them."""
    wish: dict[str, Any] = {
        "min_replicas": fewest,
        "max_replicas": most,
        "target_concurrency": target,
        "idle_timeout_seconds": inputs.seconds(idle, "--idle") if idle else None,
        "queue_seconds": inputs.seconds(queue, "--queue") if queue else None,
        "policy": policy,
    }
    fields = {"target": "target_concurrency", "idle": "idle_timeout_seconds", "queue": "queue_seconds"}
    defaults = inputs.words(default or [])
    if not set(defaults) <= fields.keys():
        raise wrong_use(f"--default: {', '.join(defaults)}?", "It takes target, idle and queue.")
    if not defaults and all(value is None for value in wish.values()):
        raise wrong_use("There is nothing to change.", "--min, --max, --target, --idle, --queue or --policy.")
    with session.client(operator=True) as client:
        before = client.endpoints.get(name)
        if before.charge_by == "time" and ((fewest or 0) > before.min_replicas or (most or 0) > before.max_replicas):
            estimate = client.endpoints.estimate(
                before.model,
                kind=before.kind,
                min_replicas=before.min_replicas if fewest is None else fewest,
                max_replicas=before.max_replicas if most is None else most,
                capacity_class=before.capacity_class,
                accelerators=before.accelerators,
                sku=before.sku,
            )
            session.agree(estimate.max_hour, _price(estimate), yes=yes)
        endpoint = client.endpoints.update(before.id, **wish, defaults=[fields[one] for one in defaults])
    scale = f"{endpoint.min_replicas} to {endpoint.max_replicas} replicas"
    session.out.done(f"{endpoint.name} has {scale}.", endpoint.raw)


@commands.command("drain")
def drain_endpoint(session: Session, name: Name) -> None:
    """Refuse new requests, finish those that run, and stop its replicas."""
    with session.client(operator=True) as client:
        endpoint = client.endpoints.drain(name)
    session.out.done(f"{endpoint.name} is draining. `skerry endpoints resume {endpoint.name}` ends that.", endpoint.raw)


@commands.command("resume")
def resume_endpoint(session: Session, name: Name) -> None:
    """Serve again: after a drain, after it was parked, or to wake it before the first request does."""
    with session.client(operator=True) as client:
        endpoint = client.endpoints.resume(name)
    session.out.done(f"{endpoint.name} is {endpoint.status}.", endpoint.raw)


@commands.command("rollout")
def roll_out_endpoint(
    session: Session,
    name: Name,
    model: Annotated[str | None, typer.Option(help="Serve this model from then on. [default: the same]")] = None,
) -> None:
    """Replace its replicas by fresh ones, each ready before an old one goes."""
    with session.client(operator=True) as client:
        endpoint = client.endpoints.rollout(name, model=model)
    session.out.done(f"{endpoint.name} rolls out version {endpoint.version}.", endpoint.raw)


@commands.command("remove")
def remove_endpoint(session: Session, name: Name, yes: Yes = False) -> None:
    """Stop it and free its name. Its usage stays."""
    session.confirm(f"Remove the endpoint {name}?", yes=yes)
    with session.client(operator=True) as client:
        endpoint = client.endpoints.remove(name)
    session.out.done(f"Removed {name}.", endpoint.raw)


@commands.command("logs")
def endpoint_logs(
    session: Session,
    name: Name,
    replica: Annotated[str | None, typer.Option(help="Of this replica. [default: the newest]")] = None,
    tail: Annotated[int | None, typer.Option(min=0, help="The last lines alone.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
) -> None:
    """Print what a replica wrote to its output."""
    if session.out.as_json:
        raise wrong_use("A log is text: there is no JSON of it.")
    with (
        session.client(operator=True) as client,
        client.endpoints.logs(name, replica=replica, tail=tail, follow=follow) as log,
    ):
        _print(log)


@commands.command("top")
def top(
    session: Session,
    names: Annotated[list[str] | None, typer.Argument(metavar="[ENDPOINT]...", help="These. [default: all]")] = None,
    once: Annotated[bool, typer.Option("--once", help="Print it once and leave, as --json does.")] = False,
) -> None:
    """Watch what happens at the endpoints now. q or Ctrl-C ends it.

    Of shared endpoints operators alone see the load.
    """
    live = interactive() and sys.stdout.isatty() and not once and not session.out.as_json
    with session.client(operator=True) as client:
        rows = watch(client, names or ()) if live else look(client, names or ())
    session.out.listing(rows, TOP_COLUMNS, empty="There are no endpoints. `skerry models add` adds a model.")


def _price(estimate: EndpointEstimate) -> str:
    if estimate.charge_by != "time":
        return "Nothing by the hour: what it answers is paid by the token."
    if not estimate.max_hour.amount:
        return "Nothing, at the prices of today."
    hour = f"{money(estimate.min_hour)} to {money(estimate.max_hour)} an hour"
    return f"{hour}, {money(estimate.replica_hour)} for each replica that runs."


def _print(log: ByteStream) -> None:
    """As it comes. A terminal gets none of the characters that it would act on."""
    for piece in log:
        if sys.stdout.isatty():
            sys.stdout.write(printable(piece.decode(errors="replace")))
        else:
            sys.stdout.buffer.write(piece)
        sys.stdout.flush()
