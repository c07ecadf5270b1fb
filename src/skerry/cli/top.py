"""What happens at the endpoints now: a table of them, drawn again and again."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from skerry.cli.figures import milliseconds
from skerry.cli.keyboard import single_keys
from skerry.cli.output import PIPE_WIDTH, Column, drawn
from skerry.cli.speech import printable
from skerry.client import Forbidden, NotFound, NotReachable, Skerry, Unavailable
from skerry.client.answers.inference import Endpoint, Load

REFRESH_SECONDS = 1.0
ESCAPE = "\x1b"


@dataclass(frozen=True, slots=True)
class Row:
    """`load` is None where the key may not see it: of shared endpoints operators alone are told."""

    endpoint: Endpoint
    load: Load | None

    @property
    def raw(self) -> dict[str, Any]:
        """The API's load, and what one would have to look up besides."""
        endpoint = self.endpoint
        known = {
            "endpoint": endpoint.id,
            "name": endpoint.name,
            "model": endpoint.model,
            "kind": endpoint.kind,
            "status": endpoint.status,
            "wanted_replicas": endpoint.wanted_replicas,
            "ready_replicas": endpoint.ready_replicas,
        }
        return {**known, **(self.load.raw if self.load else {})}


def _of_load(show: Callable[[Load], str]) -> Callable[[Row], str]:
    return lambda row: "–" if row.load is None else show(row.load)


def _waiting(load: Load) -> str:
    batch = f" + {load.batch_waiting:,} batch" if load.batch_waiting else ""
    return f"{load.waiting - load.batch_waiting:,}{batch}"


COLUMNS: tuple[Column[Row], ...] = (
    Column("name", lambda row: row.endpoint.name or row.endpoint.id, whole=True),
    Column("status", lambda row: row.load.status if row.load else row.endpoint.status, whole=True),
    Column("replicas", lambda row: f"{row.endpoint.ready_replicas}/{row.endpoint.wanted_replicas}", right=True),
    Column("in flight", _of_load(lambda load: f"{load.in_flight:,}"), right=True),
    Column("waiting", _of_load(_waiting), right=True),
    Column("req/min", _of_load(lambda load: f"{load.requests_per_minute:,.0f}"), right=True),
    Column("tok/s", _of_load(lambda load: f"{load.tokens_per_second:,.1f}"), right=True),
    Column("first token", _of_load(lambda load: milliseconds(load.first_token_ms) or "–"), right=True),
    Column("cold start", _of_load(lambda load: _cold_start(load) or "–"), right=True),
)


def look(client: Skerry, names: Sequence[str]) -> list[Row]:
    """The endpoints named, or all of them. Raises SkerryError."""
    endpoints = [client.endpoints.get(name) for name in names] if names else list(client.endpoints.list(limit=200))
    rows = []
    for endpoint in endpoints:
        try:
            rows.append(Row(endpoint, client.endpoints.load(endpoint.id)))
        except Forbidden:
            rows.append(Row(endpoint, None))
        except NotFound:
            # Removed a moment ago.
            continue
    return rows


def watch(client: Skerry, names: Sequence[str]) -> list[Row]:
    """Draws until q or Ctrl-C; the last rows. A cloud that is away for a while is waited for."""
    rows = look(client, names)
    trouble = ""
    console = Console(highlight=False)
    screen = Live(_view(console, rows, trouble), console=console, screen=True, auto_refresh=False)
    with suppress(KeyboardInterrupt), screen as live, single_keys() as key:
        live.refresh()
        while key(REFRESH_SECONDS).lower() not in ("q", ESCAPE):
            try:
                rows, trouble = look(client, names), ""
            except (NotReachable, Unavailable) as error:
                trouble = error.detail
            live.update(_view(console, rows, trouble), refresh=True)
    return rows


def _view(console: Console, rows: Sequence[Row], trouble: str) -> RenderableType:
    words = Text(printable(trouble), style="red") if trouble else Text("q ends", style="dim")
    return Group(_fitting(console, rows), Text(), words)


def _fitting(console: Console, rows: Sequence[Row]) -> Table:
    """Columns that the terminal has no room for are left out, from the right."""
    shown = len(COLUMNS)
    table = drawn(COLUMNS, rows)
    while (
        shown > 2 and console.measure(table, options=console.options.update(width=PIPE_WIDTH)).maximum > console.width
    ):
        shown -= 1
        table = drawn(COLUMNS[:shown], rows)
    return table


def _cold_start(load: Load) -> str:
    return milliseconds(load.cold_starts[0].cold_start_ms) if load.cold_starts else ""
