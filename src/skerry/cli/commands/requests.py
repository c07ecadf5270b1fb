"""`skerry requests`."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from skerry.cli import inputs
from skerry.cli.commanding import Commands
from skerry.cli.figures import count, milliseconds, money, when
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.cli.speech import dim, printable
from skerry.client import Skerry
from skerry.client.answers.work import LoggedRequest

commands = Commands("The log of answers that were given.")
app = commands.app

FOLLOW_SECONDS = 1.0
LATE = timedelta(seconds=30)
"""An answer is in the log a second or two after its end; those that are later than this are missed."""

COLUMNS: tuple[Column[LoggedRequest], ...] = (
    Column("ended", lambda request: when(request.ended_at), whole=True),
    Column("id", lambda request: request.id, whole=True),
    Column("model", lambda request: request.model, whole=True),
    Column("key", lambda request: request.key.name or request.key.id),
    Column("status", lambda request: str(request.status), right=True),
    Column("prompt", lambda request: count(request.tokens.prompt + request.tokens.cached), right=True),
    Column("answer", lambda request: count(request.tokens.completion), right=True),
    Column("queue", lambda request: milliseconds(request.timings.queue_ms), right=True),
    Column("first token", lambda request: milliseconds(request.timings.first_token_ms), right=True),
    Column("total", lambda request: milliseconds(request.timings.total_ms), right=True),
    Column("cost", lambda request: money(request.cost), right=True),
)


@commands.command("list")
def list_requests(
    session: Session,
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    key: Annotated[str | None, typer.Option(help="Only with this key: its id or name.")] = None,
    status: Annotated[str | None, typer.Option(help="Only with this status: 200, or 5xx.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only rows of this batch.")] = None,
    since: Annotated[str | None, typer.Option(help="Ended since: a time, today, 15m or 2h.")] = None,
    until: Annotated[str | None, typer.Option(help="Ended before.")] = None,
    min_ms: Annotated[int | None, typer.Option(min=0, help="Took at least so many milliseconds.")] = None,
    search: Annotated[str | None, typer.Option(help="Begins with this id, or has this in its model or key.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with those that come, until Ctrl-C.")] = False,
) -> None:
    """List answers that were given, the newest first.

    What was refused had no answer, and is not there.
    """
    now = datetime.now(UTC)
    filters: dict[str, Any] = {
        "model": model,
        "key": key,
        "status": status,
        "batch": batch,
        "min_ms": min_ms,
        "q": search,
    }
    start = inputs.moment(since, now, "--since") if since else None
    end = inputs.moment(until, now, "--until") if until else None
    with session.client() as client:
        if follow:
            _follow(session, _coming(client, start or now, filters))
            return
        found = client.requests.list(start=start, end=end, limit=min(limit, 500), **filters)
        empty = 'There are no such requests. `skerry chat "Hello"` makes one.'
        session.out.listing(found, COLUMNS, empty=empty, limit=limit)


@commands.command("show")
def show_request(
    session: Session, request_id: Annotated[str, typer.Argument(metavar="REQUEST", help="Its x-request-id.")]
) -> None:
    """Show one answer; with what was said, where the project has that kept."""
    with session.client() as client:
        request = client.requests.get(request_id)
    tokens, timings, content = request.tokens, request.timings, request.content
    cached = f" ({tokens.cached:,} cached)" if tokens.cached else ""
    session.out.fields(
        request,
        [
            ("id", request.id),
            ("status", str(request.status)),
            ("model", request.model),
            ("kind", f"{request.kind}{', streamed' if request.stream else ''}"),
            ("endpoint", request.endpoint),
            ("replica", request.replica or ""),
            ("key", " ".join(filter(None, (request.key.id, request.key.name)))),
            ("batch", request.batch or ""),
            ("started", when(request.started_at)),
            ("ended", when(request.ended_at)),
            ("queue", milliseconds(timings.queue_ms)),
            ("first token", milliseconds(timings.first_token_ms)),
            ("total", milliseconds(timings.total_ms)),
            ("tokens", f"{tokens.prompt + tokens.cached:,} prompt{cached} + {tokens.completion:,} completion"),
            ("counted by", request.counted),
            ("cost", money(request.cost)),
            ("asked", content.request if content else ""),
            ("answered", content.answer if content else ""),
            ("content", "" if content or request.content_reason is None else request.content_reason.message),
        ],
    )


def _coming(client: Skerry, start: datetime, filters: dict[str, Any]) -> Iterator[list[LoggedRequest]]:
    """Those that were not there before, oldest first, again and again."""
    seen: set[str] = set()
    newest = start
    while True:
        since = max(start, newest - LATE)
        found = [one for one in client.requests.list(start=since, limit=500, **filters) if one.id not in seen]
        seen |= {one.id for one in found}
        newest = max([newest, *(one.ended_at for one in found if one.ended_at)])
        yield found[::-1]
        time.sleep(FOLLOW_SECONDS)


def _follow(session: Session, coming: Iterator[list[LoggedRequest]]) -> None:
    """A line each."""
    dim("Ctrl-C ends it.")
    for found in coming:
        for request in found:
            line = json.dumps(request.raw, ensure_ascii=False) if session.out.as_json else printable(_line(request))
            print(line, flush=True)


def _line(request: LoggedRequest) -> str:
    tokens = f"{request.tokens.prompt + request.tokens.cached}+{request.tokens.completion}"
    key, total = request.key.name or request.key.id, milliseconds(request.timings.total_ms)
    times = f"{total:>9}  {money(request.cost):<16}"
    return f"{when(request.ended_at)}  {request.status}  {tokens:>11}  {times}  {request.model}  {key}  {request.id}"
