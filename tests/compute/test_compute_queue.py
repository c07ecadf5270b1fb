"""Whose turn it is: priorities, who has waited longest, who stands back, and what is known of the start."""

from datetime import timedelta

import pytest

from skerry.compute.errors import InvalidWorkload
from skerry.compute.model import Outcome, ReasonCode, Workload, WorkloadKind, WorkloadStatus
from skerry.compute.watching import EngineWatcher
from skerry.db.database import Database
from skerry.fleet.model import Machine
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import ProjectId
from tests.compute.controlling import Control, spec
from tests.compute.fake_engine import FakeEngine

CORES = Machine("here", 4, 1 << 34)
JOB = {"kind": WorkloadKind.JOB}


@pytest.fixture
def engine(clock: FakeClock) -> FakeEngine:
    return FakeEngine(clock, shared=True, nodes=2)


@pytest.fixture
async def control(database: Database, clock: FakeClock, engine: FakeEngine) -> Control:
    control = Control.over(database, clock, engine)
    await control.discover(CORES, nodes=2)
    return control


async def full(control: Control, **changes: object) -> list[Workload]:
    """Both nodes are taken."""
    found = [await control.create(**JOB, accelerators=4, **changes) for _ in range(2)]
    return [await control.settle(one) for one in found]


async def end_first(control: Control, engine: FakeEngine) -> None:
    engine.end(engine.submitted[0].attempt, Outcome.SUCCEEDED, exit_code=0)
    await EngineWatcher(control.db, control.clock, engine).watch_once("fake.1", 0)
    for _ in range(20):
        if not await control.step():
            control.clock.advance(seconds=1)


async def statuses(control: Control, *workloads: Workload) -> list[WorkloadStatus]:
    return [(await control.get(one)).status for one in workloads]


async def other_project(control: Control, **changes: object) -> Workload:
    async with control.db.transaction() as tx:
        return await control.compute.create_workload(tx, ProjectId("proj_other"), spec(**JOB, **changes))


async def test_of_one_project_the_higher_priority_goes_first(control: Control, engine: FakeEngine) -> None:
    await full(control)
    low = await control.settle(await control.create(**JOB, accelerators=4))
    high = await control.settle(await control.create(**JOB, accelerators=4, priority=1))
    await end_first(control, engine)
    assert await statuses(control, low, high) == [WorkloadStatus.PENDING, WorkloadStatus.RUNNING]


async def test_who_has_waited_long_enough_goes_before_a_higher_priority(control: Control, engine: FakeEngine) -> None:
    await full(control)
    low = await control.settle(await control.create(**JOB, accelerators=4))
    control.clock.advance(minutes=21)
    high = await control.settle(await control.create(**JOB, accelerators=4, priority=2))
    await end_first(control, engine)
    assert await statuses(control, low, high) == [WorkloadStatus.RUNNING, WorkloadStatus.PENDING]


async def test_a_priority_says_nothing_to_other_projects(control: Control, engine: FakeEngine) -> None:
    await full(control)
    first = await control.settle(await control.create(**JOB, accelerators=4))
    control.clock.advance(seconds=1)
    second = await other_project(control, accelerators=4, priority=100)
    await control.settle(first)
    control.clock.advance(seconds=1)
    await end_first(control, engine)
    assert (await control.get(first)).status is WorkloadStatus.RUNNING
    async with control.db.reading() as tx:
        there = await control.compute.get(tx, ProjectId("proj_other"), second.id)
    assert there.status is WorkloadStatus.PENDING


async def test_what_fits_goes_past_what_does_not(control: Control, engine: FakeEngine) -> None:
    await control.settle(await control.create(**JOB, accelerators=4))
    gang = await control.settle(await control.create(**JOB, nodes=2, tasks=2, accelerators=8, priority=5))
    small = await control.settle(await control.create(**JOB, accelerators=1))
    assert await statuses(control, gang, small) == [WorkloadStatus.PENDING, WorkloadStatus.RUNNING]


