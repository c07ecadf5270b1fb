"""The whole of it: a controller and an agent as real processes, killed at bad moments."""

import asyncio
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from skerry.compute.engines.embedded.processes import marked_processes
from skerry.compute.model import Outcome, ReasonCode, StopReason, Workload, WorkloadKind, WorkloadStatus
from skerry.db.database import Database
from skerry.fleet.model import Machine
from skerry.kernel.clock import SystemClock
from tests.compute.agents import AgentProcess
from tests.compute.controlling import PROJECT, Control
from tests.compute.gangs import until
from tests.compute.zygote import Zygote

SERVICE = 'echo "{\\"address\\": \\"http://127.0.0.1:1\\"}" > $SKERRY_REPORT; while :; do sleep 0.2; done'


ROUNDS = int(os.environ.get("SKERRY_ROUNDS") or 3)
FIRST_SEED = int(os.environ.get("SKERRY_SEED") or 1)
SEEDS = range(FIRST_SEED, FIRST_SEED + ROUNDS)


class ControllerProcess:
    def __init__(self, zygote: Zygote, database_url: str, agent: AgentProcess) -> None:
        self._zygote = zygote
        self._arguments = (database_url, str(agent.folder / "agent.sock"))
        self._log = agent.folder / "controller.log"
        self._pid: int | None = None

    def start(self) -> None:
        self._pid = self._zygote.start("controller", *self._arguments, log=self._log)

    def kill(self) -> None:
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            self._zygote.wait(self._pid)
            self._pid = None


@pytest.fixture
def agent(make_agent: Callable[..., AgentProcess]) -> AgentProcess:
    return make_agent().start()


@pytest.fixture
def controller(zygote: Zygote, database_url: str, agent: AgentProcess) -> Iterator[ControllerProcess]:
    controller = ControllerProcess(zygote, database_url, agent)
    yield controller
    controller.kill()


@pytest.fixture
async def control(database: Database, agent: AgentProcess) -> Control:
    control = Control.over(database, SystemClock(), agent.engine)
    await control.discover(Machine("here", 4, 1 << 34))
    return control


async def create(control: Control, script: str = SERVICE, **changes: object) -> Workload:
    changes = {"accelerators": 0, "grace_seconds": 0.5} | changes
    return await control.create(command=("/bin/sh", "-c", script), **changes)


async def reaches(control: Control, workload: Workload, status: WorkloadStatus, seconds: float = 30.0) -> Workload:
    async def there() -> Workload | None:
        current = await control.get(workload)
        return current if current.status is status else None

    return await until(there, seconds)


async def stop(control: Control, workload: Workload) -> None:
    async with control.db.transaction() as tx:
        await control.compute.stop_workload(tx, PROJECT, workload.id, StopReason.BY_CUSTOMER)


def leaders(agent: AgentProcess, workload: Workload | None = None) -> list[int]:
    return [
        process.stat.pid
        for process in marked_processes(agent.mark)
        if process.stat.pid == process.stat.session
        and (workload is None or (workload.attempt is not None and process.attempt == workload.attempt.id))
    ]


async def test_a_service_that_is_killed_comes_back_and_a_stop_leaves_nothing(
    control: Control, controller: ControllerProcess, agent: AgentProcess
) -> None:
    controller.start()
    workload = await reaches(control, await create(control), WorkloadStatus.RUNNING)
    assert workload.attempt is not None and workload.attempt.report == {"address": "http://127.0.0.1:1"}
    (pid,) = leaders(agent)
    os.kill(pid, signal.SIGKILL)

    async def restarted() -> bool:
        current = await control.get(workload)
        return current.attempts == 2 and current.status is WorkloadStatus.RUNNING

    await until(restarted)
    first, second = await control.attempts(workload)
    assert (first.outcome, first.exit_code, second.outcome) == (Outcome.LOST, 137, None)
    await stop(control, workload)
    ended = await reaches(control, workload, WorkloadStatus.ENDED)
    assert (ended.outcome, ended.reason.code) == (Outcome.CANCELLED, ReasonCode.STOPPED)
    assert leaders(agent) == []

    async def forgotten() -> bool:
        return not await agent.engine.known()

    await until(forgotten)


async def test_a_job_that_fails_shows_its_log(control: Control, controller: ControllerProcess) -> None:
    controller.start()
    workload = await create(control, "echo the data is missing; exit 4", kind=WorkloadKind.JOB, max_restarts=0)
    ended = await reaches(control, workload, WorkloadStatus.ENDED)
    assert ended.outcome is Outcome.FAILED
    assert "exit code 4" in ended.reason.message and "the data is missing" in ended.reason.message
    chunk = await control.compute.logs(PROJECT, workload.id)
    assert (chunk.data, chunk.ended) == (b"the data is missing\n", True)


async def test_the_agents_death_disturbs_no_workload(
    control: Control, controller: ControllerProcess, agent: AgentProcess
) -> None:
    controller.start()
    steady = await reaches(control, await create(control), WorkloadStatus.RUNNING)
    before = leaders(agent)
    agent.kill()
    late = await create(control)

    async def waits() -> bool:
        return (await control.get(late)).reason.code == ReasonCode.ENGINE_UNAVAILABLE

    await until(waits)
    agent.start()
    await reaches(control, late, WorkloadStatus.RUNNING)
    steady = await control.get(steady)
    assert (steady.status, steady.attempts) == (WorkloadStatus.RUNNING, 1)
    assert leaders(agent, steady) == before


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_controller_killed_at_any_moment_starts_nothing_twice(
    control: Control, controller: ControllerProcess, agent: AgentProcess, seed: int
) -> None:
    chance = random.Random(seed)
    print(f"seed {seed}")
    counts = agent.folder / "counts"
    counts.mkdir()
    script = f"echo x >> {counts}/$SKERRY_ATTEMPT; {SERVICE}"
    controller.start()
    workloads = [await create(control, script) for _ in range(3)]
    for _ in range(4):
        # From before its first claim to after its last write.
        with suppress(TimeoutError):
            async with asyncio.timeout(chance.random() * 0.3):
                await asyncio.Event().wait()
        controller.kill()
        if chance.random() < 0.3:
            agent.kill()
            agent.start()
        await _give_leases_back(control)
        controller.start()
    for workload in workloads:
        current = await reaches(control, workload, WorkloadStatus.RUNNING)
        assert len(leaders(agent, current)) == 1
        assert len([a for a in await control.attempts(workload) if a.ended_at is None]) == 1
    assert len(leaders(agent)) == 3, "nothing runs that no row stands for"
    assert all(path.read_text() == "x\n" for path in counts.iterdir()), "no attempt was started twice"
    for workload in workloads:
        await stop(control, workload)
    for workload in workloads:
        await reaches(control, workload, WorkloadStatus.ENDED)
    assert leaders(agent) == []
    assert not Path(agent.folder / "work").exists() or not list((agent.folder / "work").iterdir())


async def _give_leases_back(control: Control) -> None:
    """As a minute's wait would."""
    async with control.db.transaction() as tx:
        await tx.execute(text("UPDATE workloads SET lease_until = now() WHERE lease_until IS NOT NULL"))
