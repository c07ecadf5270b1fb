"""`skerry job`."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from skerry.cli import inputs
from skerry.cli.commanding import Commands
from skerry.cli.failures import wrong_use
from skerry.cli.figures import count, money, plain, size, when
from skerry.cli.jobview import finish, follow, progress, restarted, show
from skerry.cli.output import Column
from skerry.cli.packing import entries, pack
from skerry.cli.session import Session
from skerry.cli.speech import dim, note, printable
from skerry.cli.transfers import shown, upload
from skerry.client import Skerry
from skerry.client.answers.base import Money
from skerry.client.answers.runtime import Event
from skerry.client.answers.training import Loss, MetricPoint, MetricSeries, TrainingEstimate, TrainingJob

commands = Commands("Training jobs: run, list, show, logs, pause, resume, cancel, goodput.")
app = commands.app

NONE = "none"
Id = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Rank = Annotated[int | None, typer.Option(min=0, help="The lines of this rank alone.")]
Node = Annotated[int | None, typer.Option(min=0, help="Of this node, from 0. [default: the first]")]


def _ranks(job: TrainingJob) -> str:
    return f"{job.nodes}×{job.tasks_per_node}×{job.accelerators_per_task}"


COLUMNS: tuple[Column[TrainingJob], ...] = (
    Column("id", lambda job: job.id, whole=True),
    Column("name", lambda job: job.name, whole=True),
    Column("status", lambda job: job.status, whole=True),
    Column("nodes×tasks×acc.", _ranks, right=True),
    Column("sku", lambda job: job.sku, whole=True),
    Column("step", lambda job: count(job.progress.step) if job.progress and job.progress.step else "", right=True),
    Column("restarts", lambda job: count(job.restarts or None), right=True),
    Column("cost", lambda job: money(job.cost_so_far), right=True),
    Column("created", lambda job: when(job.created_at), whole=True),
)
POINTS: tuple[Column[MetricPoint], ...] = (
    Column("step", lambda point: count(point.step), right=True),
    Column("name", lambda point: point.name, whole=True),
    Column("value", lambda point: f"{point.value:g}", right=True),
    Column("at", lambda point: when(point.at), whole=True),
)
SERIES: tuple[Column[MetricSeries], ...] = (
    Column("name", lambda series: series.name, whole=True),
    Column("points", lambda series: count(series.points), right=True),
    Column("newest step", lambda series: count(series.latest.step), right=True),
    Column("newest value", lambda series: f"{series.latest.value:g}", right=True),
)
EVENTS: tuple[Column[Event], ...] = (
    Column("at", lambda event: when(event.at), whole=True),
    Column("event", lambda event: event.type.removeprefix("training_job."), whole=True),
    Column("data", lambda event: _shown(event.data)),
)


@commands.command("run")
def run_job(
    session: Session,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="Such as: -- torchrun train.py")],
    name: Annotated[str | None, typer.Option(help="[default: after the script]")] = None,
    nodes: Annotated[int, typer.Option(min=1, help="How many nodes, all at once.")] = 1,
    tasks_per_node: Annotated[int, typer.Option(min=1, help="Processes on each node.")] = 1,
    accelerators_per_task: Annotated[int, typer.Option(min=1, help="Accelerators of each process.")] = 1,
    sku: Annotated[str | None, typer.Option(help="[default: the reservation's, or the only one]")] = None,
    capacity_class: Annotated[str | None, typer.Option("--class", help="on_demand, spot or reserved.")] = None,
    reservation: Annotated[str | None, typer.Option(help="Run inside this reservation.")] = None,
    max_duration: Annotated[str | None, typer.Option(help="Stop it after so long, such as 12h.")] = None,
    max_restarts: Annotated[int, typer.Option(min=0, help="How often it may fail by its own fault.")] = 3,
    max_cost: Annotated[str | None, typer.Option(help="Stop it before it costs more, such as 25.00.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for its processes; several times.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="name=value, to find its cost by; several times.")] = None,
    launcher: Annotated[
        str, typer.Option(help="torchrun: the command in each process; none: once a node, as it is.")
    ] = "torchrun",
    source: Annotated[
        str, typer.Option(help="Folder to pack, id of an uploaded file, path of a shared folder, or none.")
    ] = ".",
    checkpoint_dir: Annotated[str | None, typer.Option(help="Where it sees its checkpoints.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print its id and leave.")] = False,
    yes: Yes = False,
) -> None:
    """Run a command, with the files of this folder, and follow its log.

    What .gitignore names stays here. Ctrl-C leaves the job running. Exit code 1: the job failed.
    """
    if not command:
        raise wrong_use("There is no command.", "skerry job run -- torchrun train.py")
    wish: dict[str, Any] = {
        "nodes": nodes,
        "tasks_per_node": tasks_per_node,
        "accelerators_per_task": accelerators_per_task,
        "launcher": launcher,
        "sku": sku,
        "capacity_class": capacity_class,
        "reservation_id": reservation,
        "max_duration_seconds": inputs.seconds(max_duration, "--max-duration") if max_duration else None,
        "max_restarts": max_restarts,
        "max_cost": plain(inputs.amount(max_cost, "--max-cost")[0]) if max_cost else None,
        "env": inputs.pairs(env or [], "--env"),
        "tags": inputs.pairs(tag or [], "--tag"),
        "checkpoint_dir": checkpoint_dir,
    }
    own = name or _name_of(command)
    with session.client() as client:
        # What is wrong with it is said before anything is uploaded.
        estimate = client.jobs.estimate(own, command, **wish)
        _agree(session, estimate, yes=yes)
        job = client.jobs.create(own, command, source=_source(session, client, source), **wish)
        if detach:
            session.out.made(job.id, f"`skerry job logs {job.id} --follow` shows what it does.", job.raw)
            return
        note(f"Created {job.id}.")
        _follow(session, client, job)


@commands.command("list")
def list_jobs(
    session: Session,
    status: Annotated[str | None, typer.Option(help="Only those: queued, running, paused, failed …")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
) -> None:
    """List the project's jobs, the newest first."""
    with session.client() as client:
        empty = "There are no jobs. `skerry job run -- torchrun train.py` runs one."
        session.out.listing(client.jobs.list(status=status, limit=min(limit, 100)), COLUMNS, empty=empty, limit=limit)


