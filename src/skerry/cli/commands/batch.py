"""`skerry batch`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from skerry.cli import inputs
from skerry.cli.commanding import Commands
from skerry.cli.failures import Failure, wrong_use
from skerry.cli.figures import count, money, plain, size, when
from skerry.cli.output import Column
from skerry.cli.session import Session
from skerry.cli.speech import dim, note, printable
from skerry.cli.transfers import download, upload
from skerry.client import Skerry, SkerryError
from skerry.client.answers.work import Batch, BatchError, BatchErrors, BatchEstimate

commands = Commands("Many requests in a file, at half the price.")
app = commands.app

POLL_SECONDS = 1.0
SHOWN_ERRORS = 10

BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="The batch's id.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def _answered(batch: Batch) -> str:
    counts = batch.request_counts
    return f"{counts.answered:,}/{counts.total:,}" if counts.total else ""


def _cost(batch: Batch) -> str:
    return f"{plain(batch.skerry.cost)} {batch.skerry.currency}".rstrip() if batch.skerry.currency else ""


COLUMNS: tuple[Column[Batch], ...] = (
    Column("id", lambda batch: batch.id, whole=True),
    Column("endpoint", lambda batch: batch.endpoint, whole=True),
    Column("status", lambda batch: batch.status, whole=True),
    Column("answered", _answered, right=True),
    Column("refused", lambda batch: count(batch.request_counts.failed or None), right=True),
    Column("cost", _cost, right=True),
    Column("created", lambda batch: when(batch.created), whole=True),
)


@commands.command("create")
def create_batch(
    session: Session,
    source: Annotated[str, typer.Argument(metavar="FILE", help="A file of requests, or the id of one uploaded.")],
    endpoint: Annotated[
        str | None, typer.Option(help="What its rows ask, such as /v1/embeddings. [default: as its first row says]")
    ] = None,
    window: Annotated[str, typer.Option(help="It ends after so long: whole hours, up to 168h.")] = "24h",
    metadata: Annotated[list[str] | None, typer.Option(help="name=value, kept with it; several times.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether it may cost that much.")] = False,
) -> None:
    """Run a file of requests at half the price, and print the batch's id.

    The rows run while nobody else needs the replicas.
    """
    session.require_own_project("A batch")
    named = inputs.pairs(metadata or [], "--metadata")
    path = None if source.startswith("file-") and not Path(source).exists() else Path(source)
    asked = endpoint or (_endpoint_of(path) if path is not None else None)
    if asked is None:
        raise wrong_use("Say what its rows ask.", "--endpoint /v1/chat/completions, for one.")
    with session.client() as client:
        file_id = source if path is None else upload(client, path, purpose="batch").id
        wish: dict[str, Any] = {"endpoint": asked, "completion_window": window, "metadata": named or None}
        try:
            _agree(session, client.batches.estimate(file_id, **wish), yes=yes)
        except (Failure, SkerryError, typer.Abort):
            # It was put there for nothing else.
            if path is not None:
                client.files.delete(file_id)
            raise
        batch = client.batches.create(file_id, **wish)
        if not wait:
            session.out.made(batch.id, f"`skerry batch wait {batch.id}` waits for it.", batch.raw)
            return
        note(f"Created {batch.id}.")
        _end(session, client, batch.id, None)


@commands.command("list")
def list_batches(session: Session, limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100) -> None:
    """List the project's batches, the newest first."""
    session.require_own_project("A batch")
    with session.client() as client:
        empty = "There are no batches. `skerry batch create FILE` runs one."
        session.out.listing(client.batches.list(limit=min(limit, 100)), COLUMNS, empty=empty, limit=limit)


@commands.command("show")
def show_batch(session: Session, batch_id: BatchId) -> None:
    """Show one batch."""
    session.require_own_project("A batch")
    with session.client() as client:
        batch = client.batches.get(batch_id)
    usage, counts = batch.usage or {}, batch.request_counts
    tokens = f"{usage.get('input_tokens', 0):,} prompt + {usage.get('output_tokens', 0):,} completion" if usage else ""
    session.out.fields(
        batch,
        [
            ("id", batch.id),
            ("status", batch.status),
            ("reason", batch.status_reason.message if batch.status_reason else ""),
            ("endpoint", batch.endpoint),
            ("answered", f"{counts.completed:,} of {counts.total:,}, {counts.failed:,} refused"),
            ("tokens", tokens),
            ("cost", _cost(batch)),
            ("input", batch.input_file_id),
            ("output", batch.output_file_id or ""),
            ("errors", batch.error_file_id or ""),
            ("created", when(batch.created)),
            ("ends by", "" if batch.ended else when(batch.expires)),
            *(("metadata", f"{name}={value}") for name, value in (batch.metadata or {}).items()),
            *(("error", line) for line in _lines(batch.errors)),
        ],
    )


@commands.command("wait")
def wait_for_batch(
    session: Session,
    batch_id: BatchId,
    timeout: Annotated[float | None, typer.Option(min=0, help="Longest wait in seconds. [default: none]")] = None,
) -> None:
    """Wait until a batch has ended.

    Exit code 0: all of its rows were asked; otherwise it failed, expired or was cancelled.
    """
    session.require_own_project("A batch")
    with session.client() as client:
        _end(session, client, batch_id, timeout)


