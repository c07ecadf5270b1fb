"""The agent itself: who may call it, what it does when it or its host is treated badly."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.compute.engines.base import EndCause, EngineUnavailable, GangStatus, Limits, Placement
from skerry.compute.engines.embedded.users import ensure_user
from skerry.compute.model import Drop, Outcome
from tests.compute.agents import AgentProcess
from tests.compute.gangs import ended, gang_spec, output, run, shell, state_of, until
from tests.compute.zygote import Zygote

MakeAgent = Callable[..., AgentProcess]

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change to another user")


async def test_no_agent_is_engine_unavailable(make_agent: MakeAgent) -> None:
    agent = make_agent()
    with pytest.raises(EngineUnavailable, match="not running"):
        await agent.engine.nodes()


async def test_only_allowed_users_may_call(make_agent: MakeAgent) -> None:
    agent = make_agent(allowed_uids=[os.getuid() + 1]).start()
    with pytest.raises(EngineUnavailable, match="may not call"):
        await agent.engine.nodes()


async def test_a_second_agent_on_the_same_state_refuses_to_run(make_agent: MakeAgent, zygote: Zygote) -> None:
    agent = make_agent().start()
    second = AgentProcess(zygote, agent.folder)
    with pytest.raises(ChildProcessError, match="another agent is running"):
        second.start()
    assert await agent.engine.nodes()


async def test_garbage_on_the_socket_hurts_nobody(make_agent: MakeAgent) -> None:
    agent = make_agent().start()
    for garbage in (b"\xff\xff\xff\xff", b"\0\0\0\x03abc", b"\0\0"):
        reader, writer = await asyncio.open_unix_connection(str(agent.folder / "agent.sock"))
        writer.write(garbage)
        writer.write_eof()
        await reader.read()
        writer.close()
    assert await agent.engine.nodes()


async def test_a_socket_in_a_deep_folder_works(make_agent: MakeAgent) -> None:
    agent = make_agent()
    deep = agent.folder / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    agent = make_agent(socket=str(deep / "agent.sock")).start()
    assert await agent.engine.nodes()


async def test_a_killed_agent_adopts_its_tasks(make_agent: MakeAgent, open_tmp: Path) -> None:
    agent = make_agent().start()
    counter = agent.folder / "count"
    spec = shell(
        f"echo started >> {counter}; echo '{{\"a\": 1}}' > $SKERRY_REPORT; echo before;"
        "trap 'echo after; exit 6' USR1; while :; do sleep 0.02; done"
    )
    await agent.engine.submit(spec)
    await until(lambda: _reported(agent, spec))
    before = await state_of(agent.engine, spec)
    agent.kill()
    with pytest.raises(EngineUnavailable):
        await agent.engine.observe([spec.attempt])
    agent.start()
    state = await state_of(agent.engine, spec)
    assert state is not None and before is not None and state.status is GangStatus.RUNNING
    assert state.ranks[0].adopted and state.ranks[0].pid == before.ranks[0].pid
    assert state.ranks[0].report == {"a": 1}
    await agent.engine.submit(spec)  # a controller that never heard the first answer
    await agent.engine.signal(spec.attempt, signal.SIGUSR1)
    end = (await ended(agent.engine, spec)).end
    assert end is not None
    if end.exit_code is None:  # nobody but a parent learns it on kernels before 6.15, unless it is seen as a zombie
        assert (end.cause, end.outcome) == (EndCause.UNOBSERVED, Outcome.LOST)
    else:
        assert (end.cause, end.outcome, end.exit_code) == (EndCause.EXITED, Outcome.FAILED, 6)
    lines = (await output(agent.engine, spec)).splitlines()
    assert (lines[0], lines[-1]) == ("before", "after"), "it wrote on while no agent was there"
    assert counter.read_text() == "started\n"


async def test_an_adopted_task_is_cancelled_with_all_it_started(make_agent: MakeAgent) -> None:
    agent = make_agent().start()
    spec = shell("trap '' TERM; setsid sleep 1000 & sleep 1001 & echo armed; while :; do sleep 1002; done")
    await agent.engine.submit(spec)
    await until(lambda: _printed(agent, spec, "armed"))
    agent.kill()
    agent.start()
    await agent.engine.cancel(spec.attempt, 0.1)
    state = await ended(agent.engine, spec)
    assert state.end is not None and state.end.outcome is Outcome.CANCELLED
    assert not agent.marked()


async def test_a_cancel_goes_on_after_the_agents_death(make_agent: MakeAgent) -> None:
    agent = make_agent().start()
    spec = shell("trap '' TERM; echo armed; while :; do sleep 0.05; done")
    await agent.engine.submit(spec)
    await until(lambda: _printed(agent, spec, "armed"))
    await agent.engine.cancel(spec.attempt, 0.3)
    agent.kill()
    agent.start()
    state = await ended(agent.engine, spec)
    assert state.end is not None and state.end.outcome is Outcome.CANCELLED


async def test_a_task_that_ended_while_no_agent_was_there_is_lost(make_agent: MakeAgent) -> None:
    agent = make_agent().start()
    spec = shell("setsid sleep 1000 & echo armed; read x < $HOME/never || while :; do sleep 0.05; done")
    await agent.engine.submit(spec)
    await until(lambda: _printed(agent, spec, "armed"))
    state = await state_of(agent.engine, spec)
    assert state is not None and state.ranks[0].pid is not None
    agent.kill()
    os.kill(state.ranks[0].pid, signal.SIGKILL)
    await until(lambda: _gone(state.ranks[0].pid))
    agent.start()
    end = (await ended(agent.engine, spec)).end
    assert end is not None
    assert (end.cause, end.outcome, end.exit_code) == (EndCause.UNOBSERVED, Outcome.LOST, None)
    assert not agent.marked(), "what it had started is gone too"


async def test_tasks_that_no_record_names_are_ended(make_agent: MakeAgent) -> None:
    agent = make_agent().start()
    spec = shell("echo armed; sleep 1000")
    await agent.engine.submit(spec)
    await until(lambda: _printed(agent, spec, "armed"))
    agent.kill()
    for path in (agent.folder / "state").glob("att_*/*.json"):
        path.unlink()
    agent.start()
    assert await state_of(agent.engine, spec) is None
    await until(lambda: _nothing_marked(agent))


async def test_death_between_record_and_start_does_not_lose_the_task(make_agent: MakeAgent) -> None:
    """The record says that a task was about to be started: if it was, its mark finds it; if not, it is lost."""
    agent = make_agent().start()
    started, unstarted = shell("echo armed; sleep 1000"), shell("echo armed; sleep 1000")
    for spec in (started, unstarted):
        await agent.engine.submit(spec)
        await until(lambda spec=spec: _printed(agent, spec, "armed"))
    pid = (await state_of(agent.engine, unstarted)).ranks[0].pid
    agent.kill()
    os.killpg(pid, signal.SIGKILL)
    for path in (agent.folder / "state").glob("att_*-0/state.json"):
        path.write_text(path.read_text().replace('"pid":', '"was":').replace('"started_at":', '"was_at":'))
    agent.start()
    assert (await state_of(agent.engine, started)).status is GangStatus.RUNNING
    assert (await ended(agent.engine, unstarted)).end.outcome is Outcome.LOST


async def test_an_orderly_stop_ends_all_tasks_and_says_so(make_agent: MakeAgent) -> None:
    agent = make_agent().start()
    polite = shell("trap 'echo bye; exit 0' TERM; echo armed; while :; do sleep 0.05; done")
    stubborn = shell("trap '' TERM; echo armed; while :; do sleep 0.05; done", grace_seconds=0.2)
    for spec in (polite, stubborn):
        await agent.engine.submit(spec)
        await until(lambda spec=spec: _printed(agent, spec, "armed"))
    assert agent.terminate() == 0
    assert not agent.marked()
    agent.start()
    for spec in (polite, stubborn):
        state = await ended(agent.engine, spec)
        assert state.end is not None
        assert (state.end.cause, state.end.outcome) == (EndCause.ENGINE_STOPPED, Outcome.LOST)


async def test_a_drain_survives_a_restart(make_agent: MakeAgent) -> None:
    agent = make_agent().start()
    await agent.engine.drain("local-1", "repair")
    agent.kill()
    agent.start()
    assert (await agent.engine.nodes())[0].reason == "repair"


async def test_the_lifeline_reaches_the_tasks(make_agent: MakeAgent) -> None:
    """The launcher holds the other end: a program of ours that reads the end of it knows that the launcher is gone."""
    agent = make_agent()
    pipe = agent.folder / "lifeline"
    os.mkfifo(pipe)
    agent.options["lifeline"] = str(pipe)
    ours = os.open(pipe, os.O_RDWR)
    agent.start()
    spec = shell('echo armed; cat /proc/self/fd/$SKERRY_LIFELINE_FD; echo "the launcher is gone"')
    await agent.engine.submit(spec)
    await until(lambda: _printed(agent, spec, "armed"))
    os.close(ours)
    state = await ended(agent.engine, spec)
    assert state.end is not None and state.end.outcome is Outcome.SUCCEEDED
    assert "the launcher is gone" in await output(agent.engine, spec)


async def test_gpus_are_shown_to_the_ranks_that_hold_them(make_agent: MakeAgent) -> None:
    agent = make_agent(shared=False, accelerators=4).start()
    script = "echo gpus=$CUDA_VISIBLE_DEVICES"
    spec = shell(script, placements=(Placement("local-1", 2, (1, 2, 3)),))
    await run(agent.engine, spec)
    assert [await output(agent.engine, spec, rank) for rank in (0, 1)] == ["gpus=1,2\n", "gpus=3\n"]
    without = shell(script)
    await run(agent.engine, without)
    assert await output(agent.engine, without) == "gpus=\n"


async def test_rotation_bounds_the_disk_and_keeps_offsets(make_agent: MakeAgent) -> None:
    agent = make_agent(log_bytes=2000, log_parts=2).start()
    # Waits for its log to be rotated after each burst, so that the test does not depend on timing.
    script = (
        'log=/proc/$$/fd/1; i=0; while [ $i -lt 4 ]; do head -c 3000 /dev/zero | tr "\\0" "$i"; '
        'while [ "$(stat -Lc %s $log)" -gt 2000 ]; do sleep 0.02; done; i=$((i+1)); done; echo end'
    )
    spec = shell(script)
    state = await run(agent.engine, spec, seconds=20)
    assert state.ranks[0].log_bytes == 4 * 3000 + 4
    oldest = await agent.engine.logs(spec.attempt, 0, 0, 1 << 20)
    assert oldest.offset == 7_000, "two parts are left, and of each only its last 2,000 bytes"
    last = await agent.engine.logs(spec.attempt, 0, 11_990, 100)
    assert last.data == b"3" * 10 + b"end\n"
    kept = sum(path.stat().st_size for path in (agent.folder / "logs").rglob("*.log"))
    assert kept <= 3 * 2000


@root_only
async def test_root_starts_tasks_as_an_unprivileged_user(make_agent: MakeAgent) -> None:
    user = ensure_user()
    agent = make_agent(run_as=[user.uid, user.gid]).start()
    spec = shell(
        "id -u; id -G; cat $SKERRY_FILES/key; touch $HOME/mine && echo home; echo out >> /dev/stdout; "
        'echo "run_as=$SKERRY_RUN_AS"; echo "{}" > $SKERRY_REPORT; cat /etc/shadow',
        files={"key": "k\n"},
    )
    state = await run(agent.engine, spec)
    lines = (await output(agent.engine, spec)).splitlines()
    assert lines[:6] == [str(user.uid), str(user.gid), "k", "home", "out", "run_as="]
    assert "Permission denied" in lines[6]
    assert state.ranks[0].report == {}


@root_only
async def test_a_program_that_drops_by_itself_is_told_to_whom(make_agent: MakeAgent) -> None:
    user = ensure_user()
    agent = make_agent(run_as=[user.uid, user.gid]).start()
    spec = shell("id -u; echo $SKERRY_RUN_AS; stat -c %u $HOME $SKERRY_FILES", drop=Drop.BY_PROGRAM)
    await run(agent.engine, spec)
    uid = str(user.uid)
    assert (await output(agent.engine, spec)).split() == ["0", f"{user.uid}:{user.gid}", uid, uid]


@root_only
async def test_what_a_program_that_stays_root_acts_on_is_roots(make_agent: MakeAgent) -> None:
    user = ensure_user()
    agent = make_agent(run_as=[user.uid, user.gid]).start()
    spec = shell(
        "id -u; echo ${SKERRY_RUN_AS-nobody}; stat -c '%u %a' $SKERRY_FILES $SKERRY_FILES/order", drop=Drop.NEVER
    )
    spec = replace(spec, files={"order": "make it so"})
    await run(agent.engine, spec)
    assert (await output(agent.engine, spec)).split() == ["0", "nobody", "0", "700", "0", "600"]


@root_only
async def test_a_program_the_user_may_not_execute_ends_with_126(make_agent: MakeAgent) -> None:
    user = ensure_user()
    agent = make_agent(run_as=[user.uid, user.gid]).start()
    private = agent.folder / "private"
    private.write_text("#!/bin/sh\n")
    private.chmod(0o700)
    state = await run(agent.engine, gang_spec(str(private)))
    assert state.end is not None
    assert (state.end.outcome, state.end.exit_code) == (Outcome.FAILED, 126)


async def test_a_fork_bomb_stops_at_its_limit(make_agent: MakeAgent) -> None:
    agent = make_agent().start()
    if not (await agent.engine.capabilities()).process_limit:
        pytest.skip("this machine lets us make no pids control groups")
    spec = shell("for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo all started", limits=Limits(processes=4))
    state = await run(agent.engine, spec)
    assert state.end is not None and state.end.outcome is Outcome.FAILED
    assert "all started" not in await output(agent.engine, spec)


async def test_address_space_can_be_limited_everywhere(make_agent: MakeAgent) -> None:
    agent = make_agent(cgroups=False).start()
    spec = shell("ulimit -v", limits=Limits(address_space_bytes=512 << 20))
    await run(agent.engine, spec)
    assert (await output(agent.engine, spec)).strip() == str(512 << 10)


async def _reported(agent: AgentProcess, spec) -> bool:
    state = await state_of(agent.engine, spec)
    return state is not None and state.ranks[0].report is not None


async def _printed(agent: AgentProcess, spec, text: str) -> bool:
    return text in await output(agent.engine, spec)


async def _nothing_marked(agent: AgentProcess) -> bool:
    return not agent.marked()


async def _gone(pid: int) -> bool:
    """Not a zombie either: init has collected it."""
    return not Path(f"/proc/{pid}").exists()
