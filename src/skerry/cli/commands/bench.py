"""`skerry bench`."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from skerry.cli import inputs
from skerry.cli.bench import report
from skerry.cli.bench.load import Load, Tally
from skerry.cli.bench.plan import Plan, cost_of_one
from skerry.cli.commanding import Commands
from skerry.cli.failures import Failure, wrong_use
from skerry.cli.figures import money
from skerry.cli.session import Session, failure_of
from skerry.client import AsyncSkerry, Connection, Forbidden, NotFound, Retries, Skerry
from skerry.client.transport import trust

commands = Commands()
app = commands.app

DEFAULT_REQUESTS = 20
DEFAULT_CEILING = "1.00"
REDRAW_SECONDS = 0.25
ANSWER_SECONDS = 300.0
"""Longest silence of one answer: under load they wait."""


@commands.command("bench")
def bench(
    session: Session,
    model: Annotated[str, typer.Argument(help="The model, or endpoint, to ask.")],
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, max=4096, help="Requests at once.")] = 4,
    requests: Annotated[
        int | None, typer.Option("--requests", "-n", min=1, help="How many in all. [default: 20, without --duration]")
    ] = None,
    duration: Annotated[str | None, typer.Option("--duration", "-d", help="For so long instead: 30s or 5m.")] = None,
    prompt_tokens: Annotated[int, typer.Option(min=1, max=1_000_000, help="About so many in each prompt.")] = 128,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 64,
    stream: Annotated[bool, typer.Option("--stream/--no-stream", help="Have the answers streamed.")] = True,
    max_cost: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", help="Begin nothing that could cost more. [default: 1.00 with --duration]"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether it may cost that much.")] = False,
) -> None:
    """Put a model under load, and tell how fast it is and what it costs.

    Its requests are ordinary ones, and paid. Exit code 0: some were answered.
    """
    session.require_own_project("A request")
    if requests is not None and duration is not None:
        raise wrong_use("Say how many or how long.", "One of --requests and --duration.")
    seconds = inputs.seconds(duration, "--duration") if duration else None
    number = requests or (None if seconds else DEFAULT_REQUESTS)
    asked = inputs.amount(max_cost or DEFAULT_CEILING, "--max-cost") if max_cost or seconds else None
    with session.client() as client:
        each, currency = _each(client, model, prompt_tokens, max_tokens)
        if asked is not None and asked[1] not in (None, currency):
            raise wrong_use(f"--max-cost: prices are in {currency}.")
        ceiling = asked[0] if asked is not None and each else None
        plan = Plan(model, concurrency, number, seconds, prompt_tokens, max_tokens, stream, each, ceiling, currency)
        session.agree(plan.highest, _words(plan), yes=yes)
        tally = _run(session.connection(), plan)
    if not tally.answered and tally.stopped is not None:
        raise failure_of(tally.stopped)
    if session.out.as_json:
        session.out.json(report.as_json(plan, tally))
    else:
        session.out.show(report.fields(plan, tally))
    if not tally.answered:
        raise Failure("Nothing was answered.", suggestion=f"`skerry endpoints show {model}` shows whether it is ready.")


def _each(client: Skerry, model: str, prompt_tokens: int, max_tokens: int) -> tuple[Decimal, str]:
    """The most that one request can cost, and in what. A dedicated endpoint is paid by time, whatever it is asked."""
    book = client.prices()
    try:
        endpoint = client.endpoints.get(model)
    except (Forbidden, NotFound):
        return cost_of_one(book, model, prompt_tokens, max_tokens), book.currency
    if endpoint.charge_by == "time":
        return Decimal(0), book.currency
    return cost_of_one(book, endpoint.model or model, prompt_tokens, max_tokens), book.currency


def _words(plan: Plan) -> str:
    many = f"{plan.requests:,} requests" if plan.requests else f"Requests for {plan.seconds:g} s"
    size = f"about {plan.prompt_tokens:,} prompt and at most {plan.max_tokens:,} completion tokens each"
    cost = f"at most {money(plan.highest)}" if plan.highest.amount else "tokens cost nothing here"
    return f"{many}, {plan.concurrency:,} at once, {size}: {cost}."


def _run(found: Connection, plan: Plan) -> Tally:
    trusted = trust(found.ca_cert) if found.url.startswith("https:") else None

    def connect() -> AsyncSkerry:
        # What fails is to be seen: nothing is tried again.
        once = Retries(tries=1)
        return AsyncSkerry(found.url, found.api_key, ANSWER_SECONDS, ca_cert=trusted, connections=1, retries=once)

    async def run() -> Tally:
        load = Load(connect, plan)
        with _shown(plan) as progress:
            drawing = asyncio.create_task(_draw(progress, plan, load.tally)) if progress else None
            try:
                return await load.run()
            finally:
                if drawing is not None:
                    drawing.cancel()

    return asyncio.run(run())


@contextmanager
def _shown(plan: Plan) -> Iterator[Progress | None]:
    screen = Console(stderr=True, highlight=False)
    if not screen.is_terminal:
        yield None
        return
    columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, auto_refresh=False) as progress:
        progress.add_task("", total=plan.requests or plan.seconds)
        yield progress


async def _draw(progress: Progress, plan: Plan, tally: Tally) -> None:
    (task,) = progress.task_ids
    clock = asyncio.get_running_loop().time
    started = clock()
    while True:
        await asyncio.sleep(REDRAW_SECONDS)
        passed = clock() - started
        failed = f", {tally.failed:,} failed" if tally.failed else ""
        speed = f"{tally.completion / passed:,.1f} tokens/s"
        words = f"{tally.answered:,} answered{failed}, {tally.in_flight:,} under way, {speed}"
        done = tally.answered + tally.failed if plan.requests else passed
        progress.update(task, completed=done, description=words, refresh=True)
