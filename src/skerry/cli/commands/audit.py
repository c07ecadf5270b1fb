"""`skerry audit`."""

from typing import Annotated

import typer

from skerry.cli.commanding import Commands, Organization
from skerry.cli.failures import Failure
from skerry.cli.figures import count, when
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.client.answers.identity import AuditEvent

commands = Commands("Who did what, and proof that nothing was altered.")
app = commands.app

COLUMNS: tuple[Column[AuditEvent], ...] = (
    Column("at", lambda event: when(event.at), whole=True),
    Column("who", lambda event: event.key_name or event.key_id or ""),
    Column("what", lambda event: event.action, whole=True),
    Column("on what", lambda event: event.resource, whole=True),
    Column("outcome", lambda event: event.outcome),
    Column("from", lambda event: event.origin),
)


@commands.command("list")
def list_events(
    session: Session,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
    resource: Annotated[str | None, typer.Option(help="Only what was done to this id.")] = None,
    organization: Organization = None,
) -> None:
    """List audit events, the oldest first."""
    with session.client(operator=organization is not None) as client:
        events = client.audit.list(resource=resource, organization=organization, limit=min(limit, 500))
        session.out.listing(events, COLUMNS, empty="There are no audit events yet.", limit=limit)


@commands.command("verify")
def verify(session: Session, organization: Organization = None) -> None:
    """Check that no audit event was altered, removed or inserted."""
    with session.client(operator=organization is not None) as client:
        verdict = client.audit.verify(organization=organization)
    broken = verdict.first_break
    if broken is None:
        session.out.done(f"{count(verdict.events)} events, and the chain holds.", verdict.raw)
        return
    if session.out.as_json:
        session.out.json(verdict.raw)
    raise Failure(
        f"The chain breaks at event {broken.seq}: {broken.reason}",
        details=(f"event {broken.event_id}",) if broken.event_id else (),
        suggestion="What comes before it holds. Compare what follows with a backup.",
    )
