"""Brings models from a hub to the disk, and takes the files of removed ones away.

All that is remembered is on the disk and in the row: a controller that dies in the middle is followed by one that
takes the file up where it was.
"""

import asyncio
import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skerry.artifacts import rules
from skerry.artifacts.errors import HubForbids, HubUnreachable, UnknownHubModel
from skerry.artifacts.hub.client import Hub
from skerry.artifacts.hub.download import Busy, Download, NoRoom, WrongContent
from skerry.artifacts.hub.store import FetchStore, Job, stored, weights_path
from skerry.artifacts.model import EngineKind, FetchState, SourceKind
from skerry.artifacts.weights import Weights, inspect
from skerry.db.database import Database
from skerry.db.notify import ROUTES, WORK, notify
from skerry.kernel.clock import Clock
from skerry.kernel.errors import SkerryError
from skerry.kernel.ids import ModelId
from skerry.runtime.reconciler import back_off_seconds

KIND: Final = "model"
SLICE_SECONDS: Final = 2.0
"""How long a step may download: progress is told as often, and the controller stops as soon."""
WRONG_TRIES: Final = 3
"""Times that a wrong content is fetched anew."""
_LONGEST_PAUSE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Step:
    """What came of one. `weights`: all is there, and this is what it is."""

    done: int = 0
    code: str = ""
    message: str = ""
    gone: bool = False
    final: bool = False
    weights: Weights | None = None

    @property
    def hindered(self) -> bool:
        return bool(self.code)


class ModelFetcher:
    """`folder`: below it each model has one of its own, by id. `keep_free`: bytes that stay free on its disk."""

    kind = KIND

    def __init__(
        self,
        db: Database,
        clock: Clock,
        hub: Hub,
        folder: Path,
        *,
        keep_free: int,
        engines: Collection[EngineKind],
        slice_seconds: float = SLICE_SECONDS,
    ) -> None:
        self.db, self.clock, self.hub, self.folder = db, clock, hub, folder
        self.keep_free, self.engines, self.slice_seconds = keep_free, frozenset(engines), slice_seconds
        self.store = FetchStore()
        self._downloads: dict[ModelId, Download] = {}

    async def claim(self, limit: int) -> Sequence[Job]:
        async with self.db.transaction() as tx:
            return await self.store.claim(tx, limit, self.clock.now())

    async def step(self, row: Job) -> Step:
        return await asyncio.to_thread(self._remove if row.removed else self._advance, row)

    async def apply(self, row: Job, change: Step | None) -> bool:
        if change is None:
            return False
        async with self.db.transaction() as tx:
            if change.gone:
                await self.store.end(tx, row, FetchState.GONE)
                return False
            if change.weights is None and not change.final:
                failures = row.failures + 1 if change.hindered else 0
                pause = back_off_seconds(failures, _LONGEST_PAUSE) if failures else 0.0
                return await self.store.progress(
                    tx, row, done=change.done, code=change.code, message=change.message, failures=failures,
                    due_in=pause, now=self.clock.now(),
                ) and not failures  # fmt: skip
            values = {}
            if change.weights is not None:
                facts = change.weights.facts
                values = {
                    "engine": change.weights.engine.value,
                    "facts": stored(facts),
                    "context_length": rules.context_length(row.plan.context_length, facts, SourceKind.HUB),
                    "license": row.license or change.weights.license,
                }
            state = FetchState.FAILED if change.weights is None else FetchState.DONE
            if not await self.store.end(tx, row, state, code=change.code, message=change.message, **values):
                return False
            await notify(tx, ROUTES)
            await notify(tx, WORK, "endpoint")
        self._downloads.pop(row.model, None)
        return True

    async def failed(self, row: Job, error: Exception) -> None:
        async with self.db.transaction() as tx:
            failures = row.failures + 1
            await self.store.progress(
                tx, row, done=0, code="internal_error", message=f"it failed on our side: {type(error).__name__}",
                failures=failures, due_in=back_off_seconds(failures, _LONGEST_PAUSE), now=self.clock.now(),
            )  # fmt: skip

    def _advance(self, job: Job) -> Step:
        """Blocking, for about `slice_seconds`."""
        folder = self.folder / job.model
        folder.mkdir(parents=True, exist_ok=True)
        download = self._downloads.setdefault(job.model, Download(self.hub, folder, self.keep_free))
        plan = job.plan
        until = time.monotonic() + self.slice_seconds
        step = Step()
        try:
            for file in plan.files:
                if not download.run(plan.id, plan.revision, file, until):
                    return Step(self._done(download, job))
            return self._examined(job, folder)
        except (HubUnreachable, HubForbids, UnknownHubModel) as error:
            step = Step(code=error.code, message=f"{error.detail}. {error.suggestion}")
        except WrongContent as error:
            final = job.failures + 1 >= WRONG_TRIES
            step = Step(code="checksum_mismatch", message=f"{error}.", final=final)
        except NoRoom as error:
            step = Step(code="no_disk_room", message=f"{error}. Make room, and it goes on by itself.")
        except Busy:
            step = Step(code="busy", message="Another controller is still downloading it.")
        except OSError as error:
            step = Step(code="disk", message=f"It cannot be written: {error.strerror or error}.")
        return Step(self._done(download, job), step.code, step.message, final=step.final)

    def _examined(self, job: Job, folder: Path) -> Step:
        """All files are whole: is it a model that can be served?"""
        try:
            weights = inspect(weights_path(folder, job.plan.files))
            rules.choose_engine(None, weights.engine, self.engines)
            rules.context_length(job.plan.context_length, weights.facts, SourceKind.HUB)
        except SkerryError as error:
            return Step(job.plan.total, error.code, f"{error.detail}. {error.suggestion}".strip(), final=True)
        return Step(job.plan.total, weights=weights)

    def _remove(self, job: Job) -> Step:
        self._downloads.pop(job.model, None)
        shutil.rmtree(self.folder / job.model, ignore_errors=True)
        return Step(gone=not (self.folder / job.model).exists(), code="disk", message="Its files cannot be removed.")

    def _done(self, download: Download, job: Job) -> int:
        return sum(download.have(file) for file in job.plan.files)
