"""Real ranks with real torch on real text, and what can happen to them."""

import os
import random
import signal
import time
from contextlib import suppress

import pytest

from skerry.training.reporting import Cause, EndReason, EventType, Exit, Loss, RunState
from tests.training.supervisor.jobs import QUICK_HANG
from tests.waiting import eventually_sync

TRAIN = ("torchrun", "--nproc-per-node=1", "train_text.py", "--width", "32", "--layers", "1", "--save-every", "4")


@pytest.fixture(scope="module")
def undisturbed(zygote, tmp_path_factory):
    """Losses by step of two ranks that nothing happens to: on one node, which must make no difference."""
    from tests.training.supervisor.jobs import ControlPlane, job_of

    plane = ControlPlane()
    with job_of(zygote, plane, tmp_path_factory.mktemp("undisturbed"))(
        "python", "train_text.py", *TRAIN[3:], "--steps", "16", tasks_per_node=2
    ) as job:
        assert job.wait() == [0]
        losses = job.losses()
    plane.close()
    assert len(losses) == 16
    return losses


@pytest.mark.parametrize("how", ["ddp", "fsdp2"])
def test_a_killed_rank_costs_time_and_changes_nothing(run, undisturbed, how):
    options = ["--shard"] if how == "fsdp2" else []
    with run(*TRAIN, *options, "--steps", "16", nodes=2) as job:
        job.until('"step": 10,')
        os.kill(job.ranks()[1], signal.SIGKILL)
        assert job.wait() == [0, 0]

    assert {step: round(loss, 5) for step, loss in job.losses().items()} == {
        step: round(loss, 5) for step, loss in undisturbed.items()
    }
    last = job.last
    assert (last.state, last.step, last.restarts, last.end.reason) == (RunState.ENDED, 16, 1, EndReason.SUCCEEDED)
    restart = last.last_restart
    assert (restart.cause, restart.rank, restart.node, restart.signal) == (Cause.RANK_KILLED, 1, "local-2", 9)
    assert restart.ours and restart.resumed_step in (4, 8) and restart.step >= 10 and restart.lost_ms > 0
    assert last.goodput.total_ms == last.goodput.productive_ms + sum(last.goodput.losses.values())
    assert {Loss.STARTUP, Loss.RESTART, Loss.REDONE} <= set(last.goodput.losses)
    assert [event["generation"] for event in job.events(EventType.RECOVERED)] == [2]
    assert not job.left()


def test_a_rank_that_hangs_is_found_explained_and_begun_anew(run, undisturbed):
    with run(*TRAIN, "--steps", "16", nodes=2, hang=QUICK_HANG) as job:
        job.until('"step": 6,')
        os.kill(job.ranks()[1], signal.SIGSTOP)
        assert job.wait() == [0, 0]

    (hang,) = job.events(EventType.HANG_DETECTED)
    states = {one["rank"]: one["process_state"] for one in hang["ranks"]}
    assert states[1] == "T" and states[0] != "T"
    assert "[rank 0]   File" in job.log() and "train_text.py" in job.log(), "stacks are in the log"
    assert job.last.last_restart.cause is Cause.HANG
    assert job.last.goodput.losses[Loss.HANG] >= 4000
    assert round(job.losses()[16], 5) == round(undisturbed[16], 5)


def test_a_stop_waits_for_a_complete_checkpoint_and_leaves_nothing(run, undisturbed):
    with run(*TRAIN, "--steps", "100000", nodes=2, grace_seconds=30.0) as job:
        job.until('"step": 3,')
        before = job.family()
        os.kill(job.pids[1], signal.SIGTERM)  # whichever node hears of it first
        assert job.wait() == [Exit.STOPPED, Exit.STOPPED]
        assert len(before) >= 6 and not job.left()
    end = job.last.end
    assert end.reason is EndReason.STOPPED and "complete checkpoint" in end.detail
    saved = job.last.checkpoint_step
    assert (job.checkpoints / f"step_{saved}" / ".metadata").is_file()
    stopped = job.losses()[saved]
    assert saved > 16 or round(stopped, 5) == round(undisturbed[saved], 5)


def test_the_control_plane_can_ask_for_the_stop(run, plane):
    with run(*TRAIN, "--steps", "100000", grace_seconds=30.0) as job:
        job.until('"step": 3,')
        plane.command = "checkpoint_and_stop"
        assert job.wait() == [Exit.STOPPED]
    assert {event["asked_by"] for event in job.events(EventType.STOPPING)} == {"local-1"}


def test_reports_go_on_where_they_were_when_the_control_plane_was_away(run, plane):
    plane.away = 3
    with run(*TRAIN, "--steps", "6") as job:
        assert job.wait() == [0]
    sequence = [report.seq for report in plane.reports]
    assert sequence[:4] == [1, 1, 1, 1], "sent again as it was until it is answered"
    assert sorted(set(sequence)) == list(range(1, max(sequence) + 1))
    assert set(job.losses()) == set(range(1, 7))
    assert plane.tokens == {"Bearer a-token"}


def test_nothing_survives_a_supervisor_that_was_killed(run):
    with run(*TRAIN, "--steps", "100000", nodes=2, rejoin_seconds=1.0) as job:
        job.until('"step": 2,')
        family = job.family()
        os.kill(job.pids[1], signal.SIGKILL)
        codes = job.wait()
        assert codes == [Exit.LOST_PEER, -signal.SIGKILL]
        eventually_sync(lambda: not job.left())
        assert len(family) >= 6
    assert job.last.end.reason is EndReason.LOST_PEER and job.last.end.ours
    assert "local-2" in job.last.end.detail


@pytest.mark.soak
@pytest.mark.parametrize("how", ["ddp", "fsdp2"])
def test_kills_at_any_moment_change_nothing(run, undisturbed, how):
    """During a save, during a start, twice in a row: whenever it hits."""
    seed = int(os.environ.get("SKERRY_SEED", "1"))
    for number in range(int(os.environ.get("SKERRY_ROUNDS", "3"))):
        print(f"seed {seed}, round {number}")
        chance = random.Random(seed * 1_000 + number)
        options = ["--shard"] if how == "fsdp2" else []
        arguments = [word if word != "4" else "2" for word in TRAIN]  # half of the time it is saving
        with run(*arguments, *options, "--steps", "16", nodes=2) as job:
            job.until('"step": 2,')
            for _ in range(chance.randint(1, 3)):
                time.sleep(chance.uniform(0, 1.5))
                ranks = job.ranks()
                if ranks:
                    with suppress(ProcessLookupError):
                        os.kill(ranks[chance.choice(sorted(ranks))], signal.SIGKILL)
            assert job.wait(180.0) == [0, 0]
            assert not job.left()
        assert round(job.losses()[16], 5) == round(undisturbed[16], 5)
