"""What a supervisor does with programs that fail, end, wait, or are not there. They are small and need no torch."""

import json
import os
import signal
from pathlib import Path

import pytest

from skerry.training.reporting import Cause, EndReason, EventType, Exit, RunState
from skerry.training.spec import HangSettings, Launcher
from tests.training.rules.test_training_tensorboard import WRITTEN
from tests.waiting import eventually_sync


@pytest.fixture
def source(tmp_path):
    """`source("code")` is the folder of a job whose `train.py` is that."""

    def write(code: str) -> Path:
        folder = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        (folder / "train.py").write_text(code)
        return folder

    return write


GENERATION = "import os, sys, time\ngeneration, rank = int(os.environ['SKERRY_GENERATION']), int(os.environ['RANK'])\n"


def test_a_program_that_fails_is_tried_again_and_its_own_code_is_the_end(run, source):
    folder = source("print('at work')\nraise KeyError('column')\n")
    with run("python", "train.py", folder=folder, tasks_per_node=2, max_restarts=1) as job:
        assert job.wait() == [1]
    end = job.last.end
    assert (end.reason, end.cause, end.node) == (EndReason.FAILED, Cause.RANK_FAILED, "local-1")
    assert "KeyError: 'column'" in end.detail
    assert "1 restarts within 60 min are used up" in end.detail
    assert [event["counted"] for event in job.events(EventType.RANKS_LOST)] == [True, True]
    assert [event["seconds"] for event in job.events(EventType.BACKING_OFF)] == [1.0]
    log = job.log()
    assert "[rank 0] at work" in log or "[rank 1] at work" in log
    assert "forkserver" not in log and "runpy" not in log, "a traceback shows the customer's frames only"
    assert json.loads((job.work / "node-0" / "report.json").read_text())["end"]["reason"] == "failed"


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("import sys; sys.exit(7)", 7), ("import sys; sys.exit('no data')", 1), ("import os; os.abort()", 134)],
)
def test_an_exit_code_is_passed_on(run, source, code, exit_code):
    with run("train.py", folder=source(code), max_restarts=0) as job:
        assert job.wait() == [exit_code]
    assert job.last.end.exit_code == exit_code


@pytest.mark.parametrize(
    ("command", "launcher"), [("train.py", "torchrun"), ("./nothing", "none"), ("nope", "torchrun")]
)
def test_what_is_not_there_is_said_at_once_with_127(run, tmp_path, command, launcher):
    with run(command, folder=tmp_path, launcher=Launcher(launcher)) as job:
        assert job.wait() == [127]
    assert job.last.end.reason is EndReason.REFUSED
    assert repr(command) in job.last.end.detail
    assert job.last.generation == 0


def test_counts_that_disagree_are_refused_before_anything_starts(run, source):
    with run("torchrun", "--nnodes", "4", "train.py", folder=source("")) as job:
        assert job.wait() == [Exit.REFUSED]
    assert "make them agree" in job.log()


def test_any_other_command_runs_as_it_is_once_a_node_or_once_a_task(run, tmp_path):
    script = 'echo "$RANK of $WORLD_SIZE, $LOCAL_RANK, $1"'
    for launcher, tasks, lines in (
        (Launcher.NONE, 3, ["0 of 1, 0, x"]),
        (Launcher.TORCHRUN, 2, ["[rank 0] 0 of 2, 0, x", "[rank 1] 1 of 2, 1, x"]),
    ):
        with run("sh", "-c", script, "sh", "x", folder=tmp_path, launcher=launcher, tasks_per_node=tasks) as job:
            assert job.wait() == [0]
        assert sorted(line for line in job.log().splitlines() if " of " in line) == lines


def test_a_killed_rank_costs_no_restart_of_the_jobs_own(run, source):
    code = GENERATION + "if generation < 3: os.kill(os.getpid(), 9)\nprint('third time')\n"
    with run("train.py", folder=source(code), max_restarts=0) as job:
        assert job.wait() == [0]
    assert [event["ours"] for event in job.events(EventType.RANKS_LOST)] == [True, True]
    assert [event["rank"] for event in job.events(EventType.SUSPECT)] == [0]
    assert (job.last.restarts, job.last.end.reason) == (2, EndReason.SUCCEEDED)