@commands.command("show")
def show_job(session: Session, job_id: Id) -> None:
    """Show one job."""
    with session.client() as client:
        job = client.jobs.get(job_id)
    last = job.last_restart
    excluded = job.excluded_accelerator_seconds
    session.out.fields(
        job,
        [
            ("id", job.id),
            ("name", job.name),
            ("status", job.status),
            ("reason", job.status_reason.message if job.status_reason else ""),
            ("estimated start", when(job.estimated_start)),
            ("progress", progress(job)),
            ("restarts", count(job.restarts or None)),
            ("last restart", restarted(last, job.restarts) if last else ""),
            ("command", " ".join(job.command)),
            ("source", job.source or ""),
            ("nodes×tasks×acc.", _ranks(job)),
            ("on", ", ".join(job.on_nodes)),
            ("capacity", f"{job.sku}, {job.reservation_id or job.capacity_class}"),
            ("exit code", "" if job.exit_code is None else str(job.exit_code)),
            ("cost so far", money(job.cost_so_far)),
            ("not charged", f"{count(excluded)} accelerator-seconds" if excluded else ""),
            ("workload", job.workload_id),
            ("created", when(job.created_at)),
            ("started", when(job.started_at)),
            ("ended", when(job.ended_at)),
            *(("tag", f"{tag}={value}") for tag, value in job.tags.items()),
        ],
    )


@commands.command("logs")
def job_logs(
    session: Session,
    job_id: Id,
    rank: Rank = None,
    node: Node = None,
    follow_it: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job rests, or Ctrl-C.")] = False,
) -> None:
    """Print what its processes wrote, in the newest attempt.

    Lines of several processes begin with [rank N].
    """
    if session.out.as_json:
        raise wrong_use("A log is text: there is no JSON of it.")
    with session.client() as client:
        if follow_it:
            _follow(session, client, client.jobs.get(job_id), rank=rank, node=node)
            return
        with client.jobs.logs(job_id, rank=rank, node=node) as log:
            show(log)


@commands.command("cancel")
def cancel_job(session: Session, job_id: Id, yes: Yes = False) -> None:
    """End it for good. Its checkpoints, logs and metrics stay."""
    session.confirm(f"Cancel {job_id}?", yes=yes)
    with session.client() as client:
        job = client.jobs.cancel(job_id)
    session.out.done(f"{job.name} is being cancelled.", job.raw)


@commands.command("pause")
def pause_job(session: Session, job_id: Id) -> None:
    """Have it write a checkpoint and stop. It costs nothing until it is resumed."""
    with session.client() as client:
        job = client.jobs.pause(job_id)
    session.out.done(f"{job.name} is being paused; `skerry job resume {job.id}` goes on with it.", job.raw)


@commands.command("resume")
def resume_job(session: Session, job_id: Id) -> None:
    """Go on with a job that is paused or has failed, from its newest complete checkpoint."""
    with session.client() as client:
        job = client.jobs.resume(job_id)
    session.out.done(f"{job.name} is {job.status}; `skerry job logs {job.id} --follow` shows what it does.", job.raw)


