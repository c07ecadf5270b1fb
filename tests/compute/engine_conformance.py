"""What every engine must do. A test module subclasses `EngineConformance` beside a fixture `engine`."""

import asyncio
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from skerry.compute.engines.base import (
    BadGang,
    EndCause,
    Engine,
    GangStatus,
    Limits,
    NodeCondition,
    NodeNotReady,
    NodeReservation,
    Placement,
    ReservationRefused,
    UnknownAttempt,
)
from skerry.compute.model import Outcome
from skerry.kernel.ids import AttemptId, new_id
from tests.compute.gangs import ended, gang_spec, output, run, shell, started, state_of, until

ON_SECOND = (Placement("local-2", 1),)
ON_THREE = (Placement("local-3", 1), Placement("local-1", 2), Placement("local-2", 1))


class EngineConformance:
    """`engine` has four nodes, `local-1` to `local-4`."""

    # Starting

    async def test_names_itself_and_its_nodes(self, engine: Engine) -> None:
        assert (await engine.capabilities()).engine == engine.name
        nodes = await engine.nodes()
        assert nodes
        assert all(node.condition is NodeCondition.READY and node.cores and node.memory_bytes for node in nodes)

    async def test_a_submit_that_is_repeated_runs_once(self, engine: Engine, open_tmp: Path) -> None:
        counter = open_tmp / new_id("count")
        spec = shell(f"echo started >> {counter}; sleep 0.1")
        refs = await asyncio.gather(*(engine.submit(spec) for _ in range(5)))
        await ended(engine, spec)
        refs.append(await engine.submit(spec))
        assert len(set(refs)) == 1
        assert counter.read_text() == "started\n"

    async def test_an_attempt_cancelled_before_its_submit_never_runs(self, engine: Engine, open_tmp: Path) -> None:
        trace = open_tmp / new_id("trace")
        spec = shell(f"touch {trace}")
        await engine.cancel(spec.attempt, 1)
        state = await run(engine, spec)
        assert state.end is not None and state.end.outcome is Outcome.CANCELLED
        assert not trace.exists()

    async def test_a_forgotten_attempt_is_not_started_again(self, engine: Engine, open_tmp: Path) -> None:
        counter = open_tmp / new_id("count")
        spec = shell(f"echo started >> {counter}")
        await run(engine, spec)
        await engine.forget(spec.attempt)
        await engine.forget(spec.attempt)
        await engine.submit(spec)
        assert await state_of(engine, spec) is None
        assert spec.attempt not in await engine.known()
        assert counter.read_text() == "started\n"

    async def test_a_running_attempt_cannot_be_forgotten(self, engine: Engine) -> None:
        spec = shell("sleep 60")
        await engine.submit(spec)
        with pytest.raises(Exception, match="has not ended"):
            await engine.forget(spec.attempt)

    async def test_unknown_nodes_and_bad_gangs_are_refused(self, engine: Engine) -> None:
        with pytest.raises(NodeNotReady):
            await engine.submit(shell("true", placements=(Placement("nowhere", 1),)))
        for bad in (
            gang_spec(),
            gang_spec("/bin/true", "a\0b"),
            shell("true", env={"A=B": "c"}),
            shell("true", files={"../escape": "x"}),
            shell("true", limits=Limits(memory_bytes=0)),
            shell("true", attempt=AttemptId("../../etc")),
        ):
            with pytest.raises(BadGang):
                await engine.submit(bad)

    # Ending

    @pytest.mark.parametrize(
        ("script", "outcome", "code"),
        [
            ("exit 0", Outcome.SUCCEEDED, 0),
            ("exit 3", Outcome.FAILED, 3),
            ("kill -SEGV $$", Outcome.FAILED, 139),
            ("kill -KILL $$", Outcome.LOST, 137),
        ],
    )
    async def test_the_end_is_judged(self, engine: Engine, script: str, outcome: Outcome, code: int) -> None:
        state = await run(engine, shell(script))
        assert state.end is not None
        assert (state.end.outcome, state.end.exit_code) == (outcome, code)
        assert state.ranks[0].started_at is not None and state.ranks[0].started_at <= state.end.at

    async def test_a_command_that_does_not_exist_ends_with_127(self, engine: Engine) -> None:
        state = await run(engine, gang_spec("/no/such/program"))
        assert state.end is not None
        assert (state.end.cause, state.end.outcome, state.end.exit_code) == (EndCause.NOT_STARTED, Outcome.FAILED, 127)
        assert "/no/such/program" in state.end.message

    async def test_a_kill_that_its_owner_asked_for_is_not_our_fault(self, engine: Engine) -> None:
        spec = shell("sleep 60")
        await engine.submit(spec)
        await engine.signal(spec.attempt, signal.SIGKILL)
        state = await ended(engine, spec)
        assert state.end is not None
        assert (state.end.outcome, state.end.signal) == (Outcome.FAILED, signal.SIGKILL)

    async def test_signals_reach_the_task(self, engine: Engine) -> None:
        spec = shell("trap 'echo got it; exit 5' USR1; echo armed; while :; do sleep 0.05; done")
        await engine.submit(spec)
        await until(lambda: _has(engine, spec, "armed"))
        await engine.signal(spec.attempt, signal.SIGUSR1)
        state = await ended(engine, spec)
        assert state.end is not None and state.end.exit_code == 5
        assert "got it" in await output(engine, spec)
        with pytest.raises(UnknownAttempt):
            await engine.signal(AttemptId(new_id("att")), signal.SIGTERM)

    async def test_more_memory_than_allowed_is_out_of_memory(self, engine: Engine) -> None:
        hog = "x = bytearray(400 << 20); print('survived')"
        state = await run(engine, gang_spec(sys.executable, "-c", hog, limits=Limits(memory_bytes=64 << 20)))
        enforced = (await engine.capabilities()).memory_limit
        expected = Outcome.OUT_OF_MEMORY if enforced else Outcome.SUCCEEDED
        assert state.end is not None and state.end.outcome is expected, "an engine says what it cannot enforce"
        roomy = await run(engine, gang_spec(sys.executable, "-c", hog, limits=Limits(memory_bytes=900 << 20)))
        assert roomy.end is not None and roomy.end.outcome is Outcome.SUCCEEDED

    async def test_used_up_cpu_time_is_timed_out(self, engine: Engine) -> None:
        state = await run(engine, shell("while :; do :; done", limits=Limits(cpu_seconds=1)))
        assert state.end is not None
        assert (state.end.cause, state.end.outcome) == (EndCause.CPU_LIMIT, Outcome.TIMED_OUT)

    # Cancelling

    async def test_cancel_lets_a_task_end_by_itself(self, engine: Engine) -> None:
        spec = shell("trap 'echo bye; exit 0' TERM; echo armed; while :; do sleep 0.05; done")
        await engine.submit(spec)
        await until(lambda: _has(engine, spec, "armed"))
        await engine.cancel(spec.attempt, 30)
        state = await ended(engine, spec)
        assert state.end is not None
        assert (state.end.outcome, state.end.exit_code) == (Outcome.CANCELLED, 0)
        assert "bye" in await output(engine, spec)

    async def test_cancel_reaps_what_ignores_it_and_what_has_left_the_group(self, engine: Engine) -> None:
        script = "trap '' TERM; setsid sleep 1000 & (sleep 1001 &) ; echo $!; echo armed; sleep 1002; sleep 1003"
        spec = shell(script)
        await engine.submit(spec)
        await until(lambda: _has(engine, spec, "armed"))
        await engine.cancel(spec.attempt, 0.1)
        state = await ended(engine, spec)
        assert state.end is not None
        assert (state.end.outcome, state.end.signal) == (Outcome.CANCELLED, signal.SIGKILL)
        assert not _processes_of(spec.attempt)

    async def test_what_a_task_leaves_running_ends_with_it(self, engine: Engine) -> None:
        spec = shell("setsid sleep 1000 & sleep 1001 & exit 0")
        state = await run(engine, spec)
        assert state.end is not None and state.end.outcome is Outcome.SUCCEEDED
        assert not _processes_of(spec.attempt)

    async def test_cancel_of_an_ended_attempt_changes_nothing(self, engine: Engine) -> None:
        spec = shell("exit 3")
        before = await run(engine, spec)
        await engine.cancel(spec.attempt, 1)
        assert await state_of(engine, spec) == before

    # Gangs

    async def test_ranks_know_their_place(self, engine: Engine) -> None:
        spec = shell("echo $SKERRY_RANK of $SKERRY_TASKS", placements=(Placement("local-1", 3),))
        state = await run(engine, spec)
        assert [rank.rank for rank in state.ranks] == [0, 1, 2]
        assert [await output(engine, spec, rank) for rank in range(3)] == ["0 of 3\n", "1 of 3\n", "2 of 3\n"]

    async def test_a_rank_that_fails_ends_the_gang(self, engine: Engine) -> None:
        spec = shell("test $SKERRY_RANK = 1 && exit 9; sleep 1000", placements=(Placement("local-1", 3),))
        state = await run(engine, spec)
        assert state.end is not None
        assert (state.end.outcome, state.end.exit_code) == (Outcome.FAILED, 9)
        causes = [rank.end.cause for rank in state.ranks if rank.end]
        assert causes == [EndCause.PEER_ENDED, EndCause.EXITED, EndCause.PEER_ENDED]

    async def test_a_gang_that_cannot_start_whole_does_not_start(self, engine: Engine) -> None:
        state = await run(engine, gang_spec("/no/such/program", placements=(Placement("local-1", 3),)))
        assert all(rank.pid is None and rank.end is not None for rank in state.ranks)
        assert state.end is not None and state.end.exit_code == 127

    async def test_ranks_count_through_the_nodes(self, engine: Engine) -> None:
        spec = shell("echo $SKERRY_RANK of $SKERRY_TASKS", placements=ON_THREE)
        state = await run(engine, spec)
        assert state.end is not None and state.end.outcome is Outcome.SUCCEEDED
        assert [rank.node for rank in state.ranks] == ["local-3", "local-1", "local-1", "local-2"]
        assert [await output(engine, spec, rank) for rank in range(4)] == [f"{rank} of 4\n" for rank in range(4)]

    async def test_ranks_know_the_nodes_of_their_gang(self, engine: Engine) -> None:
        spec = shell("env | grep ^SKERRY_NODE | sort", placements=ON_THREE, env={"SKERRY_NODE_NAMES": "elsewhere"})
        await run(engine, spec)
        for rank, (number, name) in enumerate([(0, "local-3"), (1, "local-1"), (1, "local-1"), (2, "local-2")]):
            assert dict(line.split("=") for line in (await output(engine, spec, rank)).splitlines()) == {
                "SKERRY_NODES": "3",
                "SKERRY_NODE_RANK": str(number),
                "SKERRY_NODE_NAME": name,
                "SKERRY_NODE_NAMES": "local-3,local-1,local-2",
                "SKERRY_NODE_ADDRESSES": "127.0.0.1,127.0.0.1,127.0.0.1",
            }

    async def test_every_rank_of_a_gang_reports(self, engine: Engine) -> None:
        script = 'echo "{\\"rank\\": $SKERRY_RANK}" > $SKERRY_REPORT; sleep 1000'
        spec = shell(script, placements=ON_THREE)
        await engine.submit(spec)

        async def all_of_them() -> bool:
            state = await state_of(engine, spec)
            return state is not None and [rank.report for rank in state.ranks] == [{"rank": rank} for rank in range(4)]

        await until(all_of_them)
        await engine.cancel(spec.attempt, 0)
        await ended(engine, spec)

    async def test_a_rank_that_fails_ends_the_gang_on_all_nodes(self, engine: Engine) -> None:
        spec = shell("test $SKERRY_RANK = 3 && exit 9; sleep 1000", placements=ON_THREE)
        state = await run(engine, spec)
        assert state.end is not None and (state.end.outcome, state.end.exit_code) == (Outcome.FAILED, 9)
        causes = [rank.end.cause for rank in state.ranks if rank.end]
        assert causes == [EndCause.PEER_ENDED] * 3 + [EndCause.EXITED]
        assert not _processes_of(spec.attempt)

    async def test_a_gang_starts_on_all_its_nodes_or_on_none(self, engine: Engine, open_tmp: Path) -> None:
        trace = open_tmp / new_id("trace")
        await engine.drain("local-2", "a fan is loud")
        try:
            with pytest.raises(NodeNotReady, match="a fan is loud"):
                await engine.submit(shell(f"touch {trace}", placements=ON_THREE))
        finally:
            await engine.resume("local-2")
        state = await run(engine, gang_spec("/no/such/program", placements=ON_THREE))
        assert state.end is not None and state.end.exit_code == 127
        assert all(rank.pid is None and rank.end is not None for rank in state.ranks)
        assert not trace.exists()

    async def test_cancel_ends_a_gang_on_all_its_nodes(self, engine: Engine) -> None:
        spec = shell("trap '' TERM; (setsid sleep 1000 &); sleep 1001", placements=ON_THREE)
        await started(engine, spec)
        await engine.cancel(spec.attempt, 0.1)
        state = await ended(engine, spec)
        assert state.end is not None and state.end.outcome is Outcome.CANCELLED
        assert not _processes_of(spec.attempt)

    # Reservations

    async def test_a_reservation_has_the_nodes_it_was_asked_for(self, engine: Engine) -> None:
        wanted = _reservation("local-2", "local-4")
        await engine.reserve(wanted)
        try:
            await engine.reserve(wanted)
            (made,) = [one for one in await engine.reservations() if one.name == wanted.name]
            assert sorted(made.nodes) == ["local-2", "local-4"] and made.end == wanted.end
            for other in (
                replace(wanted, nodes=("local-2",)),
                replace(wanted, name="sk_other", nodes=("local-1", "local-2")),
            ):
                with pytest.raises(ReservationRefused):
                    await engine.reserve(other)
            assert [one.name for one in await engine.reservations()] == [wanted.name], "none in part"
        finally:
            await engine.release(wanted.name)
        await engine.release(wanted.name)
        assert not await engine.reservations()

    async def test_a_reservation_of_an_unknown_node_is_refused_whole(self, engine: Engine) -> None:
        with pytest.raises(NodeNotReady):
            await engine.reserve(_reservation("local-2", "nowhere"))
        assert not await engine.reservations()

    async def test_only_who_names_a_reservation_runs_inside_it(self, engine: Engine, open_tmp: Path) -> None:
        wanted, trace = _reservation("local-2"), open_tmp / new_id("trace")
        with pytest.raises(ReservationRefused):
            await engine.submit(shell("exit 0", placements=ON_SECOND, reservation=wanted.name))
        await engine.reserve(wanted)
        try:
            outsider = shell(f"touch {trace}", placements=ON_SECOND)
            with suppress(NodeNotReady):  # or it is queued
                await engine.submit(outsider)
            state = await run(engine, shell("exit 0", placements=ON_SECOND, reservation=wanted.name))
            assert state.end is not None and state.end.outcome is Outcome.SUCCEEDED
            assert not trace.exists()
            await engine.cancel(outsider.attempt, 0)
        finally:
            await engine.release(wanted.name)

    # Fencing

    async def test_fencing_ends_all_on_a_node_and_nothing_beside_it(self, engine: Engine) -> None:
        alone, gang = shell("trap '' TERM; sleep 1000", placements=ON_SECOND), shell("sleep 1001", placements=ON_THREE)
        beside = shell("sleep 1002")
        for spec in (alone, gang, beside):
            await started(engine, spec)
        await engine.fence("local-2", "it smells burnt")
        try:
            assert not _processes_of(alone.attempt)
            for spec in (alone, gang):
                state = await ended(engine, spec)
                assert state.end is not None and state.end.outcome is Outcome.LOST
            state = await state_of(engine, beside)
            assert state is not None and state.status is GangStatus.RUNNING
            node = next(node for node in await engine.nodes() if node.name == "local-2")
            assert (node.condition, node.reason) == (NodeCondition.DRAINED, "it smells burnt")
        finally:
            await engine.resume("local-2")
        with pytest.raises(NodeNotReady):
            await engine.fence("nowhere", "")

    # What a task gets

    async def test_the_environment_is_an_allow_list(self, engine: Engine) -> None:
        spec = gang_spec("/usr/bin/env", env={"GREETING": "hello", "SKERRY_RANK": "7"})
        await run(engine, spec)
        lines = dict(line.split("=", 1) for line in (await output(engine, spec)).splitlines())
        assert lines["GREETING"] == "hello"
        assert lines["SKERRY_RANK"] == "0", "what Skerry sets stays"
        gpus = set() if (await engine.nodes())[0].shared else {"CUDA_VISIBLE_DEVICES"}
        ours = gpus | {"PATH", "LANG", "HOME", "SKERRY_ENGINE", "SKERRY_ATTEMPT", "SKERRY_RANK", "SKERRY_TASKS"}
        ours |= {"SKERRY_NODES", "SKERRY_NODE_RANK", "SKERRY_NODE_NAME", "SKERRY_NODE_NAMES", "SKERRY_NODE_ADDRESSES"}
        assert set(lines) == ours | {"SKERRY_DEVICES", "SKERRY_REPORT", "SKERRY_FILES", "GREETING"}

    async def test_secret_files_are_private_and_go_with_the_task(self, engine: Engine) -> None:
        script = 'ls -ld $HOME $SKERRY_FILES $SKERRY_FILES/* | cut -c1-10; cat "$SKERRY_FILES/key"; echo; echo $HOME'
        spec = shell(script, files={"key": "s3cret"})
        await run(engine, spec)
        *lines, home = (await output(engine, spec)).splitlines()
        assert lines == ["drwx------", "drwx------", "-rw-------", "s3cret"]
        assert not Path(home).exists()

    async def test_standard_input_is_empty_and_limits_are_set(self, engine: Engine) -> None:
        spec = shell("cat; ulimit -c; ulimit -n; umask", limits=Limits(open_files=64))
        await run(engine, spec)
        assert (await output(engine, spec)).split() == ["0", "64", "0077"]

    async def test_a_report_is_picked_up_and_may_be_replaced(self, engine: Engine) -> None:
        spec = shell(
            'echo \'{"addr\' > $SKERRY_REPORT; sleep 0.1; echo \'{"address": "http://127.0.0.1:1"}\' > $SKERRY_REPORT;'
            'trap \'echo "{\\"address\\": 2}" > $SKERRY_REPORT; exit 0\' USR1; while :; do sleep 0.05; done'
        )
        await engine.submit(spec)
        state = await until(lambda: _reported(engine, spec))
        assert state.ranks[0].report == {"address": "http://127.0.0.1:1"}
        await engine.signal(spec.attempt, signal.SIGUSR1)
        assert (await ended(engine, spec)).ranks[0].report == {"address": 2}

    async def test_a_report_that_is_no_small_json_object_is_ignored(self, engine: Engine) -> None:
        scripts = (
            "echo '[1]' > $SKERRY_REPORT",
            "ln -s /etc/passwd $SKERRY_REPORT",
            "mkfifo $SKERRY_REPORT",
            "head -c 100000 /dev/zero > $SKERRY_REPORT",
        )
        states = await asyncio.gather(*(run(engine, shell(f"{script}; sleep 0.1")) for script in scripts))
        assert [state.ranks[0].report for state in states] == [None] * len(scripts)

    # Logs

    async def test_logs_are_read_by_rank_and_offset(self, engine: Engine) -> None:
        spec = shell("printf abcdef; printf ghi >&2")
        await run(engine, spec)
        chunk = await engine.logs(spec.attempt, 0, 2, 3)
        assert (chunk.data, chunk.offset, chunk.next_offset, chunk.size, chunk.ended) == (b"cde", 2, 5, 9, True)
        at_end = await engine.logs(spec.attempt, 0, 9, 100)
        assert (at_end.data, at_end.offset) == (b"", 9)
        with pytest.raises(UnknownAttempt):
            await engine.logs(spec.attempt, 1, 0, 10)
        with pytest.raises(UnknownAttempt):
            await engine.logs(AttemptId(new_id("att")), 0, 0, 10)

    async def test_logs_outlive_the_attempt(self, engine: Engine) -> None:
        spec = shell("echo kept")
        await run(engine, spec)
        await engine.forget(spec.attempt)
        chunk = await engine.logs(spec.attempt, 0, 0, 100)
        assert (chunk.data, chunk.ended) == (b"kept\n", True)

    # Nodes and events

    async def test_a_drained_node_takes_nothing_new_and_keeps_what_it_has(self, engine: Engine) -> None:
        node = (await engine.nodes())[0].name
        running = shell("sleep 1000")
        await started(engine, running)
        await engine.drain(node, "a fan is loud")
        try:
            state = next(n for n in await engine.nodes() if n.name == node)
            assert (state.condition, state.reason) == (NodeCondition.DRAINED, "a fan is loud")
            with pytest.raises(NodeNotReady, match="a fan is loud"):
                await engine.submit(shell("true"))
            still = await state_of(engine, running)
            assert still is not None and still.status is GangStatus.RUNNING
        finally:
            await engine.resume(node)
        state = await run(engine, shell("exit 0"))
        assert state.end is not None and state.end.outcome is Outcome.SUCCEEDED

    async def test_events_tell_which_attempts_changed(self, engine: Engine) -> None:
        start = await engine.events("", 0)
        spec = shell("exit 0")
        waiting = asyncio.create_task(engine.events(start.cursor, 10))
        await engine.submit(spec)
        batch = await waiting
        while spec.attempt not in batch.attempts:  # an earlier test's attempts may still be on their way out
            assert batch.attempts and not batch.reset
            batch = await engine.events(batch.cursor, 10)
        await ended(engine, spec)

        async def quiet() -> bool:
            nonlocal batch
            batch = await engine.events(batch.cursor, 0.05)
            return not batch.attempts

        await until(quiet)
        assert (await engine.events("strange.1", 0)).reset

    async def test_known_lists_what_has_not_been_forgotten(self, engine: Engine) -> None:
        specs = [shell("exit 0"), shell("sleep 1000")]
        for spec in specs:
            await engine.submit(spec)
        known = await engine.known()
        assert {spec.attempt for spec in specs} <= set(known)
        assert AttemptId(new_id("att")) not in await engine.observe([AttemptId(new_id("att"))])


def _reservation(*nodes: str) -> NodeReservation:
    """For the next hour."""
    begin = datetime.now(UTC).replace(microsecond=0)
    return NodeReservation(new_id("sk"), nodes, begin, begin + timedelta(hours=1))


async def _has(engine: Engine, spec, text: str) -> bool:
    return text in await output(engine, spec)


async def _reported(engine: Engine, spec):
    state = await state_of(engine, spec)
    return state if state is not None and state.ranks[0].report else None


def _processes_of(attempt: str) -> list[str]:
    mark = f"SKERRY_ATTEMPT={attempt}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((entry / "cmdline").read_bytes().decode())
            except OSError:
                continue
    return found
