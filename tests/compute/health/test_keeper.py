"""From a sign of trouble to a node that works again, with an engine that is a double and a real database."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from skerry.capacity.admission.service import Admission
from skerry.compute.engines.base import EndCause, NodeCondition
from skerry.compute.health.errors import CannotDecide, CheckRuns
from skerry.compute.health.keeper import HealthKeeper, HealthNews
from skerry.compute.health.model import Check, Policy, Remediation, RemediationStatus
from skerry.compute.health.service import Health, HealthPolicy
from skerry.compute.model import Outcome, WorkloadKind, WorkloadStatus
from skerry.compute.watching import EngineWatcher, Evictions
from skerry.db.database import Database
from skerry.fleet.model import NodeStatus
from skerry.fleet.service import Fleet
from skerry.kernel.classes import CapacityClass
from skerry.kernel.clock import FakeClock
from skerry.kernel.paging import PageRequest
from skerry.runtime.outbox import Message
from tests.compute.controlling import PROJECT, Control
from tests.compute.fake_engine import FakeEngine

XID_79 = (("xid", "79:gpu0", ""),)


class Site:
    """One machine, its keeper, and what a test asks of them."""

    def __init__(self, db: Database, clock: FakeClock, policy: HealthPolicy) -> None:
        self.clock = clock
        self.engine = FakeEngine(clock)
        self.control = Control.over(db, clock, self.engine)

        async def platform(_: object) -> object:
            return PROJECT

        fleet = Fleet(db, clock, platform=platform)  # type: ignore[arg-type]
        self.fleet = fleet
        self.health = Health(self.control.compute, fleet, self.control.events, platform, clock, policy)  # type: ignore[arg-type]
        self.admission = Admission(clock, fleet)
        self.keeper = HealthKeeper(self.health, {self.engine.name: self.engine}, self.admission)
        self.evictions = Evictions(db, clock, self.control.compute, self.admission)

    async def status(self) -> NodeStatus:
        return (await self.fleet.node("local-1")).status

    async def cases(self) -> list[Remediation]:
        return list((await self.health.remediations((), PageRequest())).data)

    async def case(self) -> Remediation:
        (found,) = await self.cases()
        return found

    async def until(self, status: RemediationStatus) -> Remediation:
        """Look, and let commands run, until the case is there."""
        for _ in range(200):
            await self.keeper.look_once()
            if (found := await self.case()).status is status:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"it is {found.status}: {found.status_reason}")

    async def turn(self) -> None:
        """Let the controller work until nothing changes."""
        await EngineWatcher(self.control.db, self.clock, self.engine).watch_once("fake.1", 0)
        for _ in range(20):
            if not await self.control.step():
                return

    async def probe_ends(self, outcome: Outcome, message: str = "") -> None:
        """The check that runs ends so."""
        await self.turn()
        gang = self.engine.submitted[-1]
        assert "skerry.compute.health.checks" in gang.command
        good = outcome is Outcome.SUCCEEDED
        self.engine.end(gang.attempt, outcome, EndCause.EXITED, 0 if good else 1, message)
        self.clock.advance(seconds=60)
        await self.turn()

    def break_gpu(self) -> None:
        self.engine.node = replace(self.engine.node, signals=XID_79)

    def mend_gpu(self) -> None:
        self.engine.node = replace(self.engine.node, signals=())


@pytest.fixture
def policy() -> HealthPolicy:
    return HealthPolicy(every=None)


@pytest.fixture
async def site(database: Database, clock: FakeClock, policy: HealthPolicy) -> AsyncIterator[Site]:
    made = Site(database, clock, policy)
    await made.control.discover()
    yield made


async def test_a_node_whose_gpu_has_gone_is_drained_and_its_case_waits_for_an_operator(site: Site) -> None:
    site.break_gpu()
    await site.keeper.look_once()
    case = await site.case()
    assert (case.status, case.action, case.hostname) == (RemediationStatus.PROPOSED, "reboot", "local-1")
    assert case.cause == "Xid 79 on gpu0: the GPU has fallen off the bus"
    await site.keeper.look_once()
    assert await site.status() is NodeStatus.DRAINING
    assert site.engine.node.condition is NodeCondition.DRAINED, "through the scheduler, too"
    assert len(await site.cases()) == 1, "and no second one for the same"


async def test_work_on_it_is_told_to_leave_and_gets_time_for_its_checkpoint(site: Site) -> None:
    job = await site.control.create(kind=WorkloadKind.JOB, grace_seconds=30.0, accelerators=4)
    await site.turn()
    site.break_gpu()
    await site.keeper.look_once()
    await site.keeper.look_once()
    await site.evictions.look_once()
    await site.turn()
    assert site.engine.cancelled == [site.engine.submitted[0].attempt]
    site.engine.end(site.engine.submitted[0].attempt, Outcome.CANCELLED, EndCause.CANCELLED, 143, "")
    await site.turn()
    found = await site.control.get(job)
    assert found.status is WorkloadStatus.PENDING, "it waits for another node"
    assert found.attempt is not None and found.attempt.outcome is Outcome.PREEMPTED


async def test_hands_mend_it_and_a_burn_in_brings_it_back(site: Site) -> None:
    site.break_gpu()
    await site.keeper.look_once()
    case = await site.case()
    await site.health.approve(case.id, "key_1")
    await site.keeper.look_once()
    waiting = await site.case()
    assert waiting.status_reason["code"] == "waits_for_hands" and "mended" in waiting.status_reason["message"]
    site.mend_gpu()
    await site.health.mended(case.id, "key_1")
    await site.keeper.look_once()
    await site.probe_ends(Outcome.SUCCEEDED)
    done = await site.until(RemediationStatus.DONE)
    assert (done.decided_by, done.ended_at is not None) == ("key_1", True)
    assert (await site.status(), site.engine.node.condition) == (NodeStatus.READY, NodeCondition.READY)
    await site.keeper.look_once()
    assert len(await site.cases()) == 1, "what was before the repair is no reason for another"


@pytest.mark.parametrize(
    ("status", "after", "node"),
    [(0, RemediationStatus.CHECKING, NodeStatus.DRAINING), (3, RemediationStatus.FAILED, NodeStatus.FAILED)],
)
async def test_by_policy_the_operators_command_is_told_what_to_do(
    database: Database, clock: FakeClock, tmp_path: Path, status: int, after: RemediationStatus, node: NodeStatus
) -> None:
    told = tmp_path / "told"
    script = f"import sys; open({str(told)!r}, 'a').write(' '.join(sys.argv[1:])); print('words'); sys.exit({status})"
    command = (sys.executable, "-c", script)
    site = Site(database, clock, HealthPolicy(Policy.AUTO, command, every=None))
    await site.control.discover()
    site.break_gpu()
    case = await site.until(after)
    assert told.read_text() == "reboot local-1"
    assert await site.status() is node
    assert status == 0 or case.status_reason == {"code": "command_failed", "message": "words"}


async def test_a_command_that_is_not_there_is_said(database: Database, clock: FakeClock) -> None:
    site = Site(database, clock, HealthPolicy(Policy.AUTO, ("/nowhere/reset",), every=None))
    await site.control.discover()
    site.break_gpu()
    case = await site.until(RemediationStatus.FAILED)
    assert "/nowhere/reset cannot be run" in case.status_reason["message"]


async def test_a_burn_in_that_fails_leaves_it_failed(site: Site) -> None:
    site.break_gpu()
    await site.keeper.look_once()
    await site.health.mended((await site.case()).id, "key_1")
    await site.keeper.look_once()
    await site.probe_ends(Outcome.FAILED, "round 3 came out differently")
    case = await site.until(RemediationStatus.FAILED)
    assert "round 3 came out differently" in case.status_reason["message"]
    assert await site.status() is NodeStatus.FAILED


async def test_who_rejects_gives_it_back(site: Site) -> None:
    site.break_gpu()
    await site.keeper.look_once()
    await site.keeper.look_once()
    case = await site.case()
    site.mend_gpu()
    await site.health.reject(case.id, "key_1")
    assert (await site.status(), site.engine.node.condition) == (NodeStatus.READY, NodeCondition.READY)
    site.clock.advance(seconds=1)
    await site.keeper.look_once()
    assert len(await site.cases()) == 1
    with pytest.raises(CannotDecide, match="is rejected"):
        await site.health.approve(case.id, "key_1")


async def test_three_losses_within_a_day_are_one_too_many(site: Site) -> None:
    news = HealthNews(site.health)
    for number in range(3):
        job = await site.control.create(kind=WorkloadKind.JOB, max_restarts=0, accelerators=1)
        await site.turn()
        gang = site.engine.submitted[-1]
        site.engine.end(gang.attempt, Outcome.LOST, EndCause.SIGNALLED, 137, "killed by signal 9")
        await site.turn()
        told = {"project": PROJECT, "workload": job.id, "attempt": gang.attempt}
        for _ in range(2):  # told at least once
            await news.changed(Message("out_1", "workload", told, site.clock.now(), 0))
        assert len(await site.cases()) == (1 if number == 2 else 0), number
        site.clock.advance(seconds=1)


async def test_a_node_that_its_engine_loses_is_a_case_after_a_minute(site: Site) -> None:
    site.engine.node = replace(site.engine.node, condition=NodeCondition.DOWN, reason="Not responding")
    await site.keeper.look_once()
    assert await site.cases() == []
    site.clock.advance(seconds=61)
    await site.keeper.look_once()
    assert "its engine has not seen it for 61 s" in (await site.case()).cause


async def test_an_idle_node_is_checked_in_its_turn_and_gives_way_at_once(database: Database, clock: FakeClock) -> None:
    site = Site(database, clock, HealthPolicy(every=timedelta(days=7)))
    await site.control.discover()
    await site.keeper.look_once()
    await site.turn()
    assert site.engine.submitted == [], "it is new: somebody has just looked at it"
    clock.advance(seconds=7 * 86_400 + 1)
    await site.keeper.look_once()
    await site.keeper.look_once()
    await site.turn()
    (check,) = site.engine.submitted
    assert check.command[-3:] == ("burn_in", "--seconds", "30")

    await site.control.create(accelerators=4, capacity_class=CapacityClass.ON_DEMAND)
    await site.turn()
    await site.evictions.look_once()
    await site.turn()
    assert site.engine.cancelled == [check.attempt]
    site.engine.end(check.attempt, Outcome.CANCELLED, EndCause.CANCELLED, 143, "")
    clock.advance(seconds=2)
    await site.turn()
    await site.keeper.look_once()
    clock.advance(seconds=11)
    await site.turn()
    assert len(site.engine.submitted) == 2, "the customer's work is there now"
    assert "/bin/sleep" in site.engine.submitted[1].command
    assert await site.status() is NodeStatus.READY
    assert await site.cases() == [], "nothing was learnt"


async def test_one_check_at_a_time(site: Site) -> None:
    await site.health.check("local-1", Check.BURN_IN)
    with pytest.raises(CheckRuns):
        await site.health.check("local-1", Check.BURN_IN)


async def test_old_signals_are_forgotten(site: Site) -> None:
    site.break_gpu()
    await site.keeper.look_once()
    site.clock.advance(seconds=31 * 86_400)
    await site.health.keep_house()
    assert not (await site.health.signals(None, PageRequest())).data
