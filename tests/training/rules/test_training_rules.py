"""The small ones: checkpoints, silence, stragglers, printed metrics, a rank's environment."""

import pytest

from skerry.training.rules import hangs
from skerry.training.rules.checkpoints import Folder, abandoned, newest_complete
from skerry.training.rules.commands import Program, ProgramKind
from skerry.training.rules.environment import Generation, Place, devices, rank_environment
from skerry.training.rules.metrics import parse
from skerry.training.rules.stragglers import slow_ranks
from skerry.training.spec import HangSettings

COMPLETE = (".metadata", "__0_0.distcp")
HALF = ("__0_0.distcp", "__1_0.distcp")


@pytest.mark.parametrize(
    ("folders", "newest"),
    [
        ({}, None),
        ({"step_4": COMPLETE, "step_12": COMPLETE, "step_8": COMPLETE}, "step_12"),
        ({"step_4": COMPLETE, "step_8": HALF}, "step_4"),
        ({"step_8": HALF}, None),
        ({"step_x": COMPLETE, "last": COMPLETE, "step_4": (".metadata.tmp",)}, None),
    ],
)
def test_the_newest_checkpoint_is_the_newest_complete_one(folders, newest):
    found = newest_complete(Folder(name, files) for name, files in folders.items())
    assert (found.name if found else None) == newest


def test_only_shards_that_nobody_will_finish_are_abandoned():
    folders = {
        "step_4": COMPLETE,
        "step_8": HALF,
        "step_9": (),
        "step_10": ("__0_0.distcp", ".metadata.tmp"),
        "step_12": ("model.pt",),
        "step_14": ("__0_0.distcp", "notes.txt"),
        "best": HALF,
    }
    found = abandoned(Folder(name, files) for name, files in folders.items())
    assert [folder.name for folder in found] == ["step_8", "step_9", "step_10"]


def test_silence_is_measured_in_steps_but_never_below_a_floor():
    settings = HangSettings(factor=10, floor_seconds=60, first_step_seconds=600)
    assert hangs.limit_ms(settings, None) == 600_000
    assert hangs.limit_ms(settings, 100) == 60_000
    assert hangs.limit_ms(settings, 20_000) == 200_000


def test_a_straggler_is_told_from_those_it_holds_up():
    times = {0: [100.0] * 20, 1: [104.0] * 20, 2: [180.0] * 20, 3: [1000.0] * 5}
    (slow,) = slow_ranks(times)
    assert (slow.rank, slow.step_ms, round(slow.ratio, 2)) == (2, 180.0, 1.76)


@pytest.mark.parametrize("times", [{}, {0: [5.0] * 20}, {0: [1.0] * 20, 1: [3.0] * 20}])
def test_too_little_makes_no_straggler(times):
    assert slow_ranks(times) == []


@pytest.mark.parametrize(
    ("line", "step", "values"),
    [
        ('{"step": 3, "loss": 1.5}', 3, {"loss": 1.5}),
        ('  {"global_step": 3, "n": 2, "ok": true, "name": "x"}\n', 3, {"n": 2.0}),
        ('{"step": 3, "eval": {"loss": 1, "deep": {"x": 1}}}', 3, {"eval/loss": 1.0}),
        ('{"step": 3, "loss": NaN, "lr": Infinity}', 3, {"loss": None, "lr": None}),
        ('{"step": 3, "huge": 1' + "0" * 400 + "}", 3, {"huge": None}),
        ('{"step": 0}', 0, {}),
    ],
)
def test_a_printed_object_with_a_step_is_metrics(line, step, values):
    found = parse(line)
    assert found is not None
    assert (found.step, dict(found.values)) == (step, values)


@pytest.mark.parametrize(
    "line",
    ["", "step 3", '{"loss": 1}', '{"step": -1}', '{"step": 1.5}', '{"step": true}', "{broken}", "[1]", "{" * 99 + "}"],
)
def test_anything_else_is_text(line):
    assert parse(line) is None


SCRIPT = Program(ProgramKind.SCRIPT, "train.py")
GENERATION = Generation(3, "10.0.0.1", 29_500, "trn_1", 5, "/checkpoints/step_8", 8)


def test_a_rank_has_the_environment_that_torchrun_would_give():
    env = rank_environment(Place(node_rank=1, nodes=2, local_rank=2, tasks_per_node=4), GENERATION, SCRIPT)
    expected = {
        "RANK": "6",
        "LOCAL_RANK": "2",
        "WORLD_SIZE": "8",
        "LOCAL_WORLD_SIZE": "4",
        "GROUP_RANK": "1",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "29500",
        "TORCHELASTIC_RESTART_COUNT": "2",
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "SKERRY_RESUME_STEP": "8",
    }
    assert expected.items() <= env.items()
    assert "CUDA_VISIBLE_DEVICES" not in env


@pytest.mark.parametrize(
    ("each", "virtual", "seen", "own"),
    [(1, False, "4,5,6,7", "5"), (2, False, "6,7", "6,7"), (1, True, "5", "5")],
)
def test_a_rank_sees_the_accelerators_its_program_counts_on(each, virtual, seen, own):
    place = Place(0, 1, 1, 4 // each, ("4", "5", "6", "7"), each)
    assert devices(place, virtual=virtual) == {"CUDA_VISIBLE_DEVICES": seen, "SKERRY_TASK_DEVICES": own}


def test_a_virtual_local_rank_is_zero_everywhere():
    program = Program(ProgramKind.SCRIPT, "train.py", virtual_local_rank=True)
    env = rank_environment(Place(0, 1, 3, 4), GENERATION, program)
    assert (env["LOCAL_RANK"], env["RANK"]) == ("0", "3")
