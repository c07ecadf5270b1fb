"""What becomes of a job: queued, running, recovering, paused, resumed, ended."""

import pytest

from skerry.compute.engines.base import EndCause, NodeCondition
from skerry.compute.model import Outcome, StopReason
from skerry.training.errors import NotNow, UnknownJob
from skerry.training.model import JobStatus
from skerry.training.reporting import Cause, End, EndReason, LastRestart, RunState
from skerry.training.spec import SPEC_FILE, decode
from tests.training.control.conftest import ask, ms


async def test_a_job_runs_and_succeeds(world):
    view = await world.create(nodes=2, tasks_per_node=2)
    assert view.job.status is JobStatus.RUNNING
    (gang,) = world.engine.submitted
    assert [one.node for one in gang.placements] == ["local-1", "local-2"]
    view = await world.end(view, Outcome.SUCCEEDED, exit_code=0, message="")
    assert (view.job.status, view.job.exit_code) == (JobStatus.SUCCEEDED, 0)
    kinds = [event.type for event in await world.timeline(view) if event.type != "training_job.reason"]
    assert kinds == ["training_job.created", "training_job.running", "training_job.succeeded"]


async def test_supervisors_are_told_all_they_need(world):
    await world.create(tasks_per_node=2, env={"LEARNING_RATE": "0.1"}, max_restarts=7, checkpoint_dir="/ckpt")
    spec = decode(world.engine.submitted[0].files[SPEC_FILE])
    assert (spec.command, spec.tasks_per_node, spec.max_restarts) == (("torchrun", "train.py"), 2, 7)
    assert spec.env == {"LEARNING_RATE": "0.1"}
    assert len(spec.secret) == 64


async def test_a_job_that_finds_no_node_is_queued_and_says_why(world):
    world.engine.node = world.engine.node.__class__(
        "local-1", NodeCondition.DOWN, 4, 1 << 34, (0, 1, 2, 3), shared=False, reason="power"
    )
    view = await world.create(nodes=2)
    assert view.job.status is JobStatus.QUEUED
    assert view.job.reason.code == "no_node"
    assert view.job.reason.message


async def test_what_ran_before_it_was_seen_to_run_was_running(world):
    view = await world.jobs.create(world.customer, ask())
    await world.control.step()
    await world.control.step()
    world.engine.end((await world.newest(view)).id, Outcome.SUCCEEDED, exit_code=0, message="")
    view = await world.settle(view)
    assert view.job.status is JobStatus.SUCCEEDED
    kinds = [event.type for event in await world.timeline(view)]
    assert kinds[-2:] == ["training_job.running", "training_job.succeeded"]


async def test_a_job_that_failed_by_itself_is_not_tried_again(world):
    view = await world.create()
    end = End(reason=EndReason.FAILED, exit_code=3, detail="Rank 0 exited with code 3.", rank=0)
    await world.report(view, state=RunState.ENDED, restarts=3, end=end)
    view = await world.settle(view)
    view = await world.end(view, Outcome.FAILED, exit_code=3, message="exit code 3; last lines of its log:\nboom")
    assert (view.job.status, view.job.exit_code) == (JobStatus.FAILED, 3)
    assert view.job.reason.code == "no_restarts_left"
    assert "Rank 0 exited with code 3." in view.job.reason.message
    assert len(await world.attempts(view)) == 1


async def test_a_command_that_does_not_exist_is_named_so_with_the_log_s_tail(world):
    view = await world.create(command=("nosuch",))
    world.engine.log = b"skerry: nosuch: no such program\n"
    end = End(reason=EndReason.REFUSED, exit_code=127, detail="There is no program nosuch.")
    await world.report(view, state=RunState.ENDED, end=end)
    await world.settle(view)
    view = await world.end(view, Outcome.FAILED, exit_code=127, message="exit code 127")
    assert (view.job.status, view.job.exit_code) == (JobStatus.FAILED, 127)
    assert view.job.reason.code == "command_not_found"
    assert "nosuch: no such program" in view.job.reason.message


async def test_a_job_recovers_without_ceasing_to_run(world):
    view = await world.create()
    last = LastRestart(
        cause=Cause.RANK_KILLED, generation=1, at=ms(world.clock.now()), rank=1, step=10, resumed_step=8, lost_ms=2500,
        ours=True, detail="Rank 1 was killed",
    )  # fmt: skip
    await world.report(view, state=RunState.RECOVERING, restarts=1, generation=2, last_restart=last)
    view = await world.settle(view)
    assert (view.job.status, view.job.reason.code) == (JobStatus.RUNNING, "recovering")
    assert "Rank 1 was killed." in view.job.reason.message
    await world.report(view, state=RunState.RUNNING, restarts=1, generation=2, last_restart=last)
    view = await world.settle(view)
    assert (view.job.status, view.job.reason.code) == (JobStatus.RUNNING, "running")
    assert view.job.restarts == 1
    assert view.job.last_restart.cause == "rank_killed"
    assert view.job.last_restart.lost_seconds == 2.5


