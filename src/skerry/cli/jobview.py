"""A job on the screen: its log as it comes, and in between what becomes of it."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from skerry.cli.failures import Failure
from skerry.cli.figures import count, money, when
from skerry.cli.speech import dim, note, printable
from skerry.client import ByteStream, NotFound, Skerry, SkerryError
from skerry.client.answers.training import Restart, TrainingJob

POLL_SECONDS = 1.0
_QUIET = ("running", "starting", "new", "submitting", "queued")
"""Reasons that need no line of their own."""


@dataclass
class Watched:
    """What was said of a job already. Its lines go to stderr, so that its log is alone on stdout."""

    status: str = ""
    reason: str = ""
    restarts: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, job: TrainingJob) -> None:
        with self.lock:
            code = job.status_reason.code if job.status_reason else ""
            if job.status != self.status:
                dim(f"{job.name} is {job.status}{_why(job)}")
            elif code != self.reason and code not in _QUIET and not job.resting:
                dim(f"{job.name}: {_message(job)}")
            if job.restarts > self.restarts and job.last_restart is not None and job.last_restart.lost_seconds:
                note(restarted(job.last_restart, job.restarts))
                self.restarts = job.restarts
            self.status, self.reason = job.status, code


def follow(
    client: Skerry, job: TrainingJob, *, rank: int | None = None, node: int | None = None, to: BinaryIO | None = None
) -> TrainingJob:
    """Print its log until it rests: all of its attempts, one after the other. `to`: stdout unless given."""
    seen = Watched(restarts=job.restarts)
    seen.tell(job)
    read = 0
    while True:
        while not (job.resting or (job.attempts > read and job.on_nodes)):
            time.sleep(POLL_SECONDS / 2)
            job = client.jobs.get(job.id)
            seen.tell(job)
        if job.attempts > read:
            read = job.attempts
            with _told(client, job, seen), client.jobs.logs(job.id, rank=rank, node=node, follow=True) as log:
                show(log, to)
            job = client.jobs.get(job.id)
            seen.tell(job)
        elif job.resting:
            return job


def show(log: ByteStream, to: BinaryIO | None = None) -> None:
    """As it comes. A terminal gets none of the characters that it would act on."""
    out = to or sys.stdout.buffer
    for piece in log:
        out.write(printable(piece.decode(errors="replace")).encode() if out.isatty() else piece)
        out.flush()


def finish(job: TrainingJob) -> None:
    """The last line, and an exit code: raises Failure unless it succeeded."""
    excluded = job.excluded_accelerator_seconds
    free = f", {count(excluded)} accelerator-seconds not charged" if excluded else ""
    note(f"{job.name} is {job.status}: cost so far {money(job.cost_so_far) or 'nothing'}{free}.")
    if job.status != "succeeded":
        code = f" with exit code {job.exit_code}" if job.exit_code is not None else ""
        message = _message(job)
        lines = message.splitlines()
        raise Failure(
            f"{job.name} is {job.status}{code}.",
            details=tuple(lines[:-1]) if len(lines) > 1 else (),
            suggestion=lines[-1] if lines else "",
        )


def restarted(last: Restart, number: int) -> str:
    """A restart in one line."""
    where = f"rank {last.rank}" if last.rank is not None else ""
    place = " on ".join(part for part in (where, last.node or "") if part)
    gone_on = f"went on from step {last.resumed_step}" if last.resumed_step else "began anew"
    if last.step and last.resumed_step is not None:
        gone_on += f" after step {last.step}"
    charged = "" if last.charged else ", not charged"
    cause = last.cause.replace("_", " ")
    what = f"{cause} ({place})" if place else cause
    return f"Restart {number}: {what}; {gone_on}, {last.lost_seconds:.1f} s lost{charged}."


def progress(job: TrainingJob) -> str:
    """How far it is, in a few words."""
    if job.progress is None or not job.progress.step:
        return ""
    saved = f", saved {job.progress.checkpoint_step:,}" if job.progress.checkpoint_step else ""
    return f"step {job.progress.step:,}{saved}"


@contextmanager
def _told(client: Skerry, job: TrainingJob, seen: Watched) -> Iterator[None]:
    """While the log comes, what becomes of the job is said beside it."""
    leaving = threading.Event()

    def watch() -> None:
        while not leaving.wait(POLL_SECONDS):
            with suppress(SkerryError):
                now = client.jobs.get(job.id)
                if not leaving.is_set():
                    seen.tell(now)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        with suppress(NotFound):
            yield
    finally:
        leaving.set()
        thread.join(timeout=POLL_SECONDS)


def _why(job: TrainingJob) -> str:
    if job.status not in ("queued", "paused"):
        return ""
    start = f" Estimated start: {when(job.estimated_start)}." if job.estimated_start else ""
    return f": {_message(job)}{start}"


def _message(job: TrainingJob) -> str:
    return job.status_reason.message if job.status_reason else ""