async def test_a_gang_that_waits_and_knows_its_start_is_gone_past_by_what_is_over_by_then(
    control: Control, engine: FakeEngine
) -> None:
    await control.settle(await control.create(**JOB, accelerators=4, max_duration_seconds=3600))
    gang = await control.create(**JOB, nodes=2, tasks=2, accelerators=8, max_duration_seconds=600)
    gang = await control.settle(gang)
    assert gang.estimated_start == control.clock.now() + timedelta(hours=1)
    control.clock.advance(minutes=11)
    long = await control.settle(await control.create(**JOB, accelerators=1, max_duration_seconds=7200))
    brief = await control.settle(await control.create(**JOB, accelerators=1, max_duration_seconds=600))
    assert long.reason.code == ReasonCode.BEHIND_OTHERS
    assert "2026-01-01T01:00:00Z" in long.reason.message
    assert await statuses(control, gang, long, brief) == [
        WorkloadStatus.PENDING,
        WorkloadStatus.PENDING,
        WorkloadStatus.RUNNING,
    ]


async def test_the_estimate_goes_when_it_starts(control: Control, engine: FakeEngine) -> None:
    await full(control, max_duration_seconds=3600)
    waiting = await control.settle(await control.create(**JOB, accelerators=4, max_duration_seconds=60))
    assert waiting.estimated_start is not None
    await end_first(control, engine)
    waiting = await control.get(waiting)
    assert (waiting.status, waiting.estimated_start) == (WorkloadStatus.RUNNING, None)


async def test_many_that_wait_are_looked_at_seldom(control: Control, engine: FakeEngine) -> None:
    await full(control)
    for _ in range(12):
        await control.create(**JOB, accelerators=4)
    while await control.step():
        pass
    await EngineWatcher(control.db, control.clock, engine).watch_once("fake.1", 0)
    engine.end(engine.submitted[0].attempt, Outcome.SUCCEEDED, exit_code=0)
    await EngineWatcher(control.db, control.clock, engine).watch_once("fake.1", 0)
    claimed = await control.reconciler.claim(100)
    for row in claimed:
        await control.reconciler.apply(row, await control.reconciler.step(row))
    assert len(await control.reconciler.claim(100)) <= 9, "a part of them, and not all"


async def test_spot_work_does_not_take_again_what_it_has_left(control: Control, engine: FakeEngine) -> None:
    """Covered whole in `test_compute_capacity`; here, that it says so."""
    await control.settle(await control.create(**JOB, accelerators=4, nodes=1))
    spot = await control.settle(await control.create(**JOB, accelerators=4, capacity_class=CapacityClass.SPOT))
    wanted = await control.settle(await control.create(**JOB, accelerators=4))
    assert wanted.reason.code == ReasonCode.RECLAIMING
    again = await control.settle(await control.create(**JOB, accelerators=1, capacity_class=CapacityClass.SPOT))
    assert (again.reason.code, spot.status) == (ReasonCode.BEHIND_OTHERS, WorkloadStatus.RUNNING)


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"accelerators": 16}, "accelerators", "no node has 16 accelerators; the largest has 4"),
        ({"nodes": 3, "tasks": 3, "accelerators": 3}, "nodes", "3 nodes are too many: there are 2"),
        ({"nodes": 4, "tasks": 4, "accelerators": 0, "scope": "leaf", "scope_required": True}, "nodes", "leaf has 2"),
        ({"sku": "b200.8x"}, "sku", "no node has SKU 'b200.8x'; there are: local"),
        ({"site": "mars"}, "site", "there is no site 'mars'; there are: local"),
    ],
)
async def test_what_can_never_be_placed_is_refused_with_what_could(
    control: Control, changes: dict, path: str, words: str
) -> None:
    with pytest.raises(InvalidWorkload) as caught:
        await control.create(**JOB, **changes)
    (error,) = caught.value.errors
    assert error.path == path and words in error.message
