"""What is charged of a workload and what is not: nothing counted twice, nothing taken off twice, whatever ends when."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.compute.engines.base import EndCause
from skerry.compute.model import (
    Exclusion,
    ExclusionReason,
    Mount,
    MountKind,
    Outcome,
    Workload,
    WorkloadKind,
    WorkloadStatus,
)
from skerry.compute.rules.usage import Egress, beside, closed_facts, corrections, lost_with
from skerry.compute.watching import EngineWatcher
from skerry.db.database import Database
from skerry.kernel.clock import FakeClock, floor_hour
from skerry.metering.model import Meter
from tests.compute.controlling import PROJECT, Control, spec
from tests.compute.fake_engine import FakeEngine
from tests.compute.test_compute_usage import WORKLOAD, attempt

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = st.timedeltas(timedelta(0), timedelta(hours=9)).map(lambda delta: BEGIN + delta)
WINDOWS = st.tuples(MOMENTS, MOMENTS).map(sorted)
CHECKPOINTS = (Mount(MountKind.CHECKPOINTS, "trn_1", "/checkpoints"),)


# Pure


@given(start=MOMENTS, others=st.lists(WINDOWS, max_size=5), windows=st.lists(WINDOWS, min_size=1, max_size=5))
def test_stretches_that_are_taken_off_never_overlap(start: datetime, others: list, windows: list) -> None:
    known: list[Exclusion] = []
    for n, (t0, t1) in enumerate([*others, *windows]):
        known += [Exclusion(f"{n}/{m}", ExclusionReason.OUR_FAULT, *own) for m, own in enumerate(beside(t0, t1, known))]
    ordered = sorted((one.start, one.end) for one in known)
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(ordered))
    inside = [t0 <= start < t1 for t0, t1 in [*others, *windows]]
    assert any(one.start <= start < one.end for one in known) is any(inside), "and cover all that was asked for"


@given(ready=MOMENTS, length=st.timedeltas(timedelta(0), timedelta(hours=9)), windows=st.lists(WINDOWS, max_size=6))
def test_no_hour_is_charged_less_than_nothing(ready: datetime, length: timedelta, windows: list) -> None:
    known: list[Exclusion] = []
    for n, (t0, t1) in enumerate(windows):
        t0, t1 = max(t0, ready), min(t1, ready + length)
        if t0 < t1:
            pieces = beside(t0, t1, known)
            known += [Exclusion(f"{n}/{m}", ExclusionReason.OUR_FAULT, *own) for m, own in enumerate(pieces)]
    facts = closed_facts(WORKLOAD, attempt(ready_at=ready), ready + length, known)
    hours: dict[datetime, int] = {}
    for fact in facts:
        hours[floor_hour(fact.t0)] = hours.get(floor_hour(fact.t0), 0) + fact.quantity
    assert all(quantity >= 0 for quantity in hours.values())
    assert len({fact.id for fact in facts}) == len(facts)


def test_a_correction_that_comes_late_is_the_same_as_one_that_came_in_time() -> None:
    running = attempt(ready_at=BEGIN + timedelta(minutes=30))
    lost = Exclusion("lost/0", ExclusionReason.OUR_FAULT, BEGIN + timedelta(minutes=50), BEGIN + timedelta(minutes=80))
    end = BEGIN + timedelta(hours=2)
    at_once = [fact for fact in closed_facts(WORKLOAD, running, end, [lost]) if fact.quantity < 0]
    late = corrections(WORKLOAD, running, lost, BEGIN, end)
    assert at_once == late
    assert [fact.quantity for fact in late] == [-2 * 600, -2 * 1200]


@pytest.mark.parametrize(
    ("changes", "outcome", "lost"),
    [
        ({"kind": WorkloadKind.JOB}, Outcome.LOST, True),
        ({"kind": WorkloadKind.JOB}, Outcome.FAILED, False),
        ({"kind": WorkloadKind.JOB}, Outcome.PREEMPTED, False),
        ({"kind": WorkloadKind.JOB, "mounts": CHECKPOINTS}, Outcome.LOST, False),
        ({"kind": WorkloadKind.INSTANCE}, Outcome.LOST, False),
    ],
)
def test_only_what_begins_from_nothing_again_has_lost_all(changes: dict, outcome: Outcome, lost: bool) -> None:
    changed = replace(WORKLOAD, kind=changes["kind"], spec=spec(**changes))
    assert lost_with(changed, attempt(outcome=outcome)) is lost


@pytest.mark.parametrize(
    ("reports", "total"),
    [
        ([[100], [250], [300]], 300),
        ([[100], [40], [50]], 150),  # it began to count anew
        ([[100, 10], [100, 30]], 130),
        ([[None], [7], [None], [9]], 9),
        ([["much"], [-5], [True], [1 << 60], [3]], 3),
    ],
)
def test_egress_is_what_counters_have_gone_up_by(reports: Sequence[Sequence[object]], total: int) -> None:
    egress = Egress()
    for one in reports:
        said: list[Mapping | None] = [None if value is None else {"egress_bytes": value} for value in one]
        egress = egress.counted(said)
    assert egress.total == total


def test_egress_is_a_fact_of_the_hour_in_which_it_was_seen() -> None:
    sent = replace(attempt(ready_at=BEGIN, accelerators=0), egress_bytes=500, egress_metered=200)
    (fact,) = closed_facts(WORKLOAD, sent, BEGIN + timedelta(hours=2))
    assert (fact.meter, fact.quantity, fact.t0) == (Meter.EGRESS_BYTES, 300, BEGIN + timedelta(hours=1))


# With the database


@pytest.fixture
def engine(clock: FakeClock) -> FakeEngine:
    return FakeEngine(clock)


@pytest.fixture
async def control(database: Database, clock: FakeClock, engine: FakeEngine) -> Control:
    control = Control.over(database, clock, engine)
    await control.discover()
    return control


async def look(control: Control, engine: FakeEngine) -> None:
    await EngineWatcher(control.db, control.clock, engine).watch_once("fake.1", 0)


async def sums(control: Control) -> dict[str, int]:
    found: dict[str, int] = {}
    for fact in await control.facts():
        found[fact.meter] = found.get(fact.meter, 0) + fact.quantity
    return found


async def used(control: Control, workload: Workload) -> tuple[int, dict[str, tuple[int, int]]]:
    async with control.db.reading() as tx:
        found = await control.compute.used(tx, await control.compute.get(tx, PROJECT, workload.id))
    return found.accelerator_seconds, {one.reason: (one.seconds, one.accelerator_seconds) for one in found.excluded}


async def lose(control: Control, engine: FakeEngine) -> None:
    engine.end(engine.submitted[-1].attempt, Outcome.LOST, EndCause.SIGNALLED, exit_code=137, message="signal 9")
    await look(control, engine)


async def test_a_job_that_was_lost_is_not_charged_for_what_it_does_again(control: Control, engine: FakeEngine) -> None:
    workload = await control.settle(await control.create(kind=WorkloadKind.JOB, accelerators=2))
    control.clock.advance(minutes=90)
    await look(control, engine)
    await control.settle(workload)
    await lose(control, engine)
    await control.settle(workload)
    assert (await sums(control)).get("accelerator_seconds", 0) == 0
    control.clock.advance(seconds=2)
    await control.settle(workload)
    control.clock.advance(seconds=100)
    engine.end(engine.submitted[-1].attempt, Outcome.SUCCEEDED, exit_code=0)
    await look(control, engine)
    workload = await control.settle(workload)
    assert workload.status is WorkloadStatus.ENDED
    assert await sums(control) == {"accelerator_seconds": 200}
    charged, excluded = await used(control, workload)
    assert (charged, excluded["our_fault"]) == (200, (5400, 10800))
    assert excluded["queueing"] == (2, 0), "the back-off"


async def test_a_product_says_what_else_was_lost(control: Control, engine: FakeEngine) -> None:
    plain = await control.settle(await control.create(kind=WorkloadKind.JOB, accelerators=2))
    (running,) = await control.attempts(plain)
    control.clock.advance(minutes=70)
    start = control.clock.now() - timedelta(minutes=40)
    taken = []
    for key in ("gen-2", "gen-2", "gen-3"):
        async with control.db.transaction() as tx:
            end = start + timedelta(minutes=20)
            taken.append(await control.compute.exclude(tx, PROJECT, running.id, key, start, end))
    assert taken == [2400, 0, 0], "once for a key, and no moment twice"
    await look(control, engine)
    engine.end(engine.submitted[-1].attempt, Outcome.SUCCEEDED, exit_code=0)
    await look(control, engine)
    await control.settle(plain)
    assert await sums(control) == {"accelerator_seconds": 2 * 70 * 60 - 2400}
    (event,) = [one for one in await control.timeline(plain) if one.type == "workload.not_charged"]
    assert event.data["accelerator_seconds"] == 2400


async def test_an_instance_that_was_lost_is_charged_until_then(control: Control, engine: FakeEngine) -> None:
    workload = await control.settle(await control.create(kind=WorkloadKind.INSTANCE, accelerators=1))
    (running,) = await control.attempts(workload)
    control.clock.advance(seconds=30)
    async with control.db.transaction() as tx:
        await control.compute.mark_ready(tx, PROJECT, running.id)
    control.clock.advance(seconds=60)
    await look(control, engine)
    await control.settle(workload)
    await lose(control, engine)
    await control.settle(workload)
    assert await sums(control) == {"accelerator_seconds": 60}
    charged, excluded = await used(control, workload)
    assert (charged, excluded["start_up"]) == (60, (30, 30))


async def test_egress_of_all_ranks_is_metered_once(control: Control, engine: FakeEngine) -> None:
    workload = await control.settle(await control.create(kind=WorkloadKind.JOB, accelerators=2, tasks=2))
    id = engine.submitted[0].attempt
    for first, second in ((100, 10), (300, 10), (50, 20)):
        engine.report(id, {"egress_bytes": first})
        engine.report(id, {"egress_bytes": second}, rank=1)
        await look(control, engine)
        await control.settle(workload)
        control.clock.advance(minutes=40)
    await look(control, engine)
    await control.settle(workload)
    engine.end(id, Outcome.SUCCEEDED, exit_code=0)
    await look(control, engine)
    await control.settle(workload)
    facts = [fact for fact in await control.facts() if fact.meter == "egress_bytes"]
    assert sum(fact.quantity for fact in facts) == 300 + 50 + 20
    assert len({(fact.id, fact.t1) for fact in facts}) == len(facts)
