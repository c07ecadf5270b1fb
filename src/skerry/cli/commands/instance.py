"""`skerry instance`."""

from typing import Annotated

import typer

from skerry.cli import machines
from skerry.cli.commanding import Commands
from skerry.cli.figures import money
from skerry.cli.machines import EVENTS, common_fields, reason, say
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.client.answers.machines import Instance

commands = Commands("Leased machines: create, list, show, stop, start, terminate.")
app = commands.app

Name = Annotated[str, typer.Argument(metavar="INSTANCE", help="Name or id.")]

COLUMNS: tuple[Column[Instance], ...] = (
    Column("name", lambda one: one.name, whole=True),
    Column("status", lambda one: one.status, whole=True),
    Column("sku", lambda one: one.sku),
    Column("accelerators", lambda one: str(one.accelerators), right=True),
    Column("site", lambda one: one.site),
    Column("node", lambda one: one.node or ""),
    Column("cost so far", lambda one: money(one.cost_so_far), right=True),
    Column("reason", lambda one: "" if one.status == "running" else reason(one)),
)


@commands.command("create")
def create_instance(
    session: Session,
    name: Annotated[str, typer.Argument(help="What to call it; its host name too.")],
    sku: machines.Sku = None,
    accelerators: Annotated[
        int | None, typer.Option("--accelerators", "-a", min=0, help="1, 2, 4, 8, or 0. [default: 1]")
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
    timeout: machines.Timeout = 300.0,
    yes: machines.Yes = False,
) -> None:
    """Lease a machine, or a part of one, and wait until it can be logged in to."""
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
    wish["accelerators"] = accelerators
    with session.client() as client:
        keys = machines.keys_to_use(client, key)
        estimate = client.instances.estimate(name, ssh_keys=keys, **wish)
        if dry_run:
            machines.shown_estimate(session, estimate)
            return
        machines.agree(session, estimate, yes=yes)
        made = client.instances.create(name, ssh_keys=keys, **wish)
        say(session, f"Created {made.name}: {made.id}")
        if wait and made.status_reason is not None:
            show = f"skerry instance show {made.name}"
            made = machines.wait_until(lambda: client.instances.get(made.id), "running", timeout, show)
    when = "" if made.status == "running" else " once it is running"
    session.out.done(f"Log in{when}: skerry ssh {made.name}", made.raw)


@commands.command("list")
def list_instances(
    session: Session,
    status: Annotated[str | None, typer.Option(help="Only those in this status, such as terminated.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
) -> None:
    """List the instances, the newest first."""
    with session.client() as client:
        found = client.instances.list(status=status, limit=min(limit, 500))
        empty = "There are no instances. `skerry instance create NAME` leases one."
        session.out.listing(found, COLUMNS, empty=empty, limit=limit)


@commands.command("show")
def show_instance(session: Session, name: Name) -> None:
    """Show one instance, and how to log in to it."""
    with session.client() as client:
        one = client.instances.get(name)
    fields = [*common_fields(one), ("node", one.node or "")]
    if one.ssh is not None:
        fields += [("log in", f"skerry ssh {one.name}"), ("ssh", one.ssh.command), ("host key", one.ssh.host_key)]
    session.out.fields(one, fields)


@commands.command("stop")
def stop_instance(session: Session, name: Name, wait: machines.Wait = True, timeout: machines.Timeout = 120.0) -> None:
    """Give its accelerators back. Its home folder and its volumes are kept."""
    with session.client() as client:
        one = client.instances.stop(name)
        if wait:
            show = f"skerry instance show {one.name}"
            one = machines.wait_until(lambda: client.instances.get(one.id), "stopped", timeout, show)
    session.out.done(f"{one.name} is {one.status}. `skerry instance start {one.name}` starts it again.", one.raw)


@commands.command("start")
def start_instance(session: Session, name: Name, wait: machines.Wait = True, timeout: machines.Timeout = 300.0) -> None:
    """Start it again, with the home folder and the SSH keys that it had."""
    with session.client() as client:
        one = client.instances.start(name)
        if wait:
            show = f"skerry instance show {one.name}"
            one = machines.wait_until(lambda: client.instances.get(one.id), "running", timeout, show)
    session.out.done(f"{one.name} is {one.status}. Log in: skerry ssh {one.name}", one.raw)


@commands.command("terminate")
def terminate_instance(session: Session, name: Name, yes: machines.Yes = False) -> None:
    """End it for good. Its home folder is removed, volumes that were attached stay."""
    session.confirm(f"Terminate {name}, and remove its home folder?", yes=yes)
    with session.client() as client:
        one = client.instances.terminate(name)
    session.out.done(f"{one.name} is being terminated.", one.raw)


@commands.command("events")
def show_events(
    session: Session, name: Name, limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 200
) -> None:
    """Show what happened to it, oldest first."""
    with session.client() as client:
        one = client.instances.get(name)
        events = client.events.of("instances", one.id, limit=min(limit, 500))
        session.out.listing(events, EVENTS, empty="Nothing has happened yet.", limit=limit)
