"""Gangs over several nodes: placed whole, near to each other, with a part of everything on each node."""

import pytest

from skerry.capacity.claims.tables import capacity_claims
from skerry.compute.engines.base import Placement
from skerry.compute.model import Outcome, ReasonCode, WorkloadKind, WorkloadStatus
from skerry.compute.watching import EngineWatcher
from skerry.db.database import Database
from skerry.fleet.model import Machine
from skerry.kernel.clock import FakeClock
from tests.compute.controlling import Control
from tests.compute.fake_engine import FakeEngine

CORES = Machine("here", 4, 1 << 34)


@pytest.fixture
def engine(clock: FakeClock) -> FakeEngine:
    return FakeEngine(clock, shared=True, nodes=4)


@pytest.fixture
async def control(database: Database, clock: FakeClock, engine: FakeEngine) -> Control:
    control = Control.over(database, clock, engine)
    await control.discover(CORES, nodes=4)
    return control


async def look(control: Control, engine: FakeEngine) -> None:
    await EngineWatcher(control.db, control.clock, engine).watch_once("fake.1", 0)


async def claims(control: Control) -> list:
    async with control.db.reading() as tx:
        rows = await tx.execute(capacity_claims.select().order_by(capacity_claims.c.node))
        return [row for row in rows if not row.void and row.released_at is None]


async def test_a_gang_has_a_placement_on_each_of_its_nodes(control: Control, engine: FakeEngine) -> None:
    workload = await control.create(kind=WorkloadKind.JOB, nodes=3, tasks=6, accelerators=6)
    workload = await control.settle(workload)
    assert workload.status is WorkloadStatus.RUNNING
    (gang,) = engine.submitted
    assert gang.placements == tuple(Placement(f"local-{n}", 2) for n in (1, 2, 3))
    (attempt,) = await control.attempts(workload)
    assert (attempt.nodes, attempt.accelerators) == (("local-1", "local-2", "local-3"), 6)
    held = await claims(control)
    assert len({one.node for one in held}) == 3
    assert {(one.accelerators.lower, one.accelerators.upper) for one in held} == {(0, 2)}


async def test_each_nodes_part_counts_on_that_node(control: Control, engine: FakeEngine) -> None:
    await control.settle(await control.create(kind=WorkloadKind.JOB, nodes=4, tasks=4, accelerators=12))
    beside = await control.settle(await control.create(kind=WorkloadKind.JOB, accelerators=1))
    assert beside.status is WorkloadStatus.RUNNING
    too_much = await control.settle(await control.create(kind=WorkloadKind.JOB, accelerators=2))
    assert too_much.reason.code == ReasonCode.NO_NODE


async def test_a_gang_is_placed_whole_or_not_at_all(control: Control, engine: FakeEngine) -> None:
    first = await control.settle(await control.create(kind=WorkloadKind.JOB, accelerators=3))
    gang = await control.settle(await control.create(kind=WorkloadKind.JOB, nodes=4, tasks=4, accelerators=8))
    assert (gang.status, gang.reason.code) == (WorkloadStatus.PENDING, ReasonCode.NO_NODE)
    assert len(await claims(control)) == 1
    engine.end(engine.submitted[0].attempt, Outcome.SUCCEEDED, exit_code=0)
    await look(control, engine)
    await control.settle(first)
    assert (await control.get(gang)).status is WorkloadStatus.RUNNING


async def test_a_gang_that_waits_hears_of_nodes_that_are_full_beside_one_that_is_drained(
    control: Control, engine: FakeEngine
) -> None:
    for _ in range(2):
        await control.settle(await control.create(kind=WorkloadKind.JOB, accelerators=4))
    await engine.drain("local-1", "a fan is loud")
    gang = await control.settle(await control.create(kind=WorkloadKind.JOB, nodes=4, tasks=4, accelerators=4))
    assert "2 of 4 nodes are there; local-1: it is drained (a fan is loud)" in gang.reason.message
    assert "local-2: 0 of its 4 accelerators are free" in gang.reason.message


async def test_nodes_without_accelerators_are_placed_too(control: Control, engine: FakeEngine) -> None:
    workload = await control.settle(await control.create(kind=WorkloadKind.JOB, nodes=2, tasks=2, accelerators=0))
    assert workload.status is WorkloadStatus.RUNNING
    assert [one.node for one in engine.submitted[0].placements] == ["local-1", "local-2"]
    assert await claims(control) == []


async def test_the_reports_of_all_ranks_are_kept(control: Control, engine: FakeEngine) -> None:
    workload = await control.settle(await control.create(kind=WorkloadKind.JOB, nodes=2, tasks=2, accelerators=2))
    attempt = engine.submitted[0].attempt
    engine.report(attempt, {"address": "b"}, rank=1)
    await look(control, engine)
    await control.settle(workload)
    (kept,) = await control.attempts(workload)
    assert (kept.report, kept.reports) == (None, (None, {"address": "b"}))
    engine.report(attempt, {"address": "a"})
    await look(control, engine)
    await control.settle(workload)
    (kept,) = await control.attempts(workload)
    assert (kept.report, kept.reports) == ({"address": "a"}, ({"address": "a"}, {"address": "b"}))


async def test_all_nodes_are_given_back(control: Control, engine: FakeEngine) -> None:
    workload = await control.settle(await control.create(kind=WorkloadKind.JOB, nodes=4, tasks=4, accelerators=16))
    assert len(await claims(control)) == 4
    engine.end(engine.submitted[0].attempt, Outcome.SUCCEEDED, exit_code=0)
    await look(control, engine)
    assert (await control.settle(workload)).status is WorkloadStatus.ENDED
    assert await claims(control) == []
