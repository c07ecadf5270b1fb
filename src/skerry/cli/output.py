"""The answer of a command, on stdout: a table, a list of fields, or JSON."""

import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Generic, Literal, Protocol, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from skerry.cli.speech import dim, note, printable

T = TypeVar("T")

PIPE_WIDTH = 100_000
"""Wide enough that nothing is wrapped or cut where there is no terminal to fit."""


class Answer(Protocol):
    """What the client's answers are here; `skerry status` has none and should not import the client."""

    @property
    def raw(self) -> Mapping[str, Any]: ...


A = TypeVar("A", bound=Answer)


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """`whole` columns (ids, names) are never wrapped or cut; `right` aligns numbers."""

    title: str
    text: Callable[[T], str]
    right: bool = False
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Answers:
    as_json: bool

    def listing(
        self,
        items: Iterable[A],
        columns: Sequence[Column[A]],
        *,
        empty: str,
        limit: int | None = None,
        totals: Callable[[Sequence[A]], Sequence[Sequence[str]]] | None = None,
    ) -> None:
        """Up to `limit` items. JSON has the form of the API's own lists, all pages in one."""
        upcoming = iter(items)
        rows = list(islice(upcoming, limit))
        more = limit is not None and next(upcoming, None) is not None
        if self.as_json:
            self.json({"data": [row.raw for row in rows], "has_more": more, "next_cursor": None})
        elif not rows:
            note(empty)
        else:
            self.table(columns, rows, totals(rows) if totals else ())
        if more and not self.as_json:
            dim(f"Only the first {limit} are shown; --limit shows more.")

    def table(self, columns: Sequence[Column[T]], rows: Sequence[T], totals: Sequence[Sequence[str]] = ()) -> None:
        """Columns that are empty in every row are left out."""
        self._print(drawn(columns, rows, totals))

    def fields(self, answer: Answer, fields: Sequence[tuple[str, str]]) -> None:
        """One thing: its fields under each other, without the empty ones."""
        if self.as_json:
            self.json(answer.raw)
            return
        self.show(fields)

    def show(self, fields: Sequence[tuple[str, str]]) -> None:
        """Fields under each other, without the empty ones."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for title, text in fields:
            if text:
                table.add_row(title, Text(printable(text)))
        self._print(table)

    def done(self, words: str, raw: Mapping[str, Any]) -> None:
        """What an action did: words to the user, or JSON."""
        if self.as_json:
            self.json(raw)
        else:
            note(words)

    def made(self, id: str, words: str, raw: Mapping[str, Any]) -> None:
        """Something new: its id alone on stdout, for the next command; words to the user. Or JSON."""
        if self.as_json:
            self.json(raw)
        else:
            note(words)
            print(printable(id))

    def json(self, value: object) -> None:
        print(json.dumps(value, indent=2, ensure_ascii=False, default=str))

    def _print(self, table: Table) -> None:
        if sys.stdout.isatty():
            Console(highlight=False).print(table)
            return
        plain = io.StringIO()
        Console(file=plain, width=PIPE_WIDTH, no_color=True, highlight=False).print(table)
        print("\n".join(line.rstrip() for line in plain.getvalue().splitlines()))


def drawn(columns: Sequence[Column[T]], rows: Sequence[T], totals: Sequence[Sequence[str]] = ()) -> Table:
    """Columns that are empty in every row are left out."""
    cells = [[printable(column.text(row)) for column in columns] for row in rows]
    shown = [at for at in range(len(columns)) if any(line[at] for line in cells)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=True)
    for column in (columns[at] for at in shown):
        side: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(column.title, justify=side, no_wrap=column.whole or column.right, overflow="fold")
    for line in cells:
        table.add_row(*(Text(line[at]) for at in shown))
    for total in totals:
        table.add_row(*(Text(printable(total[at])) for at in shown), style="bold")
    return table


def total_row(columns: Sequence[Column[T]], label: str, values: Mapping[str, str]) -> list[str]:
    """A row of totals: `values` by column title, the label in the first column."""
    cells = [values.get(column.title, "") for column in columns]
    return list(chain([label], cells[1:]))
