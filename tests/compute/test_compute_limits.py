"""Limits are kept to: a warning, then an orderly stop; and nodes and engines that a workload may not have."""

import random
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

import pytest

from skerry.billing.model import AccountKind
from skerry.billing.service.running import Run, Short, Standing
from skerry.compute.advance import Advance
from skerry.compute.changes import Changes
from skerry.compute.engines.base import EndCause
from skerry.compute.model import ChargeBy, Outcome, ReasonCode, StopReason, Workload, WorkloadKind, WorkloadStatus
from skerry.compute.reconciler import WorkloadReconciler
from skerry.compute.spending import Spending
from skerry.compute.task.order import TOKEN_FILE
from skerry.compute.task.wrapping import Roots, WrapContext, Wrapped, wrapped
from skerry.compute.watching import EngineWatcher
from skerry.db.database import Database, Tx
from skerry.fleet.model import Accelerator, Machine
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import ProjectId
from skerry.metering.service import Metering
from skerry.runtime.outbox import Outbox
from skerry.runtime.secrets import Keyring
from tests.compute.controlling import Control
from tests.compute.fake_engine import FakeEngine

EIGHT = Machine("here", 8, 1 << 34, tuple(Accelerator(index, "H100", 80 << 30) for index in range(8)))
KEYRING = Keyring([("k1", b"a secret of sixteen bytes and more")])


class Purse:
    """A cent for each accelerator-second, and `left` in a budget of 100."""

    def __init__(self) -> None:
        self.left: Decimal | None = None
        self.booked: dict[str, Decimal] = {}
        self.open: set[str] = set()

    async def book(
        self, tx: Tx, project: ProjectId, thing: str, runs: Sequence[Run], rate: Sequence[Run], ahead: timedelta
    ) -> Standing:
        cost = sum((Decimal(run.quantity(run.start, run.end)) / 100 for run in runs), Decimal(0))
        self.booked[thing] = cost
        self.open = self.open | {thing} if rate else self.open - {thing}
        second = sum((Decimal(run.quantity(run.start, run.end)) / 100 for run in rate), Decimal(0))
        short = None
        if second and self.left is not None:
            left = self.left - cost
            short = Short("bud_1", AccountKind.BUDGET, left, Decimal(100), max(0.0, float(left / second)))
        return Standing(cost, "EUR", second, short)


@pytest.fixture
def engine(clock: FakeClock) -> FakeEngine:
    return FakeEngine(clock, nodes=2)


@pytest.fixture
async def control(database: Database, clock: FakeClock, engine: FakeEngine) -> Control:
    control = Control.over(database, clock, engine)
    await control.discover(nodes=2, machine=EIGHT)
    return control


@pytest.fixture
def purse() -> Purse:
    return Purse()


@pytest.fixture
def spending(control: Control, purse: Purse) -> Spending:
    changes = Changes(control.events, Outbox(control.clock))
    return Spending(control.db, control.clock, control.compute, changes, purse)


async def run_job(control: Control, **changes: object) -> Workload:
    workload = await control.settle(await control.create(kind=WorkloadKind.JOB, accelerators=1, **changes))
    assert workload.status is WorkloadStatus.RUNNING
    return workload


async def told(control: Control, workload: Workload) -> list[tuple[str, str]]:
    return [
        (one.type, one.data["limit"])
        for one in await control.timeline(workload)
        if one.type in ("workload.limit_near", "workload.limit_reached")
    ]


async def look(control: Control, engine: FakeEngine) -> None:
    await EngineWatcher(control.db, control.clock, engine).watch_once("fake.1", 0)


async def end(
    control: Control, engine: FakeEngine, workload: Workload, outcome: Outcome = Outcome.CANCELLED
) -> Workload:
    engine.end(engine.submitted[-1].attempt, outcome, EndCause.CANCELLED, exit_code=None, message="told to")
    await look(control, engine)
    return await control.settle(workload)


async def test_a_workload_is_warned_and_then_stopped_before_it_costs_too_much(
    control: Control, engine: FakeEngine, spending: Spending, purse: Purse
) -> None:
    workload = await run_job(control, max_cost="20")
    await spending.look_once()
    assert await told(control, workload) == []
    control.clock.advance(seconds=1500)
    await spending.look_once()
    await spending.look_once()
    assert await told(control, workload) == [("workload.limit_near", "max_cost")]
    assert (await control.get(workload)).stop_reason is None
    control.clock.advance(seconds=495)
    await spending.look_once()
    assert await told(control, workload) == [
        ("workload.limit_near", "max_cost"),
        ("workload.limit_reached", "max_cost"),
    ]
    workload = await control.get(workload)
    assert workload.stop_reason is StopReason.BUDGET
    await control.settle(workload)
    workload = await end(control, engine, workload)
    assert (workload.status, workload.outcome) == (WorkloadStatus.ENDED, Outcome.BUDGET_STOPPED)
    await spending.look_once()
    assert purse.booked[workload.id] == Decimal("19.95") and not purse.open
    assert await spending.look_once() == 0, "all is booked"


async def test_a_budget_that_is_too_small_is_warned_of_first(
    control: Control, spending: Spending, purse: Purse
) -> None:
    purse.left = Decimal("0.01")
    workload = await run_job(control)
    await spending.look_once()
    assert await told(control, workload) == [("workload.limit_near", "budget:bud_1")]
    control.clock.advance(seconds=6)
    await spending.look_once()
    assert (await control.get(workload)).stop_reason is StopReason.BUDGET


