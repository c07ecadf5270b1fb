"""The Slurm engine passes the suite that every engine passes, on a real Slurm of four nodes; and what only it can meet.

All of it is in this file, so that one worker of the test suite has the cluster to itself.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path
from traceback import format_exception

import pytest
import uvloop

from skerry.compute.engines.base import EndCause, EngineUnavailable, GangSpec, GangStatus, NodeCondition, Placement
from skerry.compute.engines.embedded.config import AgentConfig
from skerry.compute.engines.select import slurm_agent
from skerry.compute.engines.slurm import probe
from skerry.compute.engines.slurm.config import SlurmConfig
from skerry.compute.engines.slurm.engine import SlurmEngine
from skerry.compute.engines.slurm.serving import SlurmClient
from skerry.compute.model import Outcome
from skerry.kernel.clock import SystemClock
from skerry.kernel.ids import new_id
from tests.compute.engine_conformance import EngineConformance, _processes_of
from tests.compute.gangs import ended, output, run, shell, started, state_of, until
from tests.compute.slurm.cluster import Cluster

ON_TWO = (Placement("local-3", 1), Placement("local-4", 1))


ALONE = (
    "test_names_itself_and_its_nodes",
    "test_a_gang_starts_on_all_its_nodes_or_on_none",
    "test_a_reservation_has_the_nodes_it_was_asked_for",
    "test_a_reservation_of_an_unknown_node_is_refused_whole",
    "test_only_who_names_a_reservation_runs_inside_it",
    "test_fencing_ends_all_on_a_node_and_nothing_beside_it",
    "test_a_drained_node_takes_nothing_new_and_keeps_what_it_has",
    "test_events_tell_which_attempts_changed",
    "test_known_lists_what_has_not_been_forgotten",
)
"""Cases that change nodes, or look at everything there is."""
AT_ONCE = 6


class TestSlurm(EngineConformance):
    """Slurm takes up to a second before it starts a batch job, however idle it is: cases of jobs alone share it."""

    async def test_the_cases_that_disturb_no_other(self, engine: SlurmEngine, open_tmp: Path) -> None:
        places = asyncio.Semaphore(AT_ONCE)

        async def run_case(name: str, values: dict[str, object]) -> None:
            case = getattr(EngineConformance, name)
            given = {"engine": engine, "open_tmp": open_tmp} | values
            async with places:
                await case(self, **{key: given[key] for key in signature(case).parameters if key != "self"})

        cases = [(name, values) for name in TOGETHER for values in _parameters(getattr(EngineConformance, name))]
        found = await asyncio.gather(*(run_case(*one) for one in cases), return_exceptions=True)
        wrong = [(name, values, error) for (name, values), error in zip(cases, found, strict=True) if error is not None]
        for name, values, error in wrong:
            print(name, values, *format_exception(error))
        assert not wrong and len(cases) >= 30


TOGETHER = [name for name in vars(EngineConformance) if name.startswith("test_") and name not in ALONE]
for _name in TOGETHER:
    setattr(TestSlurm, _name, None)


def _parameters(case: Callable[..., object]) -> list[dict[str, object]]:
    """Of each call that pytest would make of it."""
    found: list[dict[str, object]] = [{}]
    for mark in getattr(case, "pytestmark", ()):
        names, rows = mark.args
        found = [one | dict(zip(names, row, strict=True)) for one in found for row in rows]
    return found


def test_it_speaks_with_slurm_in_the_agents_event_loop(slurm_config: SlurmConfig) -> None:
    """uvloop, whose pipes and processes differ."""
    engine = SlurmEngine(slurm_config, SystemClock())
    found = [uvloop.run(engine.capabilities()) for _ in range(2)]
    assert found[0].problems == () and found[0].sets_aside and found[0] == found[1]


def test_a_node_joins(cluster: Cluster, slurm_tmp: Path) -> None:
    """As operators call it."""
    command = [sys.executable, "-m", "skerry.cli", "fleet", "join", "--name", "local-1", "--json"]
    options = {"--shared": slurm_tmp, "--work": slurm_tmp / "a" / "b", "--munge-socket": cluster.root / "munge.sock"}
    words = [str(word) for pair in options.items() for word in pair]
    for _ in range(2):
        done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, check=True)
        joined = json.loads(done.stdout)
        assert joined["ok"] and joined["lines"]["slurm.conf"].startswith("NodeName=local-1 CPUs=")
        assert joined["lines"]["dynamic"].startswith("slurmd -Z ")
    assert (slurm_tmp / "a" / "b").stat().st_mode & 0o777 == 0o711
    assert [one.node for one in probe.read_all(slurm_tmp)] == ["local-1"]
    wrong = subprocess.run([*command, "--munge-socket", "/nowhere"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1 and "copy the controller's key" in wrong.stdout


async def test_an_engine_that_was_started_again_goes_on(engine: SlurmEngine, slurm_config: SlurmConfig) -> None:
    spec = shell("echo once; while :; do sleep 0.1; done")
    await started(engine, spec)
    second = SlurmEngine(slurm_config, SystemClock())
    assert await second.submit(spec) == await engine.submit(spec)
    await second.cancel(spec.attempt, 0)
    state = await ended(second, spec)
    assert state.end is not None and state.end.outcome is Outcome.CANCELLED
    assert await output(second, spec) == "once\n"


async def test_a_job_that_was_handed_over_twice_runs_once(
    engine: SlurmEngine, cluster: Cluster, slurm_config: SlurmConfig
) -> None:
    """As where the answer to the first was lost, and Slurm was too slow to show it."""
    spec = shell("echo started")
    state = await run(engine, spec)
    again = shell("echo started; sleep 1000")
    await started(engine, again)
    nodes = {node.name: node for node in await engine.nodes() if node.name == "local-1"}
    twins = [await engine._jobs.submit(one, nodes, slurm_config.shared / one.attempt) for one in (spec, again)]

    async def are_over() -> bool:
        jobs = (await engine._jobs.snapshot()).jobs
        return all(twin in jobs and jobs[twin].over for twin in twins)

    await until(are_over)
    assert await state_of(engine, spec) == state
    running = await state_of(engine, again)
    assert running is not None and running.status is GangStatus.RUNNING
    assert [await output(engine, one) for one in (spec, again)] == ["started\n", "started\n"]


async def test_a_job_that_outlives_its_attempt_gives_its_nodes_back(engine: SlurmEngine, cluster: Cluster) -> None:
    """A controller that was killed takes a job for running whose end it had not written down."""
    spec = shell("exit 0")
    await run(engine, spec)
    name = f"--job-name=skerry-{engine._config.mark}-{spec.attempt}"
    ghost = cluster.command("sbatch", "--parsable", name, "--output=/dev/null", "--wrap=sleep 1000").strip()
    beside = shell("sleep 1000")
    await started(engine, beside)

    async def is_over() -> bool:
        await state_of(engine, beside)
        return cluster.command("squeue", "-h", "-t", "all", "-j", ghost, "-o", "%T") == "CANCELLED\n"

    await until(is_over)
    still = await state_of(engine, beside)
    assert still is not None and still.status is GangStatus.RUNNING


async def test_a_runner_that_is_killed_leaves_nothing(engine: SlurmEngine) -> None:
    spec = shell("(setsid sleep 1000 &); sleep 1001", placements=ON_TWO)
    await started(engine, spec)
    os.kill(_runners(spec)[0], signal.SIGKILL)
    state = await ended(engine, spec)
    assert state.end is not None
    assert (state.end.cause, state.end.outcome) == (EndCause.UNOBSERVED, Outcome.LOST)
    assert not _processes_of(spec.attempt)


async def test_a_job_that_somebody_else_cancels_is_lost(engine: SlurmEngine, cluster: Cluster) -> None:
    spec = shell("sleep 1000", placements=ON_TWO)
    await started(engine, spec)
    cluster.command("scancel", "--name", f"skerry-{engine._config.mark}-{spec.attempt}")
    state = await ended(engine, spec)
    assert state.end is not None and state.end.outcome is Outcome.LOST
    assert not _processes_of(spec.attempt)


async def test_a_node_that_slurm_gives_up_loses_its_gang_and_nothing_runs_on(
    engine: SlurmEngine, cluster: Cluster
) -> None:
    """The tasks of a slurmd that died go on by themselves: they are ended before the attempt counts as lost."""
    spec = shell("trap '' TERM; sleep 1000", placements=ON_TWO)
    beside = shell("sleep 1001")
    await started(engine, spec)
    await started(engine, beside)
    cluster.kill("slurmd-local-4")
    cluster.command("scontrol", "update", "nodename=local-4", "state=down", "reason=power")
    try:
        state = await ended(engine, spec)
        assert state.end is not None
        assert (state.end.cause, state.end.outcome) == (EndCause.UNOBSERVED, Outcome.LOST)
        assert not _processes_of(spec.attempt)
        still = await state_of(engine, beside)
        assert still is not None and still.status is GangStatus.RUNNING
        node = next(node for node in await engine.nodes() if node.name == "local-4")
        assert node.condition is NodeCondition.DOWN and node.reason.startswith("power")
        await engine.fence("local-4", "power")
    finally:
        cluster.start_node("local-4")
        await engine.resume("local-4")
    state = await run(engine, shell("exit 0", placements=(Placement("local-4", 1),)))
    assert state.end is not None and state.end.outcome is Outcome.SUCCEEDED


async def test_with_the_controller_away_calls_end_in_time_and_nothing_is_lost(
    engine: SlurmEngine, cluster: Cluster, slurm_config: SlurmConfig, open_tmp: Path
) -> None:
    counter, go = open_tmp / new_id("count"), open_tmp / new_id("go")
    ends_meanwhile = shell(f"echo a >> {counter}; until test -e {go}; do sleep 0.05; done", placements=ON_TWO[:1])
    runs_on = shell(f"echo b >> {counter}; sleep 1000", placements=ON_TWO)
    comes_meanwhile = shell(f"echo c >> {counter}")
    await started(engine, ends_meanwhile)
    await started(engine, runs_on)
    # Slurm writes down what it has accepted every few seconds; what it had not, it ends as an orphan afterwards.
    await until(lambda: _is_on_disk(cluster, ends_meanwhile, runs_on))
    hasty = SlurmEngine(replace(slurm_config, call_seconds=1.0), SystemClock())
    cluster.kill("slurmctld")
    try:
        async with asyncio.timeout(60):
            for call in (
                lambda: hasty.observe([ends_meanwhile.attempt, runs_on.attempt]),
                hasty.nodes,
                lambda: hasty.submit(comes_meanwhile),
                lambda: hasty.drain("local-1", "why not"),
                hasty.reservations,
            ):
                with pytest.raises(EngineUnavailable):
                    await call()
        go.touch()
        await until(lambda: _has_written_its_end(slurm_config, ends_meanwhile))
        assert (await engine.logs(runs_on.attempt, 0, 0, 10)).ended is False, "logs need no controller"
    finally:
        cluster.start_controller()
        await until(lambda: _takes_work(engine))
    state = await ended(engine, ends_meanwhile)
    assert state.end is not None and state.end.outcome is Outcome.SUCCEEDED
    still = await state_of(engine, runs_on)
    assert still is not None and still.status is GangStatus.RUNNING
    await run(engine, comes_meanwhile)
    assert sorted(counter.read_text().split()) == ["a", "b", "b", "c"]


async def test_the_agent_serves_it_as_it_serves_the_embedded_one(slurm_config: SlurmConfig, slurm_tmp: Path) -> None:
    folder = slurm_tmp / "door"
    folder.mkdir()
    config = AgentConfig(
        socket=folder / "agent.sock",
        state=folder / "state",
        logs=folder / "logs",
        work=folder / "work",
        nodes=(),
        allowed_uids=frozenset([os.getuid()]),
    )
    own = replace(slurm_config, state=folder / "ledger")
    stopping, ready = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(slurm_agent(config, own, SystemClock()).run(stopping, ready.set))
    await ready.wait()
    client = SlurmClient(config.socket)
    try:
        assert (await client.capabilities()).engine == client.name == "slurm"
        assert len(await client.nodes()) == 4
        spec = shell("echo hello", placements=ON_TWO)
        state = await run(client, spec)
        assert state.end is not None and state.end.outcome is Outcome.SUCCEEDED
        assert await output(client, spec, 1) == "hello\n"
        assert not await client.reservations()
    finally:
        stopping.set()
        await serving


async def test_gpus_are_those_that_slurm_gave(engine: SlurmEngine, cluster: Cluster) -> None:
    if not cluster.gpus:
        pytest.skip("no device files can be made here")
    spec = shell("echo $CUDA_VISIBLE_DEVICES", placements=(Placement("local-1", 2, (0, 1)), Placement("local-2", 1)))
    await run(engine, spec)
    assert [await output(engine, spec, rank) for rank in range(3)] == ["0\n", "1\n", "\n"]
    assert not any(node.shared for node in await engine.nodes())


async def test_secrets_are_nowhere_in_the_job(
    engine: SlurmEngine, cluster: Cluster, slurm_config: SlurmConfig, tmp_path: Path
) -> None:
    spec = shell("sleep 1000", files={"key": "s3cret"}, env={"TOKEN": "t0ken"})
    await started(engine, spec)
    folder = slurm_config.shared / spec.attempt
    job = (folder / "claim").read_text()
    script = tmp_path / "script"
    cluster.command("scontrol", "write", "batch_script", job, str(script))
    shown = cluster.command("scontrol", "show", "job", job) + script.read_text()
    shown += "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in _runners(spec))
    assert str(folder) in shown and "s3cret" not in shown and "t0ken" not in shown
    assert (folder / "order.json").stat().st_mode & 0o777 == 0o600
    await engine.cancel(spec.attempt, 0)
    await ended(engine, spec)
    left = [path for path in folder.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    assert not left, "secrets go with the attempt"


def _runners(spec: GangSpec) -> list[int]:
    """Our Python processes on its nodes."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"skerry.compute.engines.slurm.node" in words and b"-m" in words and words[0].endswith(b"python"):
                found += [int(entry.name)] if any(spec.attempt.encode() in word for word in words) else []
    return found


async def _has_written_its_end(config: SlurmConfig, spec: GangSpec) -> bool:
    return b'"cause":"exited"' in (config.shared / spec.attempt / "ranks" / "0.json").read_bytes()


async def _is_on_disk(cluster: Cluster, *specs: GangSpec) -> bool:
    saved = cluster.root / "state" / "job_state"
    content = saved.read_bytes() if saved.exists() else b""
    return all(spec.attempt.encode() in content for spec in specs)


async def _takes_work(engine: SlurmEngine) -> bool:
    return all(node.condition is NodeCondition.READY for node in await engine.nodes())
