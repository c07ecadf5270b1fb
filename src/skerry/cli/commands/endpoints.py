"""`skerry endpoints`."""

from typing import Annotated

import typer

from skerry.cli.commanding import Commands
from skerry.cli.figures import when
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.client.answers.inference import Endpoint, Replica

commands = Commands("Where models are served, and whether they are ready.")
app = commands.app


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
def show_endpoint(session: Session, name: Annotated[str, typer.Argument(help="Name or id.")]) -> None:
    """Show one endpoint and its replicas."""
    with session.client() as client:
        endpoint = client.endpoints.get(name)
    fields = [
        ("name", endpoint.name),
        ("id", endpoint.id),
        ("model", endpoint.model),
        ("kind", endpoint.kind),
        ("status", endpoint.status),
        ("reason", _reason(endpoint)),
        ("scale", f"{endpoint.min_replicas} to {endpoint.max_replicas} replicas"),
        ("capacity", endpoint.capacity_class),
        ("created", when(endpoint.created_at)),
    ]
    replicas = [("replica", " ".join(filter(None, (r.id, r.status, _reason(r))))) for r in endpoint.replicas]
    session.out.fields(endpoint, [*fields, *replicas])