async def test_what_is_paid_otherwise_is_not_booked(control: Control, spending: Spending, purse: Purse) -> None:
    await run_job(control, charge_by=ChargeBy.TOKENS)
    assert await spending.look_once() == 0
    assert purse.booked == {}


async def test_the_end_of_its_time_is_told_before(control: Control, engine: FakeEngine, spending: Spending) -> None:
    workload = await run_job(control, max_duration_seconds=7200)
    await spending.look_once()
    assert await told(control, workload) == []
    control.clock.advance(minutes=111)
    await spending.look_once()
    assert await told(control, workload) == [("workload.limit_near", "max_duration")]


async def test_what_holds_no_accelerators_is_stopped_at_the_end_of_its_time_too(
    control: Control, engine: FakeEngine, spending: Spending
) -> None:
    workload = await control.create(kind=WorkloadKind.JOB, accelerators=0, max_duration_seconds=60)
    workload = await control.settle(workload)
    await spending.look_once()
    control.clock.advance(seconds=55)
    await spending.look_once()
    workload = await control.settle(workload)
    workload = await end(control, engine, workload)
    assert (workload.status, workload.outcome) == (WorkloadStatus.ENDED, Outcome.TIMED_OUT)


async def test_a_node_that_took_two_attempts_is_left_alone(control: Control, engine: FakeEngine) -> None:
    workload = await run_job(control)
    nodes = []
    for _ in range(3):
        attempt = engine.submitted[-1]
        nodes.append(attempt.placements[0].node)
        engine.end(attempt.attempt, Outcome.LOST, EndCause.SIGNALLED, exit_code=137, message="signal 9")
        await look(control, engine)
        await control.settle(workload)
        control.clock.advance(minutes=5)
        await control.settle(workload)
    assert nodes == ["local-1", "local-1", "local-2"]
    assert [one.died_on for one in await control.attempts(workload)][:3] == nodes


async def test_a_deadly_node_is_better_than_none(control: Control, engine: FakeEngine) -> None:
    engine.others.clear()
    workload = await run_job(control)
    for _ in range(3):
        engine.end(engine.submitted[-1].attempt, Outcome.LOST, EndCause.SIGNALLED, exit_code=137, message="signal 9")
        await look(control, engine)
        await control.settle(workload)
        control.clock.advance(minutes=5)
        await control.settle(workload)
    assert len(engine.submitted) == 4


# What customers bring


class Apart:
    """Engines that keep customers' code apart."""

    def __init__(self, *engines: str) -> None:
        self.engines = frozenset(engines)

    async def look(self) -> None:
        pass

    async def engines_for(self, tx: Tx, project: ProjectId, spec: object) -> frozenset[str]:
        return self.engines


class Wrapping:
    """As `TaskContexts`, with nothing behind it."""

    context = WrapContext("unix:/run/api", "node-token-1", Roots("/state"), None)

    async def of(self, workload: Workload, attempt: object) -> WrapContext:
        return self.context

    async def wrap(self, workload: Workload, attempt, files) -> Wrapped:
        return wrapped(workload.spec, attempt, self.context, files)


def guarded(control: Control, engine: FakeEngine, apart: Apart) -> Control:
    outbox = Outbox(control.clock)
    advance = Advance(
        control.clock,
        Changes(control.events, outbox),
        control.fleet,
        Metering(control.db, control.clock),
        random.Random(7),
        isolation=apart,
    )
    engines = {engine.name: engine}
    control.reconciler = WorkloadReconciler(control.db, control.clock, KEYRING, engines, advance, Wrapping())
    return control


async def test_what_customers_bring_waits_for_an_engine_that_keeps_it_apart(
    control: Control, engine: FakeEngine
) -> None:
    guarded(control, engine, Apart())
    workload = await control.create(kind=WorkloadKind.JOB, customer_code=True)
    assert (await control.settle(workload)).reason.code == ReasonCode.ISOLATION_UNAVAILABLE
    assert engine.submitted == []


async def test_what_customers_bring_runs_in_our_wrapper(control: Control, engine: FakeEngine) -> None:
    guarded(control, engine, Apart("fake"))
    await control.settle(await control.create(kind=WorkloadKind.JOB, customer_code=True, env={"A": "b"}))
    (gang,) = engine.submitted
    assert gang.command[1:] == ("-I", "-m", "skerry.compute.task")
    assert set(gang.files) == {"task.json", TOKEN_FILE} and gang.env == {}


async def test_an_instances_own_program_has_a_token_and_no_wrapper(control: Control, engine: FakeEngine) -> None:
    guarded(control, engine, Apart("fake"))
    await control.settle(await control.create(kind=WorkloadKind.INSTANCE, command=("/bin/host",)))
    (gang,) = engine.submitted
    assert (gang.command, gang.files[TOKEN_FILE]) == (("/bin/host",), "node-token-1")
    assert gang.env["SKERRY_API_URL"] == "unix:/run/api"


async def test_without_a_wrapper_nothing_of_a_customer_runs(control: Control, engine: FakeEngine) -> None:
    workload = await control.settle(await control.create(kind=WorkloadKind.JOB, customer_code=True))
    assert (workload.status, workload.reason.code) == (WorkloadStatus.ENDED, ReasonCode.REFUSED)
