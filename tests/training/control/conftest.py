"""Training jobs on a real database with a real controller of workloads; engine and supervisors do what tests say."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from skerry.artifacts.files.model import FileLimits, Purpose
from skerry.artifacts.files.service import Files
from skerry.artifacts.files.storage import LocalStorage
from skerry.billing.service import Billing
from skerry.capacity.service import Capacity, CapacityPolicy, HoldLimits, QuoteTerms
from skerry.compute.engines.base import EndCause
from skerry.compute.model import Attempt, Outcome
from skerry.compute.task.wrapping import Wrapped
from skerry.compute.watching import EngineWatcher
from skerry.fleet.service import Fleet
from skerry.identity.model import Principal
from skerry.kernel.errors import Unavailable
from skerry.kernel.paging import PageRequest
from skerry.metering.model import Meter
from skerry.runtime.events import Event, EventLog
from skerry.runtime.outbox import Dispatcher
from skerry.training.building import Training, build_training
from skerry.training.model import JobView, NewJob
from skerry.training.reconciler import JobReconciler
from skerry.training.reporting import Goodput, Loss, RunState, TrainingReport
from tests.billing.conftest import billing, identity, metering, people  # noqa: F401
from tests.compute.controlling import Control
from tests.compute.fake_engine import FakeEngine


class Everybody:
    """Isolation that a test can take away."""

    def __init__(self) -> None:
        self.available = True

    async def require(self, tx, project) -> None:
        if not self.available:
            raise Unavailable("no isolation here", code="isolation_unavailable", retry_after=60)


class AsItIs:
    """In the place of the task wrapper: what a customer gave is handed to the engine unwrapped."""

    async def wrap(self, workload, attempt, files) -> Wrapped:
        return Wrapped(workload.spec.command, workload.spec.env, files, workload.spec.drop)


class World:
    """Verbs for tests. Job time and database time are the fake clock's."""

    def __init__(self, control: Control, training: Training, people, isolation: Everybody, files: Files) -> None:  # noqa: F811
        self.control, self.training, self.people, self.isolation, self.files = (
            control, training, people, isolation, files,
        )  # fmt: skip
        self.jobs, self.db, self.clock = training.jobs, control.db, control.clock
        self.engine: FakeEngine = control.engine
        control.reconciler._wrapper = AsItIs()
        self.reconciler = JobReconciler(training.jobs)
        self.outbox = Dispatcher(self.db, self.clock, {"workload": training.jobs.workload_changed})
        self.watcher = EngineWatcher(self.db, self.clock, self.engine)
        self.seq: dict[str, int] = {}

    @property
    def customer(self) -> Principal:
        return self.people.customer

    async def create(self, **wish: Any) -> JobView:
        view = await self.jobs.create(self.customer, ask(**wish))
        return await self.settle(view)

    async def settle(self, view: JobView) -> JobView:
        """Let both controllers work until nothing is left to do."""
        for _ in range(10):
            await self.watcher.watch_once("fake.1", 0)
            changed = await self.control.step()
            for message in await self.outbox.claim(50):
                await self.outbox.step(message)
                changed |= await self.outbox.apply(message, None)
            for row in await self.reconciler.claim(50):
                await self.reconciler.apply(row, await self.reconciler.step(row))
                changed = True
            if not changed:
                break
        return await self.get(view)

    async def get(self, view: JobView) -> JobView:
        return await self.jobs.get(self.customer, view.job.id)

    async def attempts(self, view: JobView) -> Sequence[Attempt]:
        async with self.db.reading() as tx:
            return await self.jobs.attempts(tx, view.job)

    async def newest(self, view: JobView) -> Attempt:
        return (await self.attempts(view))[-1]

    async def report(self, view: JobView, seq: int | None = None, **what: Any) -> dict[str, Any]:
        """As rank 0's supervisor of the newest attempt does."""
        attempt = await self.newest(view)
        number = seq or self.seq.get(attempt.id, 0) + 1
        self.seq[attempt.id] = number
        values = {"generation": 1, "state": RunState.RUNNING, "step": 0, "at": ms(self.clock.now()), **what}
        report = TrainingReport(seq=number, **values)
        return await self.training.intake.take(attempt.project, attempt.workload, attempt.id, report)

    async def end(self, view: JobView, outcome: Outcome, **how: Any) -> JobView:
        """Its newest attempt ends so."""
        self.engine.end((await self.newest(view)).id, outcome, **how)
        return await self.settle(view)

    async def lost(self, view: JobView) -> JobView:
        """Its node is gone, and the job with it."""
        how = {"cause": EndCause.UNOBSERVED, "exit_code": None, "message": "the node is gone"}
        return await self.end(view, Outcome.LOST, **how)

    async def stopped(self, view: JobView) -> JobView:
        """Its processes have ended, as they were told to."""
        how = {"cause": EndCause.CANCELLED, "exit_code": 82, "message": "stopped"}
        return await self.end(view, Outcome.CANCELLED, **how)

    async def timeline(self, view: JobView) -> list[Event]:
        async with self.db.reading() as tx:
            found = await self.jobs.events.list(tx, view.job.project, view.job.id, PageRequest(500))
        return list(found.data)

    async def charged(self) -> int:
        """Accelerator-seconds of all facts."""
        return sum(fact.quantity for fact in await self.control.facts() if fact.meter == Meter.ACCELERATOR_SECONDS)

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds=seconds)


def ask(**wish: Any) -> NewJob:
    return NewJob(**{"name": "train", "command": ("torchrun", "train.py"), **wish})


def ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def goodput(productive: int, **losses: int) -> Goodput:
    """Milliseconds."""
    named = {Loss(name): value for name, value in losses.items()}
    return Goodput(total_ms=productive + sum(losses.values()), productive_ms=productive, losses=named)


@pytest.fixture
def files(database, clock, identity, metering, tmp_path: Path) -> Files:  # noqa: F811
    storage = LocalStorage(tmp_path / "files", 0)
    purposes = [Purpose("source"), Purpose("batch")]
    return Files(database, clock, EventLog(clock), identity, metering, storage, FileLimits(2**30, 2**30, 99), purposes)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


@pytest.fixture
async def world(
    database, clock, identity, billing: Billing, files: Files, people, shared: Path  # noqa: F811
) -> AsyncIterator[World]:  # fmt: skip
    control = Control.over(database, clock, FakeEngine(clock, nodes=2))
    await control.discover(nodes=2)
    fleet: Fleet = control.fleet
    policy = CapacityPolicy(QuoteTerms(300, 30), HoldLimits(10, 10**9, 9), 900)
    capacity = Capacity(database, clock, control.events, identity, billing, fleet, policy)
    fleet.ask(capacity.sold)
    isolation = Everybody()
    training = build_training(
        control.compute, control.events, identity, billing, fleet, capacity, files, isolation, shared
    )
    yield World(control, training, people, isolation, files)