@commands.command("goodput")
def job_goodput(session: Session, job_id: Id) -> None:
    """Show how much of its time went into new steps, and where the rest went."""
    with session.client() as client:
        goodput = client.jobs.goodput(job_id)
    rows = [Loss(name="productive", seconds=goodput.productive_seconds), *goodput.losses]
    if session.out.as_json:
        session.out.json(goodput.raw)
        return
    total = goodput.total_seconds
    columns: tuple[Column[Loss], ...] = (
        Column("time", lambda loss: loss.name.replace("_", " "), whole=True),
        Column("seconds", lambda loss: f"{loss.seconds:,.1f}", right=True),
        Column("share", lambda loss: f"{loss.seconds / total:.1%}" if total else "", right=True),
    )
    session.out.table(columns, rows, [["total", f"{total:,.1f}", "100.0%" if total else ""]])
    if goodput.goodput is not None:
        note(f"Goodput: {goodput.goodput:.1%}.")
    if goodput.excluded_accelerator_seconds:
        note(f"Not charged: {goodput.excluded_accelerator_seconds:,} accelerator-seconds.")


@commands.command("metrics")
def job_metrics(
    session: Session,
    job_id: Id,
    name: Annotated[str | None, typer.Option(help="The values of this one, by step.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many values at most.")] = 2000,
) -> None:
    """Show what it measured: the newest values, or one series."""
    empty = "It has measured nothing. A job prints metrics as JSON, or writes them for TensorBoard."
    with session.client() as client:
        if name is not None:
            points = client.jobs.metrics(job_id, name=name, limit=min(limit, 500))
            session.out.listing(points, POINTS, empty=f"There is nothing called {name}.", limit=limit)
            return
        measured = client.jobs.series(job_id)
    if session.out.as_json:
        session.out.json({"data": measured.raw["series"]})
    elif measured.series:
        session.out.table(SERIES, measured.series)
    else:
        note(empty)


@commands.command("events")
def job_events(
    session: Session, job_id: Id, limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 500
) -> None:
    """Show what happened to it, the oldest first."""
    with session.client() as client:
        events = client.events.of("training/jobs", job_id, limit=min(limit, 500))
        session.out.listing(events, EVENTS, empty="Nothing has happened yet.", limit=limit)


def _follow(
    session: Session, client: Skerry, job: TrainingJob, rank: int | None = None, node: int | None = None
) -> None:
    # With --json the log goes beside it: stdout is for the answer.
    to = sys.stderr.buffer if session.out.as_json else None
    try:
        job = follow(client, job, rank=rank, node=node, to=to)
    except KeyboardInterrupt:
        dim(f"\nIt goes on by itself. `skerry job logs {job.id} --follow` comes back to it,")
        dim(f"`skerry job cancel {job.id}` ends it.")
        raise
    if session.out.as_json:
        session.out.json(job.raw)
    finish(job)


def _agree(session: Session, estimate: TrainingEstimate, *, yes: bool) -> None:
    """Shows what it would cost, and asks."""
    machines = f"{estimate.nodes} node{'s' if estimate.nodes > 1 else ''}, {estimate.accelerators} × {estimate.sku}"
    if estimate.charge_by == "reservation":
        free = Money(estimate.hourly.amount * 0, estimate.hourly.currency)
        session.agree(free, f"{machines}: within the reservation, at no further cost.", yes=yes)
        return
    most = f", at most {money(estimate.price)}" if estimate.price is not None else ""
    energy = f", about {estimate.kwh:.3g} kWh" if estimate.kwh is not None else ""
    session.agree(estimate.hourly, f"{machines}: {money(estimate.hourly)} an hour{most}{energy}.", yes=yes)


def _source(session: Session, client: Skerry, wanted: str) -> str | None:
    """The id of a file, uploaded if need be; or what was named, as it is."""
    folder = Path(wanted)
    if wanted == NONE:
        return None
    if folder.is_file():
        raise wrong_use(
            f"--source: {wanted} is a file.", "Say the folder it was made of, or the id of an uploaded file."
        )
    if not folder.is_dir():
        if not wanted.startswith("file-"):
            dim(f"There is no folder {printable(wanted)} here: one that the operator shares is meant.")
        return wanted
    session.require_own_project("A source")
    found = entries(folder)
    if not found:
        dim("The folder is empty: the job runs without a source.")
        return None
    with tempfile.TemporaryDirectory(prefix="skerry-") as temporary:
        target = Path(temporary) / f"{folder.resolve().name or 'source'}.tar.gz"
        with shown("Packing", sum(entry.bytes for entry in found)) as told:
            packed = pack(found, target, told)
        for file in client.files.list(purpose="source", limit=100):
            if file.sha256 == packed.sha256:
                dim(f"{packed.files:,} files, {size(packed.bytes)}: uploaded before as {file.id}.")
                return file.id
        made = upload(client, target, purpose="source")
    dim(f"{packed.files:,} files, {size(packed.bytes)}: uploaded as {made.id}.")
    return made.id


def _name_of(command: list[str]) -> str:
    """After the script, else after the program."""
    script = next((word for word in command if word.endswith((".py", ".sh"))), command[0])
    return (Path(script).stem or "job")[:100]


def _shown(data: Any) -> str:
    """The parts of an event in one line."""
    return ", ".join(f"{name} {_flat(value)}" for name, value in data.items() if value not in (None, "", [], {}))[:300]


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("message") or value.get("code") or value)
    return str(value)
