"""`skerry usage`, `skerry costs` and `skerry prices`."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

import typer

from skerry.cli import figures, inputs
from skerry.cli.commanding import Commands
from skerry.cli.failures import wrong_use
from skerry.cli.output import Column, total_row
from skerry.cli.session import Session
from skerry.cli.speech import note
from skerry.client.answers.base import Money
from skerry.client.answers.money import CostRow, Price, UsageRow

commands = Commands()
app = commands.app

R = TypeVar("R", bound=UsageRow)

From = Annotated[
    str | None, typer.Option("--from", help="Start: a date or time, today, 12h or 7d. [default: this month]")
]
To = Annotated[str | None, typer.Option("--to", help="End, not included. [default: now]")]
GroupBy = Annotated[
    str | None,
    typer.Option(help="With commas: model, key, project, resource, sku, site, capacity_class, charge_by, tag:X."),
]
Bucket = Annotated[Literal["hour", "day", "month"] | None, typer.Option(help="A row for each.")]

NOTHING = 'Nothing was used in that time. `skerry chat "Hello"` uses something.'


@commands.command("usage")
def usage(
    session: Session, start: From = None, end: To = None, group_by: GroupBy = None, bucket: Bucket = None
) -> None:
    """Show what was used.

    Quantities are in base units: tokens, seconds, bytes.
    """
    groups = inputs.words([group_by or ""])
    with session.client() as client:
        rows = client.usage(**_window(start, end), group_by=groups, bucket=bucket)
        session.out.listing(rows, _quantities(groups, bucket), empty=NOTHING)


@commands.command("costs")
def costs(
    session: Session, start: From = None, end: To = None, group_by: GroupBy = None, bucket: Bucket = None
) -> None:
    """Show what it costs.

    Amounts are exact; an invoice rounds them, once a line.
    """
    groups = inputs.words([group_by or ""])
    with session.client() as client:
        rows = list(client.costs(**_window(start, end), group_by=groups, bucket=bucket))
    columns = [*_quantities(groups, bucket), *_amounts(rows), *_energies(rows)]
    session.out.listing(rows, columns, empty=NOTHING, totals=lambda shown: _totals(columns, shown))


@commands.command("prices")
def prices(session: Session) -> None:
    """Show the price book in effect."""
    with session.client() as client:
        book = client.prices()
    if session.out.as_json:
        session.out.json(book.raw)
        return
    columns: tuple[Column[Price], ...] = (
        Column("meter", lambda price: price.meter, whole=True),
        Column("for", _conditions),
        Column(book.currency, lambda price: figures.plain(price.unit_price), right=True),
        Column("for each", lambda price: figures.count(price.unit_quantity), right=True),
    )
    if not book.prices:
        note("The price book is empty: nothing costs anything.")
        return
    session.out.table(columns, book.prices)


def _window(start: str | None, end: str | None) -> dict[str, Any]:
    now = datetime.now(UTC)
    window = {
        "start": inputs.past(start, now, "--from") if start else None,
        "end": inputs.past(end, now, "--to") if end else None,
    }
    if window["start"] and window["end"] and window["start"] >= window["end"]:
        raise wrong_use("--from is not before --to.")
    return window


def _quantities(groups: Sequence[str], bucket: str | None) -> list[Column[Any]]:
    columns: list[Column[Any]] = []
    if bucket:
        columns.append(Column(bucket, lambda row: figures.hour(row.start), whole=True))
    # "meter" is a column of its own, asked for or not.
    columns.extend(Column(name, _group(name), whole=True) for name in groups if name != "meter")
    columns.append(Column("meter", lambda row: row.meter, whole=True))
    columns.append(Column("quantity", lambda row: figures.count(row.quantity), right=True))
    return columns


def _group(name: str) -> Callable[[UsageRow], str]:
    return lambda row: row.by(name) or "–"


def _amounts(rows: Sequence[CostRow]) -> list[Column[CostRow]]:
    """One column where list, contract and bill agree; the three where a contract changes something."""
    readers: dict[str, Callable[[CostRow], Money]] = {"billed": lambda row: row.billed_cost}
    if any(not row.list_cost == row.contracted_cost == row.billed_cost for row in rows):
        readers = {"list": lambda row: row.list_cost, "contracted": lambda row: row.contracted_cost, **readers}
    return [Column(title, _money_cell(rows, read), right=True) for title, read in readers.items()]


def _money_cell(rows: Sequence[CostRow], read: Callable[[CostRow], Money]) -> Callable[[CostRow], str]:
    decimals = figures.decimals_for(read(row).amount for row in rows)
    return lambda row: f"{figures.aligned(read(row).amount, decimals)} {read(row).currency}"


def _energies(rows: Sequence[CostRow]) -> list[Column[CostRow]]:
    columns: list[Column[CostRow]] = []
    if any(row.energy_mwh for row in rows):
        columns.append(Column("energy", lambda row: figures.energy(row.energy_mwh or 0), right=True))
    if any(row.carbon_mg for row in rows):
        columns.append(Column("CO2e", lambda row: figures.carbon(row.carbon_mg or 0), right=True))
    return columns


def _totals(columns: Sequence[Column[CostRow]], rows: Sequence[CostRow]) -> list[list[str]]:
    """One row a currency: exact sums of exact amounts, rounded only for showing."""
    currencies = sorted({row.billed_cost.currency for row in rows})
    return [
        total_row(
            columns, "total", _sums(currency, [row for row in rows if row.billed_cost.currency == currency], rows)
        )
        for currency in currencies
    ]


def _sums(currency: str, rows: Sequence[CostRow], shown: Sequence[CostRow]) -> dict[str, str]:
    amounts: dict[str, Callable[[CostRow], Money]] = {
        "list": lambda row: row.list_cost,
        "contracted": lambda row: row.contracted_cost,
        "billed": lambda row: row.billed_cost,
    }
    sums = {
        title: figures.aligned(
            sum((read(row).amount for row in rows), Decimal(0)), figures.decimals_for(read(row).amount for row in shown)
        )
        + f" {currency}"
        for title, read in amounts.items()
    }
    return {
        **sums,
        "energy": figures.energy(sum(row.energy_mwh or 0 for row in rows)),
        "CO2e": figures.carbon(sum(row.carbon_mg or 0 for row in rows)),
    }


def _conditions(price: Price) -> str:
    conditions = (price.line, price.model, price.sku, price.site, price.capacity_class, price.charge_by)
    return ", ".join(filter(None, conditions)) or "all"
