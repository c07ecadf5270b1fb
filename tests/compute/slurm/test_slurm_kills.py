"""slurmctld, slurmd, runners and the agent are killed at random moments: no work is lost, and none runs twice."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from skerry.compute.engines.base import EngineUnavailable, NodeCondition
from skerry.compute.engines.embedded.processes import marked_processes
from skerry.compute.engines.slurm.config import SlurmConfig
from skerry.compute.engines.slurm.serving import SlurmClient
from skerry.compute.model import Outcome, Workload, WorkloadKind, WorkloadStatus
from skerry.compute.watching import EngineWatcher, Sweeper
from skerry.db.database import Database
from skerry.db.notify import WORK, Listener
from skerry.kernel.clock import SystemClock
from skerry.runtime.reconciler import Loop, Wakes
from skerry.server.roles.controller import cluster_node
from tests.compute.controlling import Control
from tests.compute.gangs import until
from tests.compute.slurm.cluster import Cluster
from tests.compute.slurm.conftest import config_of

ROUNDS = int(os.environ.get("SKERRY_ROUNDS") or 3)
FIRST_SEED = int(os.environ.get("SKERRY_SEED") or 1)
SEEDS = range(FIRST_SEED, FIRST_SEED + ROUNDS)
KILLS = 3
SECONDS = 120.0

SCRIPT = """\
exec 9> {folder}/$NAME.$SKERRY_RANK.lock
flock --nonblock 9 || echo double >> {folder}/trace
echo $NAME $SKERRY_ATTEMPT $SKERRY_RANK >> {folder}/trace
sleep {seconds}
"""
"""Of a job. The lock is its rank's for as long as anything of it lives, whichever attempt that is."""


class Agent:
    """A process that can be killed."""

    def __init__(self, folder: Path, config: SlurmConfig) -> None:
        self.folder, self.config = folder, config
        self.client = SlurmClient(folder / "agent.sock")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Agent":
        program = Path(__file__).with_name("agent_process.py")
        arguments = [str(self.folder), msgspec.json.encode(self.config, enc_hook=str).decode()]
        with (self.folder / "agent.log").open("ab") as out:
            self._process = subprocess.Popen([sys.executable, str(program), *arguments], stdout=out, stderr=out)
        return self

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(30)


@pytest.fixture(scope="module")
def agent(cluster: Cluster, slurm_tmp: Path) -> Iterator[Agent]:
    folder = slurm_tmp / "kills"
    folder.mkdir(mode=0o755)
    agent = Agent(folder, config_of(cluster, folder, call_seconds=5.0)).start()
    yield agent
    agent.kill(signal.SIGTERM)


@pytest.fixture
async def control(database: Database, agent: Agent) -> AsyncIterator[Control]:
    """With its loops running, as in a controller."""
    control = Control.over(database, SystemClock(), agent.client)
    nodes = await until(lambda: _nodes(agent))
    async with database.transaction() as tx:
        await control.fleet.discover_cluster(tx, [cluster_node(node) for node in nodes])
    wakes = Wakes()
    running = [
        Loop(control.reconciler, wake=wakes.event("workload"), poll_seconds=0.5).run(),
        Listener(database.url, [WORK], wakes.notified, wakes.wake_all).run(),
        EngineWatcher(database, control.clock, agent.client).run(),
        Sweeper(database, agent.client).run(),
    ]
    tasks = [asyncio.create_task(one) for one in running]
    yield control
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_is_killed_at_any_moment_costs_no_work_and_runs_none_twice(
    control: Control, agent: Agent, cluster: Cluster, tmp_path: Path, seed: int
) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    tmp_path.chmod(0o755)
    jobs = [await _create(control, chance, tmp_path, number) for number in range(3)]
    for _ in range(KILLS):
        await _pause(chance.uniform(0.0, 1.5))
        await _kill_one(chance, agent, cluster)
    operator = asyncio.create_task(_bring_back(cluster))
    for job in jobs:
        ended = await until(lambda job=job: _ended(control, job), SECONDS)
        assert ended.outcome is Outcome.SUCCEEDED, ended.reason
    trace = (tmp_path / "trace").read_text().splitlines()
    assert "double" not in trace, "two attempts of one workload at a time"
    assert max(Counter(trace).values()) == 1, "an attempt was started twice"
    left = await _left(agent)
    assert not left, f"left behind: {left}"
    await _each_charged_once(control, jobs)
    operator.cancel()
    await _all_take_work(agent, cluster)


