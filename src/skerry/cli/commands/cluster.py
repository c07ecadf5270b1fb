"""`skerry cluster`."""

from typing import Annotated, Literal

import typer

from skerry.cli import machines
from skerry.cli.commanding import Commands
from skerry.cli.failures import Failure
from skerry.cli.figures import money
from skerry.cli.machines import EVENTS, common_fields, reason, say
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.client.answers.machines import Cluster, ClusterNode

commands = Commands("Leased machines that know each other, with SSH between them.")
app = commands.app

Name = Annotated[str, typer.Argument(metavar="CLUSTER", help="Name or id.")]


def _ready(cluster: Cluster) -> str:
    return f"{sum(node.ready for node in cluster.nodes)}/{len(cluster.nodes)}"


COLUMNS: tuple[Column[Cluster], ...] = (
    Column("name", lambda one: one.name, whole=True),
    Column("status", lambda one: one.status, whole=True),
    Column("sku", lambda one: one.sku),
    Column("nodes", _ready, right=True),
    Column("site", lambda one: one.site),
    Column("cost so far", lambda one: money(one.cost_so_far), right=True),
    Column("reason", lambda one: "" if one.status == "running" else reason(one)),
)


@commands.command("create")
def create_cluster(
    session: Session,
    name: Annotated[str, typer.Argument(help="What to call it; its nodes are NAME-0, NAME-1 …")],
    nodes: Annotated[int, typer.Option("--nodes", "-n", min=1, help="How many nodes.")],
    scope: Annotated[
        Literal["leaf", "hall", "site", "any"] | None, typer.Option(help="How near to each other. [default: any]")
    ] = None,
    required: Annotated[bool, typer.Option("--required", help="So near, or not at all.")] = False,
    sku: machines.Sku = None,
    accelerators: Annotated[
        int | None, typer.Option("--accelerators", "-a", min=0, help="Of each node: all, or 0. [default: all]")
    ] = None,
    site: machines.Site = None,
    key: machines.Key = None,
    length: machines.For = None,
    max_cost: machines.MaxCost = None,
    volume: machines.Mount = None,
    home: machines.HomeSize = None,
    image: machines.Image = None,
    start_script: machines.Script = None,
    template: machines.Template = None,
    reservation: machines.InReservation = None,
    spot: machines.Spot = False,
    tag: machines.Tag = None,
    dry_run: machines.DryRun = False,
    wait: machines.Wait = True,
    timeout: machines.Timeout = 600.0,
    yes: machines.Yes = False,
) -> None:
    """Lease whole nodes that know each other, and wait until all of them can be logged in to."""
    wish = machines.wishes(
        sku=sku,
        site=site,
        length=length,
        max_cost=max_cost,
        volumes=volume,
        home=home,
        image=image,
        script=start_script,
        template=template,
        reservation=reservation,
        spot=spot,
        tags=tag,
    )
    wish |= {"accelerators": accelerators, "scope": scope, "scope_required": required or None}
    with session.client() as client:
        keys = machines.keys_to_use(client, key)
        estimate = client.clusters.estimate(name, nodes=nodes, ssh_keys=keys, **wish)
        if dry_run:
            machines.shown_estimate(session, estimate)
            return
        machines.agree(session, estimate, yes=yes)
        made = client.clusters.create(name, nodes=nodes, ssh_keys=keys, **wish)
        say(session, f"Created {made.name}: {made.id}")
        if wait:
            show = f"skerry cluster show {made.name}"
            made = machines.wait_until(lambda: client.clusters.get(made.id), "running", timeout, show)
    when = "" if made.status == "running" else ", once it is running"
    session.out.done(f"Log in to its first node{when}: skerry ssh {made.name}", made.raw)


@commands.command("list")
def list_clusters(
    session: Session,
    status: Annotated[str | None, typer.Option(help="Only those in this status, such as terminated.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
) -> None:
    """List the clusters, the newest first."""
    with session.client() as client:
        found = client.clusters.list(status=status, limit=min(limit, 500))
        empty = "There are no clusters. `skerry cluster create NAME --nodes N` leases one."
        session.out.listing(found, COLUMNS, empty=empty, limit=limit)


@commands.command("show")
def show_cluster(session: Session, name: Name) -> None:
    """Show one cluster and its nodes."""
    with session.client() as client:
        one = client.clusters.get(name)
    fields = [*common_fields(one), *(("node", _node(node)) for node in one.nodes)]
    if one.rendezvous is not None:
        fields += [("rendezvous", f"{one.rendezvous.host}:{one.rendezvous.port}")]
    session.out.fields(one, fields)


@commands.command("hostfile")
def show_hostfile(session: Session, name: Name) -> None:
    """Print the hostfile, as mpirun and torchrun take it."""
    with session.client() as client:
        one = client.clusters.get(name)
    if one.hostfile is None:
        raise Failure(f"{one.name} is {one.status}: {reason(one)}", suggestion="All nodes must be there first.")
    if session.out.as_json:
        session.out.json({"hostfile": one.hostfile})
    else:
        print(one.hostfile, end="")


@commands.command("stop")
def stop_cluster(session: Session, name: Name, wait: machines.Wait = True, timeout: machines.Timeout = 120.0) -> None:
    """Give its nodes back. Its home folder and its volumes are kept."""
    with session.client() as client:
        one = client.clusters.stop(name)
        if wait:
            show = f"skerry cluster show {one.name}"
            one = machines.wait_until(lambda: client.clusters.get(one.id), "stopped", timeout, show)
    session.out.done(f"{one.name} is {one.status}. `skerry cluster start {one.name}` starts it again.", one.raw)


@commands.command("start")
def start_cluster(session: Session, name: Name, wait: machines.Wait = True, timeout: machines.Timeout = 600.0) -> None:
    """Start it again, with the home folder and the SSH keys that it had."""
    with session.client() as client:
        one = client.clusters.start(name)
        if wait:
            show = f"skerry cluster show {one.name}"
            one = machines.wait_until(lambda: client.clusters.get(one.id), "running", timeout, show)
    session.out.done(f"{one.name} is {one.status}. Log in to its first node: skerry ssh {one.name}", one.raw)


@commands.command("terminate")
def terminate_cluster(session: Session, name: Name, yes: machines.Yes = False) -> None:
    """End it for good. Its home folder is removed, volumes that were attached stay."""
    session.confirm(f"Terminate {name}, and remove its home folder?", yes=yes)
    with session.client() as client:
        one = client.clusters.terminate(name)
    session.out.done(f"{one.name} is being terminated.", one.raw)


@commands.command("events")
def show_events(
    session: Session, name: Name, limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 200
) -> None:
    """Show what happened to it, oldest first."""
    with session.client() as client:
        one = client.clusters.get(name)
        events = client.events.of("clusters", one.id, limit=min(limit, 500))
        session.out.listing(events, EVENTS, empty="Nothing has happened yet.", limit=limit)


def _node(node: ClusterNode) -> str:
    state = "ready" if node.ready else "coming up" if node.node else "waiting"
    return " ".join(filter(None, (node.name, state, node.address, f"on {node.node}" if node.node else "")))