def test_an_unfinished_checkpoint_is_passed_over_and_cleared_away(run, source):
    """Killed in the middle of a save: the older one is where it goes on."""
    code = GENERATION + (
        "from pathlib import Path\n"
        "from skerry.training import user\n"
        "folder = user.checkpoint_folder()\n"
        "if generation == 1:\n"
        "    for step, names in ((4, ['.metadata', '__0_0.distcp']), (8, ['__0_0.distcp'])):\n"
        "        (folder / f'step_{step}').mkdir()\n"
        "        for name in names: (folder / f'step_{step}' / name).touch()\n"
        "    user.step(9)\n"
        "    os.kill(os.getpid(), 9)\n"
        "print('from', user.latest_checkpoint().name, (folder / 'step_8').exists())\n"
    )
    with run("train.py", folder=source(code)) as job:
        assert job.wait() == [0]
    assert "from step_4 False" in job.log()
    assert [Path(event["path"]).name for event in job.events(EventType.CHECKPOINT_REMOVED)] == ["step_8"]
    assert job.last.last_restart.resumed_step == 4


def test_numbers_are_taken_from_lines_and_from_tensorboard(run, source):
    board = source("") / "board.bin"
    board.write_bytes(WRITTEN)
    code = GENERATION + (
        "import json, pathlib\n"
        "for step in range(1, 4): print(json.dumps({'step': step, 'loss': 1 / step, 'rank': rank}))\n"
        "board = pathlib.Path(os.environ['SKERRY_TENSORBOARD_DIR'], 'events.out.tfevents.1.x')\n"
        "board.parent.mkdir(exist_ok=True)\n"
        "if rank == 0: board.write_bytes(pathlib.Path('board.bin').read_bytes())\n"
        "time.sleep(2.5)\n"
    )
    with run("train.py", folder=source(code), tasks_per_node=2) as job:
        assert job.wait() == [0]
    metrics = {(metric.name, metric.step): metric.value for report in job.told() for metric in report.metrics}
    assert metrics[("loss", 2)] == 0.5
    assert metrics[("rank", 3)] == 0, "where several ranks print a name, the lowest rank's counts"
    assert metrics[("eval/acc", 7)] == 0.125
    assert job.last.step == 3


def test_a_program_that_ignores_sigterm_is_ended_before_the_engine_would(run, source):
    code = GENERATION + "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf')\ntime.sleep(600)\n"
    with run("train.py", folder=source(code), grace_seconds=2.0) as job:
        job.until("deaf")
        os.kill(job.pids[0], signal.SIGTERM)
        assert job.wait() == [Exit.STOPPED_UNSAVED]
    assert not job.left()
    assert "no checkpoint became complete within 2 s" in job.last.end.detail
    assert {report.state for report in job.told()} >= {RunState.STOPPING, RunState.ENDED}


def test_ranks_find_the_flag_to_stop_and_may_ignore_the_signal(run, source):
    code = GENERATION + (
        "from skerry.training import user\n"
        "while not user.should_stop(): print('on'); time.sleep(0.05)\n"
        "print('saved what there was')\n"
    )
    with run("train.py", folder=source(code)) as job:
        job.until("on")
        os.kill(job.pids[0], signal.SIGTERM)
        assert job.wait() == [Exit.STOPPED]
    assert "saved what there was" in job.log()


def test_what_ranks_leave_behind_ends_with_their_generation(run, source):
    code = GENERATION + (
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "print('left', child.pid)\n"
        "if generation == 1: os.kill(os.getpid(), 9)\n"
    )
    with run("train.py", folder=source(code)) as job:
        assert job.wait() == [0]
    pids = [int(line.split()[1]) for line in job.log().splitlines() if line.startswith("left")]
    assert len(pids) == 2
    eventually_sync(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_a_fork_server_that_is_killed_is_replaced(run, source):
    code = GENERATION + "print('generation', generation)\nif generation == 1: time.sleep(600)\n"
    with run("train.py", folder=source(code), tasks_per_node=2) as job:
        job.until("generation 1")
        eventually_sync(lambda: len(job.ranks()) == 2)
        (server,) = {parent_of(pid) for pid in job.ranks().values()}
        os.kill(server, signal.SIGKILL)
        assert job.wait() == [0]
    assert "generation 2" in job.log()
    assert job.last.last_restart.cause is Cause.RANK_KILLED


def test_output_is_a_sign_of_life_and_silence_is_not(run, source):
    code = GENERATION + (
        "from skerry.training import user\n"
        "user.step(1); user.step(2)\n"
        "for _ in range(0 if generation > 1 else 8): time.sleep(0.25); print('evaluating')\n"
        "if generation == 1: time.sleep(600)\n"
    )
    hang = HangSettings(factor=2, floor_seconds=1.0, first_step_seconds=60)
    with run("train.py", folder=source(code), hang=hang) as job:
        assert job.wait() == [0]
    assert job.log().count("evaluating") == 8
    assert job.last.last_restart.cause is Cause.HANG
    assert 'train.py", line 6' in job.log(), "the stack says where it stood"


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
