"""`skerry contracts`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from skerry.cli import figures, inputs
from skerry.cli.commanding import Commands
from skerry.cli.failures import wrong_use
from skerry.cli.figures import money, when
from skerry.cli.output import Column
from skerry.cli.pricefiles import json_object
from skerry.cli.session import Session
from skerry.client import Skerry
from skerry.client.answers.contracts import Cancellation, Contract
from skerry.client.answers.money import Price

commands = Commands("Customers' own prices, terms and credit.")
app = commands.app

ContractId = Annotated[str, typer.Argument(metavar="CONTRACT", help="Its id.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

COLUMNS: tuple[Column[Contract], ...] = (
    Column("id", lambda contract: contract.id, whole=True),
    Column("name", lambda contract: contract.name),
    Column("organization", lambda contract: contract.organization, whole=True),
    Column("from", lambda contract: when(contract.starts_at)),
    Column("to", lambda contract: when(contract.ends_at) if contract.ends_at else "–"),
    Column("prices", lambda contract: figures.count(len(contract.prices)), right=True),
    Column("credit", lambda contract: money(contract.credit_limit) if contract.credit_limit else "–", right=True),
)


@commands.command("list")
def list_contracts(
    session: Session,
    organization: Annotated[str | None, typer.Option(help="Of this one alone (operators).")] = None,
) -> None:
    """List contracts: the organization's, or for operators all."""
    with session.client(operator=organization is not None) as client:
        empty = "There are no contracts: the price book's prices apply."
        session.out.listing(client.contracts.list(organization=organization), COLUMNS, empty=empty)


@commands.command("show")
def show_contract(session: Session, contract_id: ContractId) -> None:
    """Show one contract with its prices."""
    with session.client() as client:
        found = client.contracts.get(contract_id)
    session.out.fields(
        found,
        [
            ("name", found.name),
            ("id", found.id),
            ("organization", found.organization),
            ("from", when(found.starts_at)),
            ("to", when(found.ends_at) if found.ends_at else "no end"),
            ("credit a month", money(found.credit_limit) if found.credit_limit else "the organization's own"),
            ("cancelling", _terms(found.cancellation)),
            *((f"price {n}", _price(row, found.currency)) for n, row in enumerate(found.prices, 1)),
        ],
    )


@commands.command("create")
def create_contract(
    session: Session,
    organization: Annotated[str, typer.Argument(help="Name or id.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="JSON: its rows in `prices`, and what else there is.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Its name, if not that in the file.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="Such as 2026-12-01 or 30d. [default: now]")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Such as 2027-12-01 or 365d. [default: no end]")] = None,
    credit: Annotated[
        str | None, typer.Option("--credit", metavar="AMOUNT", help="What may be owed in a month, such as 250000USD.")
    ] = None,
) -> None:
    """Agree on prices with an organization, or on more credit (operators).

    The file may have: name, prices, cancellation, credit_limit, starts_at, ends_at.
    """
    fields = {"name", "prices", "cancellation", "credit_limit", "starts_at", "ends_at"}
    body = json_object(file, fields) if file else {}
    now = datetime.now(UTC)
    title = name or body.get("name")
    if not title:
        raise wrong_use("A contract has a name.", "Say --name, or put one into the file.")
    if file is None and credit is None:
        raise wrong_use("It says nothing.", "Name a file with its prices, or say --credit.")
    with session.client(operator=True) as client:
        limit = _credit(client, credit) if credit else body.get("credit_limit")
        made = client.contracts.create(
            organization,
            title,
            prices=body.get("prices") or (),
            starts_at=inputs.future(start, now, "--from") if start else _time(body.get("starts_at"), now, "starts_at"),
            ends_at=inputs.future(end, now, "--to") if end else _time(body.get("ends_at"), now, "ends_at"),
            cancellation=body.get("cancellation"),
            credit_limit=limit,
        )
    session.out.done(f"Created contract {made.name}: {made.id}", made.raw)


@commands.command("end")
def end_contract(session: Session, contract_id: ContractId, yes: Yes = False) -> None:
    """End a contract now (operators). What was sold under it keeps its price."""
    session.confirm(f"End {contract_id}? New reservations then cost what the price book says.", yes=yes)
    with session.client(operator=True) as client:
        ended = client.contracts.end(contract_id)
    session.out.done(f"Ended {ended.id}.", ended.raw)


def _credit(client: Skerry, text: str) -> dict[str, str]:
    amount, currency = inputs.amount(text, "--credit")
    return {"amount": figures.plain(amount), "currency": currency or client.prices().currency}


def _time(text: str | None, now: datetime, name: str) -> datetime | None:
    return inputs.future(text, now, name) if text else None


def _terms(terms: Cancellation | None) -> str:
    if terms is None:
        return "–"
    steps = [f"{float(step.share):.0%} from {step.days_before} days before" for step in terms.steps]
    return "; ".join([f"free until {terms.free_days_before} days before", *steps])


def _price(row: Price, currency: str) -> str:
    where = ", ".join(filter(None, (row.line, row.model, row.sku, row.site, row.capacity_class))) or "all"
    unit = figures.count(row.unit_quantity)
    return f"{row.meter} ({where}): {figures.plain(row.unit_price)} {currency} for each {unit}"
