"""`skerry budgets`."""

from typing import Annotated, Literal

import typer

from skerry.cli import inputs
from skerry.cli.commanding import Commands
from skerry.cli.commands.keys import with_currency
from skerry.cli.failures import wrong_use
from skerry.cli.figures import money
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.client import Skerry
from skerry.client.answers.money import Budget

commands = Commands("Limits on what may be spent.")
app = commands.app

COLUMNS: tuple[Column[Budget], ...] = (
    Column("id", lambda budget: budget.id, whole=True),
    Column("target", lambda budget: " ".join(f"{kind} {name}" for kind, name in budget.target.items())),
    Column("window", lambda budget: budget.window),
    Column("limit", lambda budget: money(budget.limit), right=True),
    Column("spent", lambda budget: money(budget.spent), right=True),
    Column("alerts at", lambda budget: ", ".join(f"{float(share):.0%}" for share in budget.alert_at)),
)


@commands.command("list")
def list_budgets(session: Session) -> None:
    """List the budgets."""
    with session.client() as client:
        empty = "There are no budgets. `skerry budgets create 10.00` makes one."
        session.out.listing(client.budgets.list(), COLUMNS, empty=empty)


@commands.command("create")
def create_budget(
    session: Session,
    limit: Annotated[str, typer.Argument(metavar="AMOUNT", help="Such as 10.00, or 10.00EUR.")],
    window: Annotated[Literal["day", "month", "total"], typer.Option(help="What it is for.")] = "month",
    key: Annotated[str | None, typer.Option(help="Limit this key, instead of the project.")] = None,
    tag: Annotated[str | None, typer.Option(help="Limit this tag, as name=value.")] = None,
    organization: Annotated[str | None, typer.Option(help="Limit the whole organization.")] = None,
    alert_at: Annotated[list[str] | None, typer.Option(help="Tell when so much is spent, such as 80%.")] = None,
) -> None:
    """Limit what the project, a key, a tag or the organization may spend."""
    chosen = {kind: name for kind, name in (("key", key), ("tag", tag), ("organization", organization)) if name}
    if len(chosen) > 1:
        raise wrong_use("A budget has one target.", "One of --key, --tag and --organization, or none for the project.")
    asked = inputs.amount(limit, "AMOUNT")
    alerts = [inputs.share(text, "--alert-at") for text in inputs.words(alert_at or [])]
    with session.client() as client:
        number, currency = with_currency(client, asked)
        target = chosen or {"project": _own_project(client)}
        budget = client.budgets.create(target, amount=number, currency=currency, window=window, alert_at=alerts)
    session.out.done(f"Created budget {budget.id}: {money(budget.limit)} a {window}.", budget.raw)


@commands.command("delete")
def delete_budget(
    session: Session,
    budget_id: Annotated[str, typer.Argument(metavar="BUDGET", help="Its id.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Lift a limit."""
    session.confirm(f"Delete {budget_id}? Spending is then limited by what other budgets there are.", yes=yes)
    with session.client() as client:
        client.budgets.delete(budget_id)
    session.out.done(f"Deleted {budget_id}.", {"id": budget_id, "deleted": True})


def _own_project(client: Skerry) -> str:
    return client.whoami().project_id