async def _create(control: Control, chance: random.Random, folder: Path, number: int) -> Workload:
    """Every other one a gang over two nodes."""
    script = SCRIPT.format(folder=folder, seconds=round(chance.uniform(0.2, 2.0), 2))
    nodes = 1 + number % 2
    return await control.create(
        kind=WorkloadKind.JOB,
        name=f"job-{number}",
        command=("/bin/sh", "-c", script),
        env={"NAME": f"job-{number}"},
        accelerators=nodes,
        nodes=nodes,
        tasks=nodes,
        grace_seconds=0.5,
    )


async def _kill_one(chance: random.Random, agent: Agent, cluster: Cluster) -> None:
    victim = chance.choice(["slurmctld", "slurmd", "runner", "agent"])
    print(f"kill {victim}")
    if victim == "slurmctld":
        cluster.kill("slurmctld")
        await _pause(chance.uniform(0.0, 1.0))
        cluster.spawn_controller()
        await asyncio.to_thread(cluster.wait_for_controller)
    elif victim == "slurmd":
        node = chance.choice(cluster.names)
        cluster.kill(f"slurmd-{node}")
        await _pause(chance.uniform(0.0, 1.0))
        cluster.start_node(node)
    elif victim == "runner":
        if runners := _runners(agent):
            with suppress(ProcessLookupError):
                os.kill(chance.choice(runners), signal.SIGKILL)
    else:
        agent.kill()
        await _pause(chance.uniform(0.0, 0.5))
        agent.start()


async def _pause(seconds: float) -> None:
    """A random moment, which is what this is about."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()


async def _bring_back(cluster: Cluster) -> None:
    """A controller that was killed gives a number again that a node knows already; Slurm drains that node then, which
    is for operators to look at. These see that nothing is wrong with it."""
    while True:
        for node in (await asyncio.to_thread(cluster.command, "sinfo", "-hNt", "drain", "-o", "%N")).split():
            await asyncio.to_thread(cluster.command, "scontrol", "update", f"nodename={node}", "state=resume")
        await asyncio.sleep(1)


async def _all_take_work(agent: Agent, cluster: Cluster) -> None:
    """As the next test wants them."""
    states = []
    for _ in range(120):
        states = [node for node in await _nodes(agent) or [] if node.condition is not NodeCondition.READY]
        for node in states:
            await asyncio.to_thread(cluster.command, "scontrol", "update", f"nodename={node.name}", "state=resume")
        if not states:
            return
        await _pause(0.5)
    raise AssertionError(f"nodes do not come back: {states}")


async def _each_charged_once(control: Control, jobs: list[Workload]) -> None:
    """As many accelerator-seconds on record as the attempts ran, to the second that each is rounded by."""
    attempts = [attempt for job in jobs for attempt in await control.attempts(job)]
    assert all(attempt.ended_at is not None and attempt.outcome is not None for attempt in attempts)
    ran = sum(
        attempt.accelerators * (attempt.ended_at - attempt.ready_at).total_seconds()
        for attempt in attempts
        if attempt.ended_at is not None and attempt.ready_at is not None
    )
    facts = [fact for fact in await control.facts() if fact.meter == "accelerator_seconds"]
    charged = sum(fact.quantity for fact in facts if fact.quantity > 0)  # below are what is not charged of lost ones
    assert abs(charged - ran) <= sum(attempt.accelerators for attempt in attempts), (charged, ran)


async def _nodes(agent: Agent) -> list | None:
    with suppress(EngineUnavailable):
        return list(await agent.client.nodes())
    return None


async def _ended(control: Control, job: Workload) -> Workload | None:
    current = await control.get(job)
    return current if current.status is WorkloadStatus.ENDED else None


async def _left(agent: Agent) -> list[str]:
    """Command lines of what runs on, once there was time to end."""
    for _ in range(40):
        pids = [one.stat.pid for one in marked_processes(agent.config.mark)] + _runners(agent)
        if not pids:
            return []
        await _pause(0.25)
    found = []
    for pid in pids:
        with suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def _runners(agent: Agent) -> list[int]:
    """Python processes of ours on nodes, by the folder they are given."""
    found, shared = [], os.fsencode(agent.config.shared)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"python") and any(word.startswith(shared) for word in words):
                    found.append(int(entry.name))
    return found
