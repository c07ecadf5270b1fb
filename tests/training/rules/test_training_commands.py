import pytest

from skerry.training.rules.commands import BadCommand, Program, ProgramKind, parse
from skerry.training.spec import Launcher

SCRIPT, MODULE, EXECUTABLE = ProgramKind.SCRIPT, ProgramKind.MODULE, ProgramKind.EXECUTABLE


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("train.py --lr 1", Program(SCRIPT, "train.py", ("--lr", "1"))),
        ("python train.py -m x", Program(SCRIPT, "train.py", ("-m", "x"))),
        ("python3.11 -u train.py", Program(SCRIPT, "train.py")),
        ("python -m pkg.train a", Program(MODULE, "pkg.train", ("a",))),
        ("torchrun train.py a", Program(SCRIPT, "train.py", ("a",))),
        ("torchrun --nnodes=2 --nproc_per_node 4 train.py --nnodes 9", Program(SCRIPT, "train.py", ("--nnodes", "9"))),
        ("torchrun --nnodes=1:4 --nproc-per-node=gpu train.py", Program(SCRIPT, "train.py")),
        ("torchrun --standalone --rdzv-backend c10d --max-restarts 3 -t 3 -r3 train.py", Program(SCRIPT, "train.py")),
        ("torchrun -m pkg.train --x", Program(MODULE, "pkg.train", ("--x",))),
        ("torchrun --module pkg.train", Program(MODULE, "pkg.train")),
        ("torchrun --no-python ./run.sh 1", Program(EXECUTABLE, "./run.sh", ("1",))),
        ("torchrun --nnod 2 --stand -- train.py", Program(SCRIPT, "train.py")),
        ("torchrun --virtual-local-rank train.py", Program(SCRIPT, "train.py", virtual_local_rank=True)),
        ("python -m torch.distributed.run --nnodes 2 train.py", Program(SCRIPT, "train.py")),
        ("python -u -m torch.distributed.launch --use-env train.py", Program(SCRIPT, "train.py")),
        ("python -c pass", Program(EXECUTABLE, "python", ("-c", "pass"))),
        ("python -X dev train.py", Program(EXECUTABLE, "python", ("-X", "dev", "train.py"))),
        ("/opt/conda/bin/python train.py", Program(EXECUTABLE, "/opt/conda/bin/python", ("train.py",))),
        ("bash run.sh", Program(EXECUTABLE, "bash", ("run.sh",))),
        ("python", Program(EXECUTABLE, "python")),
    ],
)
def test_a_command_becomes_a_program_of_every_rank(command, program):
    assert parse(command.split(), Launcher.TORCHRUN, nodes=2, tasks_per_node=4) == program


@pytest.mark.parametrize(
    ("command", "field", "code"),
    [
        ("", "command", "empty"),
        ("torchrun", "command", "no_script"),
        ("torchrun --nnodes 3 train.py", "nodes", "count_differs"),
        ("torchrun --nnodes 3:4 train.py", "nodes", "count_differs"),
        ("torchrun --nproc-per-node=8 train.py", "tasks_per_node", "count_differs"),
        ("torchrun --nnodes two train.py", "command", "bad_count"),
        ("torchrun --nnodes", "command", "option_without_value"),
        ("torchrun --learning-rate 3 train.py", "command", "unknown_option"),
        ("torchrun --rdzv 3 train.py", "command", "unknown_option"),
        ("torchrun -x train.py", "command", "unknown_option"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_field(command, field, code):
    with pytest.raises(BadCommand) as refused:
        parse(command.split(), Launcher.TORCHRUN, nodes=2, tasks_per_node=4)
    assert (refused.value.field, refused.value.code) == (field, code)


def test_without_a_launcher_a_command_is_taken_as_it_is():
    command = ["torchrun", "--nnodes", "7", "train.py"]
    program = parse(command, Launcher.NONE, nodes=2, tasks_per_node=4)
    assert program == Program(EXECUTABLE, "torchrun", ("--nnodes", "7", "train.py"))