async def test_a_lost_node_means_another_attempt_while_the_job_still_runs(world):
    view = await world.create()
    await world.report(view, step=10, checkpoint_step=8)
    world.engine.end((await world.newest(view)).id, Outcome.LOST, EndCause.UNOBSERVED, None, "the node is gone")
    await world.pass_time(1)
    view = await world.settle(view)
    assert view.job.status is JobStatus.RUNNING
    await world.pass_time(3)
    view = await world.settle(view)
    assert len(await world.attempts(view)) == 2
    assert (view.job.status, view.job.restarts) == (JobStatus.RUNNING, 1)
    last = view.job.last_restart
    assert (last.cause, last.step, last.resumed_step, last.our_fault) == ("node_lost", 10, 8, True)
    assert "queued" not in [event.type.rpartition(".")[2] for event in await world.timeline(view)]


async def test_a_loss_after_a_long_run_never_ends_a_job(world):
    view = await world.create()
    for _ in range(8):
        await world.pass_time(300)
        view = await world.lost(view)
        await world.pass_time(400)
        view = await world.settle(view)
    assert view.job.status is JobStatus.RUNNING
    assert len(await world.attempts(view)) == 9


async def test_a_job_that_is_lost_at_once_again_and_again_fails_with_the_reason(world):
    view = await world.create()
    for _ in range(8):
        if view.job.status is JobStatus.FAILED:
            break
        view = await world.lost(view)
        await world.pass_time(400)
        view = await world.settle(view)
    assert (view.job.status, view.job.reason.code) == (JobStatus.FAILED, "node_lost")
    assert len(await world.attempts(view)) == 6


async def test_a_paused_job_holds_nothing_and_goes_on_where_it_was(world):
    view = await world.create()
    await world.report(view, step=10, checkpoint_step=10)
    view = await world.jobs.pause(world.customer, view.job.id)
    assert (await world.report(view, step=10, checkpoint_step=10))["command"] == "checkpoint_and_stop"
    view = await world.settle(view)
    assert (view.job.status, view.job.reason.code) == (JobStatus.RUNNING, "checkpointing")
    view = await world.stopped(view)
    assert view.job.status is JobStatus.PAUSED
    assert "step 10" in view.job.reason.message
    view = await world.settle(await world.jobs.resume(world.customer, view.job.id))
    assert view.job.status is JobStatus.RUNNING
    answer = await world.report(view, state=RunState.STARTING)
    assert answer == {"command": None, "reached_step": 10}
    assert view.job.restarts == 0, "what its owner wanted is no restart"


async def test_a_cancelled_job_ends_for_good(world):
    view = await world.create()
    view = await world.settle(await world.jobs.cancel(world.customer, view.job.id))
    view = await world.stopped(view)
    assert view.job.status is JobStatus.CANCELLED
    for verb in (world.jobs.cancel, world.jobs.pause, world.jobs.resume):
        with pytest.raises(NotNow):
            await verb(world.customer, view.job.id)


async def test_a_queued_job_is_cancelled_at_once(world):
    view = await world.jobs.create(world.customer, ask())
    view = await world.settle(await world.jobs.cancel(world.customer, view.job.id))
    assert view.job.status is JobStatus.CANCELLED


async def test_a_paused_job_can_be_cancelled(world):
    view = await world.create()
    await world.settle(await world.jobs.pause(world.customer, view.job.id))
    view = await world.stopped(view)
    view = await world.settle(await world.jobs.cancel(world.customer, view.job.id))
    assert view.job.status is JobStatus.CANCELLED


@pytest.mark.parametrize(("reason", "code"), [(StopReason.MAX_DURATION, "max_duration"), (StopReason.BUDGET, "budget")])
async def test_time_and_money_that_end_stop_a_job_that_can_be_resumed(world, reason, code):
    view = await world.create()
    async with world.db.transaction() as tx:
        await world.control.compute.stop_workload(tx, view.job.project, view.job.workload, reason)
    await world.settle(view)
    view = await world.stopped(view)
    assert (view.job.status, view.job.reason.code) == (JobStatus.FAILED, code)
    view = await world.settle(await world.jobs.resume(world.customer, view.job.id))
    assert view.job.status is JobStatus.RUNNING


async def test_spot_capacity_that_goes_back_queues_a_job_again(world):
    view = await world.create()
    view = await world.end(view, Outcome.PREEMPTED, cause=EndCause.CANCELLED, message="preempted")
    kinds = [event.type for event in await world.timeline(view)]
    assert "training_job.queued" in kinds
    assert (await world.settle(view)).job.status is JobStatus.RUNNING, "there is other capacity"
    assert view.job.restarts == 0


async def test_nobody_else_finds_it(world):
    view = await world.create()
    with pytest.raises(UnknownJob):
        await world.jobs.get(world.people.operator, view.job.id)
