"""`skerry keys`."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import typer

from skerry.cli import inputs
from skerry.cli.commanding import Commands
from skerry.cli.failures import Failure, wrong_use
from skerry.cli.figures import money, when
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.cli.speech import note
from skerry.client import Skerry
from skerry.client.answers.identity import ApiKey

commands = Commands("API keys: list, create, rotate and revoke.")
app = commands.app

KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The key's id.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

COLUMNS: tuple[Column[ApiKey], ...] = (
    Column("id", lambda key: key.id, whole=True),
    Column("name", lambda key: key.name),
    Column("scopes", lambda key: ", ".join(key.scopes)),
    Column("models", lambda key: ", ".join(key.models or ())),
    Column("budget", lambda key: money(key.limits.budget if key.limits else None), right=True),
    Column("status", lambda key: key.status, whole=True),
    Column("expires", lambda key: when(key.expires_at), whole=True),
)


@commands.command("list")
def list_keys(session: Session) -> None:
    """List the project's keys."""
    with session.client() as client:
        session.out.listing(client.keys.list(), COLUMNS, empty="There are no keys. `skerry keys create` makes one.")


@commands.command("create")
def create_key(
    session: Session,
    name: Annotated[str, typer.Option(help="What it is for.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="inference, read, write or billing; several times. [default: inference]")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="Model it may call; several times. [default: all]")] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends: a date, or 30d for in thirty days.")] = None,
    budget: Annotated[str | None, typer.Option(metavar="AMOUNT", help="What it may spend in its life: 10.00.")] = None,
    window: Annotated[str | None, typer.Option(help="day or month: the budget begins anew with each.")] = None,
    rpm: Annotated[int | None, typer.Option(min=1, help="Requests a minute.")] = None,
    tpm: Annotated[int | None, typer.Option(min=1, help="Tokens a minute.")] = None,
    concurrent: Annotated[int | None, typer.Option(min=1, help="Requests under way at once.")] = None,
) -> None:
    """Create a key. Its secret is printed this once."""
    scopes = inputs.words(scope or []) or ["inference"]
    models = inputs.words(model or []) or None
    expires_at = inputs.future(expires, datetime.now(UTC), "--expires") if expires else None
    if window is not None and (budget is None or window not in ("day", "month", "total")):
        raise wrong_use("--window goes with --budget.", "It is day, month or total.")
    asked = inputs.amount(budget, "--budget") if budget else None
    limits: dict[str, Any] = {
        "requests_per_minute": rpm,
        "tokens_per_minute": tpm,
        "concurrent_requests": concurrent,
    }
    with session.client() as client:
        spend = with_currency(client, asked) if asked else None
        if spend and window in (None, "total"):
            limits["budget"] = {"amount": format(spend[0], "f"), "currency": spend[1]}
        limits = {limit: value for limit, value in limits.items() if value is not None}
        key = client.keys.create(name, scopes=scopes, models=models, expires_at=expires_at, limits=limits)
        if spend and window in ("day", "month"):
            client.budgets.create({"key": key.id}, amount=spend[0], currency=spend[1], window=window)
    show_secret(session, key, f"Created {key.id}")


@commands.command("rotate")
def rotate_key(
    session: Session,
    key_id: KeyId,
    grace: Annotated[str | None, typer.Option(help="How long the old secret goes on working, such as 1h.")] = None,
) -> None:
    """Give a key a new secret. It is printed this once."""
    grace_seconds = inputs.seconds(grace, "--grace") if grace else None
    with session.client() as client:
        key = client.keys.rotate(key_id, grace_seconds=grace_seconds)
    show_secret(session, key, f"Rotated {key_id}")


@commands.command("revoke")
def revoke_key(session: Session, key_id: KeyId, yes: Yes = False) -> None:
    """End a key, at once and for ever."""
    session.confirm(f"Revoke {key_id}? Whoever uses it is refused from now on.", yes=yes)
    with session.client() as client:
        client.keys.revoke(key_id)
    session.out.done(f"Revoked {key_id}.", {"id": key_id, "status": "revoked"})


def show_secret(session: Session, key: ApiKey, done: str) -> None:
    """The secret alone goes to stdout, so that it can go on to a file."""
    if session.out.as_json:
        session.out.json(key.raw)
        return
    if key.key is None:
        # The answer to the first try was lost on the way, and a secret is never sent twice.
        raise Failure(
            f"{done}, but its secret was lost.", suggestion=f"`skerry keys rotate {key.id}` gives it a new one."
        )
    note(f"{done}. This is its secret, shown this once:")
    print(key.key)


def with_currency(client: Skerry, asked: tuple[Decimal, str | None]) -> tuple[Decimal, str]:
    """An amount in the currency that was said, else in that of the prices."""
    number, currency = asked
    return number, currency or client.prices().currency