@commands.command("cancel")
def cancel_batch(session: Session, batch_id: BatchId) -> None:
    """Send no more rows. What was answered stays, and is paid."""
    session.require_own_project("A batch")
    with session.client() as client:
        batch = client.batches.cancel(batch_id)
    session.out.done(f"{batch.id} is {batch.status}.", batch.raw)


@commands.command("results")
def batch_results(
    session: Session,
    batch_id: BatchId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="Where to. [default: stdout]")
    ] = None,
    errors: Annotated[bool, typer.Option("--errors", help="The rows that were refused, instead.")] = False,
) -> None:
    """Get the answers of a batch that has ended: JSON, a row a line."""
    session.require_own_project("A batch")
    if session.out.as_json and output is None:
        raise wrong_use("--json needs -o: the answers themselves go to stdout.")
    with session.client() as client:
        batch = client.batches.get(batch_id)
        if not batch.ended:
            raise Failure(f"{batch_id} is {batch.status}.", suggestion=f"`skerry batch wait {batch_id}` waits for it.")
        file_id = batch.error_file_id if errors else batch.output_file_id
        if file_id is None:
            raise _no_results(batch, errors=errors)
        written = download(client, file_id, output)
    if not errors and batch.request_counts.failed:
        note(f"{batch.request_counts.failed:,} rows were refused: --errors shows them.")
    if output is not None:
        told = {"id": batch_id, "file": file_id, "path": str(output), "bytes": written}
        session.out.done(f"Wrote {output}: {size(written)}.", told)


def _endpoint_of(path: Path) -> str | None:
    """What the first row asks. Raises Failure where the file cannot be read."""
    try:
        with path.open("rb") as file:
            first = next((line for line in file if line.strip()), b"")
        row = json.loads(first)
    except OSError as error:
        raise wrong_use(f"{path} cannot be read: {error.strerror}") from error
    except ValueError:
        return None
    return str(row["url"]) if isinstance(row, dict) and row.get("url") else None


def _agree(session: Session, estimate: BatchEstimate, *, yes: bool) -> None:
    """Shows what it would be and asks. Raises Failure for a file that cannot run."""
    if wrong := _lines(estimate.errors):
        raise Failure("The file cannot be run.", details=tuple(wrong), suggestion="Mend these lines and try again.")
    if estimate.unknown_models:
        note(f"Nobody serves {', '.join(estimate.unknown_models)}: those rows will be refused.")
    cost = estimate.highest_cost
    models = ", ".join(f"{number:,} to {model}" for model, number in estimate.models.items())
    asked = f" ({models})" if models else ""
    session.agree(cost, f"{estimate.rows:,} requests{asked}, at most {money(cost)}.", yes=yes)


def _end(session: Session, client: Skerry, batch_id: str, timeout: float | None) -> None:
    """Waits, and ends the command as the batch has ended."""
    with _shown(batch_id) as progress:
        try:
            batch = client.batches.wait(batch_id, timeout=timeout, poll=POLL_SECONDS, progress=progress)
        except KeyboardInterrupt:
            dim(f"\nIt goes on by itself: `skerry batch wait {batch_id}`.")
            raise
    counts = batch.request_counts
    refused = f", {counts.failed:,} refused" if counts.failed else ""
    words = f"{batch.id} is {batch.status}: {counts.completed:,} of {counts.total:,} answered{refused}, {_cost(batch)}."
    session.out.made(batch.id, words, batch.raw)
    if batch.status != "completed":
        reason = batch.status_reason.message if batch.status_reason else ""
        raise Failure(f"{batch.id} is {batch.status}.", details=tuple(_lines(batch.errors)), suggestion=reason)
    if counts.completed and not session.out.as_json:
        note(f"`skerry batch results {batch.id}` has the answers.")


@contextmanager
def _shown(batch_id: str) -> Iterator[Any]:
    """A bar over the rows; without a terminal a line where the status changes."""
    screen = Console(stderr=True, highlight=False)
    if not screen.is_terminal:
        seen: list[str] = []

        def say(batch: Batch) -> None:
            if batch.status not in seen:
                seen.append(batch.status)
                dim(f"{batch.id} is {batch.status}")

        yield say
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task(printable(batch_id), total=None)

        def draw(batch: Batch) -> None:
            counts = batch.request_counts
            progress.update(
                task, description=printable(batch.status), completed=counts.answered, total=counts.total or None
            )

        yield draw


def _lines(errors: BatchErrors | None) -> list[str]:
    found = errors.data if errors else ()
    more = [f"… and {len(found) - SHOWN_ERRORS} more"] if len(found) > SHOWN_ERRORS else []
    return [_line(error) for error in found[:SHOWN_ERRORS]] + more


def _line(error: BatchError) -> str:
    return f"line {error.line}: {error.message}" if error.line else error.message


def _no_results(batch: Batch, *, errors: bool) -> Failure:
    if errors:
        return Failure(f"{batch.id} has no rows that were refused.")
    if batch.error_file_id:
        return Failure(f"{batch.id} has no answers.", suggestion="--errors shows why its rows were refused.")
    reason = batch.status_reason.message if batch.status_reason else ""
    return Failure(f"{batch.id} is {batch.status} without an answer.", suggestion=reason)
