"""Workloads in capacity's ledger: what they hold, when they give it back, and how they leave when they are asked to."""

import random

import pytest
from sqlalchemy import delete

from skerry.capacity.claims.tables import capacity_claims
from skerry.compute.advance import Advance
from skerry.compute.changes import Changes
from skerry.compute.engines.base import EndCause
from skerry.compute.errors import InvalidWorkload
from skerry.compute.model import Outcome, ReasonCode, WorkloadKind, WorkloadStatus
from skerry.compute.reconciler import WorkloadReconciler
from skerry.compute.watching import EngineWatcher, Evictions
from skerry.db.database import Database
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import FakeClock
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog
from skerry.runtime.outbox import Outbox
from skerry.runtime.secrets import Keyring
from tests.compute.controlling import Control
from tests.compute.fake_engine import FakeEngine


@pytest.fixture
def engine(clock: FakeClock) -> FakeEngine:
    return FakeEngine(clock)


@pytest.fixture
async def control(database: Database, clock: FakeClock, engine: FakeEngine) -> Control:
    control = Control.over(database, clock, engine)
    await control.discover()
    return control


async def held(control: Control) -> list:
    async with control.db.reading() as tx:
        rows = await tx.execute(capacity_claims.select().order_by(capacity_claims.c.id))
        return [row for row in rows if not row.void and row.released_at is None]


async def look(control: Control, engine: FakeEngine) -> None:
    await EngineWatcher(control.db, control.clock, engine).watch_once("fake.1", 0)


async def evict(control: Control) -> int:
    advance = Advance(
        control.clock,
        Changes(control.events, Outbox(control.clock)),
        control.fleet,
        Metering(control.db, control.clock),
        random.Random(7),
    )
    return await Evictions(control.db, control.clock, control.compute, advance.admission).look_once()


async def test_what_an_attempt_holds_is_a_claim_until_it_ends(control: Control, engine: FakeEngine) -> None:
    workload = await control.settle(await control.create(kind=WorkloadKind.JOB, accelerators=2))
    (claim,) = await held(control)
    assert (claim.holder, claim.accelerators.lower, claim.accelerators.upper) == (workload.id, 0, 2)
    assert engine.submitted[0].placements[0].devices == (0, 1)
    control.clock.advance(seconds=5)
    engine.end(engine.submitted[0].attempt, Outcome.SUCCEEDED, exit_code=0)
    await look(control, engine)
    assert (await control.settle(workload)).status is WorkloadStatus.ENDED
    assert await held(control) == []


async def test_what_wants_no_accelerators_claims_nothing(control: Control) -> None:
    workload = await control.settle(await control.create(accelerators=0))
    assert workload.status is WorkloadStatus.STARTING
    assert await held(control) == []


async def test_an_attempt_from_before_there_were_claims_keeps_its_accelerators(
    control: Control, engine: FakeEngine
) -> None:
    await control.settle(await control.create(accelerators=3))
    async with control.db.transaction() as tx:
        await tx.execute(delete(capacity_claims))
    second = await control.settle(await control.create(accelerators=1))
    assert second.status is WorkloadStatus.STARTING
    assert engine.submitted[1].placements[0].devices == (3,)
    third = await control.settle(await control.create(accelerators=1))
    assert third.reason.code == ReasonCode.NO_NODE


async def test_spot_work_makes_room_within_its_notice_and_comes_back(control: Control, engine: FakeEngine) -> None:
    spot = await control.settle(await control.create(accelerators=4, capacity_class=CapacityClass.SPOT))
    assert spot.status is WorkloadStatus.STARTING
    wanted = await control.settle(await control.create(accelerators=2))
    assert (wanted.status, wanted.reason.code) == (WorkloadStatus.PENDING, ReasonCode.RECLAIMING)
    assert "2026-01-01T00:01:00Z" in wanted.reason.message
    assert await evict(control) == 1
    await control.settle(spot)
    attempt = engine.submitted[0].attempt
    assert engine.cancelled == [attempt]
    control.clock.advance(seconds=20)
    engine.end(attempt, Outcome.CANCELLED, EndCause.CANCELLED, exit_code=None, message="told to")
    await look(control, engine)
    wanted = await control.settle(wanted)
    assert wanted.status is WorkloadStatus.STARTING
    spot = await control.get(spot)
    assert (spot.status, spot.restarts) == (WorkloadStatus.PENDING, 0)
    assert [one.outcome for one in await control.attempts(spot)] == [Outcome.PREEMPTED]
    assert await evict(control) == 0


async def test_a_workload_whose_time_is_over_ends(control: Control, engine: FakeEngine) -> None:
    workload = await control.settle(await control.create(accelerators=1, max_duration_seconds=600))
    assert await evict(control) == 0
    control.clock.advance(seconds=591)
    assert await evict(control) == 1
    await control.settle(workload)
    engine.end(engine.submitted[0].attempt, Outcome.CANCELLED, EndCause.CANCELLED, exit_code=None, message="told to")
    await look(control, engine)
    workload = await control.settle(workload)
    assert (workload.status, workload.outcome) == (WorkloadStatus.ENDED, Outcome.TIMED_OUT)
    assert await held(control) == []


async def test_reserved_capacity_is_that_of_a_reservation(control: Control) -> None:
    with pytest.raises(InvalidWorkload, match="name it"):
        await control.create(capacity_class=CapacityClass.RESERVED)
    workload = await control.create(capacity_class=CapacityClass.RESERVED, reservation="res_1")
    assert (await control.settle(workload)).reason.code == ReasonCode.RESERVATION_NOT_READY


async def test_a_workload_stays_within_its_projects_jurisdictions(
    database: Database, clock: FakeClock, engine: FakeEngine
) -> None:
    async def norway(tx, project):
        return ("NO",)

    control = Control.over(database, clock, engine)
    await control.discover()
    advance = Advance(
        clock,
        Changes(EventLog(clock), Outbox(clock)),
        control.fleet,
        Metering(database, clock),
        random.Random(7),
        jurisdictions=norway,
    )
    keyring = Keyring([("k1", b"a secret of sixteen bytes and more")])
    control.reconciler = WorkloadReconciler(database, clock, keyring, {engine.name: engine}, advance)
    workload = await control.settle(await control.create(accelerators=1))
    assert workload.reason.code == ReasonCode.OUTSIDE_JURISDICTION
    assert "local" in workload.reason.message


async def test_every_refusal_of_capacity_is_a_reason_here() -> None:
    from skerry.capacity.admission.model import WhyNot
    from skerry.compute.model import UNPLACED

    beside = {ReasonCode.BEHIND_OTHERS, ReasonCode.ISOLATION_UNAVAILABLE}
    assert {reason.value for reason in WhyNot} == {code.value for code in UNPLACED - beside}
