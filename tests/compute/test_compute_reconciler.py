"""The reconciler against an engine in memory and a clock that is moved by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from skerry.compute.engines.base import BadGang, EndCause, NodeNotReady
from skerry.compute.errors import NotEnded, UnknownWorkload
from skerry.compute.model import Desired, Outcome, ReasonCode, StopReason, Workload, WorkloadKind, WorkloadStatus
from skerry.compute.watching import EngineWatcher, Sweeper
from skerry.db.database import Database
from skerry.fleet.model import Machine
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import AttemptId, ProjectId, new_id
from tests.compute.controlling import PROJECT, Control
from tests.compute.fake_engine import FakeEngine


@pytest.fixture
def engine(clock: FakeClock) -> FakeEngine:
    return FakeEngine(clock)


@pytest.fixture
async def control(database: Database, clock: FakeClock, engine: FakeEngine) -> Control:
    control = Control.over(database, clock, engine)
    await control.discover()
    return control


async def stop(control: Control, workload: Workload, reason: StopReason = StopReason.BY_OWNER) -> Workload:
    async with control.db.transaction() as tx:
        return await control.compute.stop_workload(tx, PROJECT, workload.id, reason)


async def start(control: Control, workload: Workload) -> Workload:
    async with control.db.transaction() as tx:
        return await control.compute.start_workload(tx, PROJECT, workload.id)


async def ready(control: Control, workload: Workload) -> bool:
    current = await control.get(workload)
    assert current.attempt is not None
    async with control.db.transaction() as tx:
        return await control.compute.mark_ready(tx, PROJECT, current.attempt.id)


async def running(control: Control, engine: FakeEngine, **changes: object) -> Workload:
    """A service that has started, reported, and been found ready."""
    workload = await control.settle(await control.create(**changes))
    assert workload.attempt is not None
    engine.report(workload.attempt.id, {"address": "http://127.0.0.1:1"})
    await EngineWatcher(control.db, control.clock, engine).watch_once("fake.1", 0)
    workload = await control.settle(workload)
    assert workload.status is WorkloadStatus.RUNNING
    await ready(control, workload)
    return await control.get(workload)


# Up and down


async def test_a_service_runs_once_it_has_reported(control: Control, engine: FakeEngine) -> None:
    workload = await control.settle(await control.create(files={"key": "s3cret"}, env={"A": "b"}))
    assert (workload.status, workload.reason.code) == (WorkloadStatus.STARTING, ReasonCode.WAITING_FOR_REPORT)
    (gang,) = engine.submitted
    assert (gang.files, gang.env) == ({"key": "s3cret"}, {"A": "b"})
    assert (gang.placements[0].node, gang.placements[0].devices) == ("local-1", (0, 1))

    engine.report(gang.attempt, {"address": "http://127.0.0.1:1"})
    await EngineWatcher(control.db, control.clock, engine).watch_once("fake.1", 0)
    workload = await control.settle(workload)
    assert workload.status is WorkloadStatus.RUNNING
    assert workload.attempt is not None and workload.attempt.report == {"address": "http://127.0.0.1:1"}
    assert workload.attempt.ready_at is None, "that it works is the product's to say"
    assert await ready(control, workload)
    assert not await ready(control, workload)


async def test_every_change_leaves_an_event_with_a_reason(control: Control, engine: FakeEngine) -> None:
    workload = await running(control, engine)
    await stop(control, workload)
    await control.settle(workload)
    engine.end(engine.submitted[0].attempt, Outcome.CANCELLED, EndCause.CANCELLED)
    await EngineWatcher(control.db, control.clock, engine).watch_once("fake.1", 0)
    await control.settle(workload)
    timeline = await control.timeline(workload)
    assert [event.type for event in timeline] == [
        "workload.created",
        "workload.starting",
        "workload.reason",
        "workload.running",
        "workload.ready",
        "workload.stop_requested",
        "workload.stopping",
        "workload.ended",
    ]
    assert all(event.data["reason"]["message"] for event in timeline if "after" in event.data)


async def test_a_job_ends_by_itself(control: Control, engine: FakeEngine, clock: FakeClock) -> None:
    workload = await control.settle(await control.create(kind=WorkloadKind.JOB))
    assert workload.status is WorkloadStatus.RUNNING
    clock.advance(seconds=90)
    engine.end(engine.submitted[0].attempt, Outcome.SUCCEEDED, exit_code=0)
    workload = await control.settle(workload)
    assert (workload.status, workload.outcome) == (WorkloadStatus.ENDED, Outcome.SUCCEEDED)
    (attempt,) = await control.attempts(workload)
    assert (attempt.outcome, attempt.exit_code, attempt.nodes) == (Outcome.SUCCEEDED, 0, ("local-1",))
    assert [fact.quantity for fact in await control.facts()] == [2 * 90]
    assert engine.forgotten == [attempt.id]


async def test_stop_tells_the_engine_and_waits_for_the_end(control: Control, engine: FakeEngine) -> None:
    workload = await running(control, engine)
    attempt = engine.submitted[0].attempt
    stopped = await stop(control, workload, StopReason.BUDGET)
    assert stopped.desired is Desired.STOP
    workload = await control.settle(workload)
    assert workload.status is WorkloadStatus.STOPPING
    assert engine.cancelled == [attempt]
    engine.end(attempt, Outcome.CANCELLED, EndCause.CANCELLED)
    await EngineWatcher(control.db, control.clock, engine).watch_once("fake.1", 0)
    workload = await control.settle(workload)
    assert (workload.status, workload.outcome) == (WorkloadStatus.ENDED, Outcome.BUDGET_STOPPED)
    assert workload.reason.code == ReasonCode.STOPPED


async def test_a_stop_before_anything_was_started_ends_at_once(control: Control, engine: FakeEngine) -> None:
    workload = await control.create()
    await stop(control, workload)
    workload = await control.settle(workload)
    assert (workload.status, workload.outcome, workload.attempts) == (WorkloadStatus.ENDED, Outcome.CANCELLED, 0)
    assert engine.submitted == []


async def test_a_wish_that_comes_during_a_look_is_not_overlooked(control: Control, engine: FakeEngine) -> None:
    workload = await control.create()
    await control.step()  # placed
    (row,) = await control.reconciler.claim(10)
    finding = await control.reconciler.step(row)  # submitted
    await stop(control, workload)
    assert await control.reconciler.apply(row, finding)
    assert (await control.get(workload)).status is WorkloadStatus.STARTING, "the engine has not been told yet"
    workload = await control.settle(workload)
    assert workload.status is WorkloadStatus.STOPPING
    assert engine.cancelled == [engine.submitted[0].attempt]


async def test_what_has_ended_can_be_started_again(control: Control, engine: FakeEngine) -> None:
    workload = await control.settle(await control.create(kind=WorkloadKind.JOB, max_restarts=0))
    with pytest.raises(NotEnded):
        await start(control, workload)
    engine.end(engine.submitted[0].attempt)
    control.clock.advance(seconds=31)
    workload = await control.settle(workload)
    assert (workload.status, workload.reason.code) == (WorkloadStatus.ENDED, ReasonCode.FAILED)
    again = await start(control, workload)
    assert (again.status, again.desired, again.outcome) == (WorkloadStatus.PENDING, Desired.RUN, None)
    workload = await control.settle(workload)
    assert (workload.status, workload.attempts) == (WorkloadStatus.RUNNING, 2)


async def test_another_projects_workload_is_not_there(control: Control) -> None:
    workload = await control.create()
    async with control.db.transaction() as tx:
        with pytest.raises(UnknownWorkload):
            await control.compute.get(tx, ProjectId("proj_other"), workload.id)
        with pytest.raises(UnknownWorkload):
            await control.compute.stop_workload(tx, ProjectId("proj_other"), workload.id, StopReason.BY_OWNER)


# Places


async def test_nothing_free_is_pending_with_a_reason_until_something_ends(control: Control, engine: FakeEngine) -> None:
    first = await running(control, engine, accelerators=3)
    second = await control.settle(await control.create(accelerators=2))
    assert (second.status, second.reason.code) == (WorkloadStatus.PENDING, ReasonCode.NO_NODE)
    assert "local-1: 1 of its 4 accelerators are free, 2 are wanted" in second.reason.message
    engine.end(engine.submitted[0].attempt)
    await EngineWatcher(control.db, control.clock, engine).watch_once("fake.1", 0)
    second = await control.settle(second)
    assert second.status is WorkloadStatus.STARTING
    assert (await control.get(first)).reason.code == ReasonCode.BACKING_OFF


async def test_no_accelerator_is_held_twice(control: Control, engine: FakeEngine) -> None:
    workloads = [await control.create(accelerators=1) for _ in range(6)]
    await control.settle(workloads[0])
    devices = [gang.placements[0].devices for gang in engine.submitted]
    assert sorted(devices) == [(0,), (1,), (2,), (3,)]


async def test_a_drained_or_unknown_node_takes_nothing(control: Control, engine: FakeEngine) -> None:
    await engine.drain("local-1", "a fan is loud")
    workload = await control.settle(await control.create())
    assert "a fan is loud" in workload.reason.message
    engine.node = replace(engine.node, name="elsewhere")
    control.clock.advance(seconds=11)
    workload = await control.settle(workload)
    assert "elsewhere: the fleet does not know this node" in workload.reason.message


async def test_a_smaller_machine_is_respected(database: Database, clock: FakeClock) -> None:
    engine = FakeEngine(clock, accelerators=2, shared=True)
    control = Control.over(database, clock, engine)
    await control.discover(Machine("here", 2, 1 << 33))
    await control.settle(await control.create(accelerators=2))
    none = await control.settle(await control.create(accelerators=0))
    more = await control.settle(await control.create(accelerators=1))
    assert (none.status, more.status) == (WorkloadStatus.STARTING, WorkloadStatus.PENDING)
    assert engine.submitted[0].placements[0].devices == ()


# Failures


async def test_a_crash_loop_backs_off_and_shows_its_last_words(
    control: Control, engine: FakeEngine, clock: FakeClock
) -> None:
    engine.log = b"loading\nTraceback: the weights are not there\n"
    workload = await control.settle(await control.create())
    waits = []
    for n in range(1, 5):
        engine.end(engine.submitted[-1].attempt)
        await EngineWatcher(control.db, clock, engine).watch_once("fake.1", 0)
        workload = await control.settle(workload)
        assert (workload.status, workload.reason.code) == (WorkloadStatus.PENDING, ReasonCode.BACKING_OFF)
        assert "the weights are not there" in workload.reason.message
        assert (workload.attempts, workload.restarts) == (n, n)
        waits.append((workload.due_at - clock.now()).total_seconds())
        clock.at = workload.due_at
        workload = await control.settle(workload)
        assert workload.attempts == n + 1
    assert all(0.8 * 2**n <= wait <= 1.2 * 2**n for n, wait in enumerate(waits)), waits


async def test_a_stable_attempt_resets_the_back_off(control: Control, engine: FakeEngine, clock: FakeClock) -> None:
    workload = await running(control, engine)
    clock.advance(minutes=10)
    engine.end(engine.submitted[-1].attempt)
    workload = await control.settle(workload)
    assert workload.failures == 1


async def test_restarts_run_out_with_the_reason(control: Control, engine: FakeEngine, clock: FakeClock) -> None:
    workload = await control.settle(await control.create(max_restarts=1))
    for _ in range(2):
        engine.end(engine.submitted[-1].attempt, Outcome.OUT_OF_MEMORY, message="killed at its memory limit")
        clock.advance(seconds=31)
        await control.settle(workload)
        clock.advance(seconds=31)
        workload = await control.settle(workload)
    assert (workload.status, workload.outcome) == (WorkloadStatus.ENDED, Outcome.OUT_OF_MEMORY)
    assert workload.reason.code == ReasonCode.NO_RESTARTS_LEFT
    assert "killed at its memory limit" in workload.reason.message
    assert [attempt.outcome for attempt in await control.attempts(workload)] == [Outcome.OUT_OF_MEMORY] * 2


async def test_a_gang_the_engine_will_never_take_fails(control: Control, engine: FakeEngine) -> None:
    engine.refusal = BadGang("it has no head")
    workload = await control.settle(await control.create())
    assert (workload.status, workload.reason.code) == (WorkloadStatus.ENDED, ReasonCode.REFUSED)
    assert "it has no head" in workload.reason.message


async def test_a_node_that_closes_in_between_is_tried_again_later(
    control: Control, engine: FakeEngine, clock: FakeClock
) -> None:
    engine.refusal = NodeNotReady("drained a moment ago")
    workload = await control.settle(await control.create(max_restarts=0))
    assert (workload.status, workload.reason.code) == (WorkloadStatus.PENDING, ReasonCode.NO_NODE)
    engine.refusal = None
    clock.advance(seconds=3)
    workload = await control.settle(workload)
    assert (workload.status, workload.attempts, workload.restarts) == (WorkloadStatus.STARTING, 2, 0)


async def test_an_engine_that_is_away_changes_nothing(control: Control, engine: FakeEngine, clock: FakeClock) -> None:
    engine.away = True
    waiting = await control.settle(await control.create())
    assert (waiting.status, waiting.reason.code) == (WorkloadStatus.PENDING, ReasonCode.ENGINE_UNAVAILABLE)
    engine.away = False
    up = await running(control, engine, accelerators=1)
    engine.away = True
    clock.advance(minutes=5)
    await control.settle(up)
    up = await control.get(up)
    assert (up.status, up.reason.code) == (WorkloadStatus.RUNNING, ReasonCode.ENGINE_UNAVAILABLE)
    engine.away = False
    clock.advance(seconds=3)
    await control.settle(up)
    up = await control.get(up)
    assert (up.status, up.reason.code, up.attempts) == (WorkloadStatus.RUNNING, ReasonCode.UP, 1)


async def test_an_attempt_the_engine_forgot_is_lost_and_replaced(
    control: Control, engine: FakeEngine, clock: FakeClock
) -> None:
    workload = await running(control, engine)
    engine.gangs.clear()
    clock.advance(seconds=31)
    workload = await control.settle(workload)
    assert workload.status is WorkloadStatus.PENDING
    clock.advance(seconds=5)
    await control.settle(workload)
    first, second = await control.attempts(workload)
    assert (first.outcome, second.outcome) == (Outcome.LOST, None)
    assert first.ended_at == first.seen_at, "no later than it was last seen, in the customer's favour"


# Controllers die


async def test_a_controller_that_dies_after_the_submit_does_not_start_it_twice(
    control: Control, engine: FakeEngine, clock: FakeClock
) -> None:
    workload = await control.create()
    await control.step()
    (row,) = await control.reconciler.claim(10)
    await control.reconciler.step(row)  # submitted, and then it dies
    other = Control.over(control.db, clock, engine)
    assert await other.reconciler.claim(10) == [], "the lease still stands"
    clock.advance(seconds=61)
    workload = await other.settle(workload)
    assert workload.status is WorkloadStatus.STARTING
    assert len(engine.submitted) == 1
    assert len(await other.attempts(workload)) == 1


async def test_a_controller_that_lost_its_lease_writes_nothing(
    control: Control, engine: FakeEngine, clock: FakeClock
) -> None:
    workload = await control.create()
    (row,) = await control.reconciler.claim(10)
    finding = await control.reconciler.step(row)
    clock.advance(seconds=61)
    other = Control.over(control.db, clock, engine)
    await other.settle(workload)
    assert not await control.reconciler.apply(row, finding)
    assert len(await control.attempts(workload)) == 1


async def test_a_failed_step_is_tried_again(control: Control, clock: FakeClock) -> None:
    await control.create()
    (row,) = await control.reconciler.claim(10)
    await control.reconciler.failed(row, RuntimeError("oops"))
    assert await control.reconciler.claim(10) == []
    clock.advance(seconds=6)
    assert len(await control.reconciler.claim(10)) == 1


# The sweep and the watcher


async def test_the_sweep_ends_what_no_row_stands_for(control: Control, engine: FakeEngine) -> None:
    workload = await running(control, engine)
    assert workload.attempt is not None
    stray = replace(engine.submitted[0], attempt=AttemptId(new_id("att")))
    await engine.submit(stray)
    sweeper = Sweeper(control.db, engine)
    await sweeper.sweep_once()
    assert engine.cancelled == [stray.attempt]
    engine.end(stray.attempt, Outcome.CANCELLED)
    await sweeper.sweep_once()
    assert await engine.known() == [workload.attempt.id]


async def test_events_bring_a_look_at_once(control: Control, engine: FakeEngine) -> None:
    workload = await running(control, engine)
    assert not await control.reconciler.claim(10), "nothing is due"
    engine.end(engine.submitted[0].attempt)
    watcher = EngineWatcher(control.db, control.clock, engine)
    await watcher.watch_once("fake.1", 0)
    assert (await control.settle(workload)).status is WorkloadStatus.PENDING
    await watcher.watch_once("", 0)
    assert (await control.get(workload)).due_at <= control.clock.now(), "whoever may have missed something looks at all"


# Metering


async def test_hours_are_metered_once_each_while_it_runs(
    control: Control, engine: FakeEngine, clock: FakeClock
) -> None:
    clock.at = datetime(2026, 1, 1, 9, 59, 0, tzinfo=UTC)
    workload = await running(control, engine)
    clock.at = datetime(2026, 1, 1, 10, 0, 0, tzinfo=UTC)
    for _ in range(3):
        clock.advance(seconds=40)
        await control.settle(workload)
    assert [(fact.t0, fact.t1, fact.quantity) for fact in await control.facts()] == [
        (datetime(2026, 1, 1, 9, 59, tzinfo=UTC), datetime(2026, 1, 1, 10, tzinfo=UTC), 2 * 60)
    ]
    clock.advance(hours=2)
    await control.settle(workload)
    assert [fact.quantity for fact in await control.facts()] == [120, 7200, 7200]
    engine.end(engine.submitted[0].attempt)
    clock.advance(minutes=1)
    await control.settle(workload)
    facts = await control.facts()
    (attempt, *_) = await control.attempts(workload)
    assert attempt.ready_at is not None and attempt.ended_at is not None
    assert sum(fact.quantity for fact in facts) == 2 * ((attempt.ended_at - attempt.ready_at) // timedelta(seconds=1))
    assert attempt.metered_through == attempt.ended_at
    assert {fact.project for fact in facts} == {PROJECT} and {fact.resource for fact in facts} == {"ep_test"}


async def test_start_up_is_not_metered(control: Control, engine: FakeEngine, clock: FakeClock) -> None:
    workload = await control.settle(await control.create())
    clock.advance(minutes=30)
    engine.end(engine.submitted[0].attempt)
    await control.settle(workload)
    assert await control.facts() == []


async def test_a_restart_is_metered_as_an_attempt_of_its_own(
    control: Control, engine: FakeEngine, clock: FakeClock
) -> None:
    workload = await running(control, engine)
    clock.advance(seconds=100)
    engine.end(engine.submitted[0].attempt)
    await control.settle(workload)
    clock.advance(seconds=50)
    workload = await control.settle(workload)
    engine.report(engine.submitted[1].attempt, {"address": "x"})
    clock.advance(seconds=5)
    await control.settle(workload)
    await ready(control, workload)
    clock.advance(seconds=10)
    await stop(control, workload)
    await control.settle(workload)
    engine.end(engine.submitted[1].attempt, Outcome.CANCELLED)
    clock.advance(seconds=1)
    await control.settle(workload)
    assert [fact.quantity for fact in await control.facts()] == [200, 20]
