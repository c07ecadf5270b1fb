"""Wrapped tasks under a real agent: the engine sees of them what it would see of the command itself."""

from collections.abc import Callable

import pytest

from skerry.compute.engines.base import EndCause, GangSpec, GangState, GangStatus
from skerry.compute.model import Attempt, Drop, Outcome, WorkloadKind, WorkloadSpec
from skerry.compute.task.order import TaskOrder
from skerry.compute.task.wrapping import Roots, WrapContext, wrapped
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import AttemptId, ProjectId, WorkloadId
from tests.compute.agents import AgentProcess
from tests.compute.gangs import ended, gang_spec, state_of, until
from tests.compute.task.conftest import SANDBOX, user

pytestmark = pytest.mark.skipif(not SANDBOX, reason="bubblewrap does not work on this machine")


def wrapped_gang(script: str, **changes: object) -> GangSpec:
    spec = WorkloadSpec(kind=WorkloadKind.JOB, name="j", resource="r", command=("sh", "-c", script), customer_code=True)
    attempt = Attempt(
        AttemptId("att"), WorkloadId("wl"), ProjectId("proj"), 1, "embedded", ("local-1",), 0, (), FakeClock().now()
    )
    roots = Roots(state="/var/lib/skerry-test")
    made = wrapped(spec, attempt, WrapContext("http://127.0.0.1:9", "snt_x", roots, user(3)), {"given.json": "{}"})
    return gang_spec(*made.command, env=made.env, files=made.files, drop=made.drop, **changes)


async def log_of(agent: AgentProcess, spec: GangSpec) -> str:
    return (await agent.engine.logs(spec.attempt, 0, 0, 1 << 16)).data.decode()


@pytest.fixture
def agent(make_agent: Callable[..., AgentProcess]) -> AgentProcess:
    return make_agent(nodes=1, cgroups=False).start()


async def test_an_agent_says_that_it_isolates(agent: AgentProcess) -> None:
    assert (await agent.engine.capabilities()).isolation


async def test_ends_reports_and_signals_are_the_command_s(agent: AgentProcess) -> None:
    cases = {
        "echo $SKERRY_RANK; cat $SKERRY_FILES/given.json; exit 5": (EndCause.EXITED, Outcome.FAILED, 5),
        "echo '{\"a\": 1}' > $SKERRY_REPORT": (EndCause.EXITED, Outcome.SUCCEEDED, 0),
        "kill -KILL $$": (EndCause.SIGNALLED, Outcome.LOST, 137),
        "exit 137": (EndCause.EXITED, Outcome.FAILED, 137),
        "exec no-such-program": (EndCause.EXITED, Outcome.FAILED, 127),
    }
    gangs = {script: wrapped_gang(script) for script in cases}
    for gang in gangs.values():
        await agent.engine.submit(gang)
    for script, expected in cases.items():
        state = await ended(agent.engine, gangs[script])
        end = state.end
        assert end is not None and (end.cause, end.outcome, end.exit_code) == expected, await log_of(
            agent, gangs[script]
        )
        if "REPORT" in script:
            assert state.ranks[0].report == {"a": 1}
    assert not agent.marked()


async def test_a_cancelled_task_has_its_grace_and_leaves_nothing(agent: AgentProcess) -> None:
    gang = wrapped_gang(
        "trap 'echo saved; exit 0' TERM; setsid sleep 600 & echo up; while :; do sleep 0.05; done", grace_seconds=30.0
    )
    await agent.engine.submit(gang)
    await until(lambda: _logged(agent, gang, "up"))
    await agent.engine.cancel(gang.attempt, 30.0)
    state = await ended(agent.engine, gang)
    assert state.end is not None and state.end.outcome is Outcome.CANCELLED
    assert "saved" in await log_of(agent, gang)
    assert not agent.marked()


async def test_a_restarted_agent_adopts_it_and_sees_its_end(agent: AgentProcess) -> None:
    gang = wrapped_gang("echo up; until [ -e $HOME/go ]; do sleep 0.05; done; exit 4")
    await agent.engine.submit(gang)
    await until(lambda: _logged(agent, gang, "up"))
    agent.kill()
    agent.start()
    state = await state_of(agent.engine, gang)
    assert state is not None and state.ranks[0].adopted and state.status is GangStatus.RUNNING
    await agent.engine.cancel(gang.attempt, 0.0)
    assert (await ended(agent.engine, gang)).status is GangStatus.ENDED
    assert not agent.marked()


async def _logged(agent: AgentProcess, gang: GangSpec, words: str) -> bool:
    state: GangState | None = await state_of(agent.engine, gang)
    assert state is not None and state.status is not GangStatus.ENDED, await log_of(agent, gang)
    return words in await log_of(agent, gang)


def test_nothing_of_the_customer_is_in_arguments_or_environment() -> None:
    gang = wrapped_gang("echo secret")
    assert gang.env == {} and gang.drop is Drop.NEVER
    assert not [part for part in gang.command if "secret" in part]
    assert TaskOrder.from_json(gang.files["task.json"]).command == ("sh", "-c", "echo secret")
