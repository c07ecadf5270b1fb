"""`benchmarks/placement.py` on a small trace made here: its answer's form, and the rules of the replay."""

import csv
import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "placement.py"


def write(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_it_replays_any_trace_and_answers_in_json(tmp_path: Path) -> None:
    nodes = write(
        tmp_path / "n.csv", "sn,cpu_milli,memory_mib,gpu,model", [f"n{i},64000,262144,4,X" for i in range(10)]
    )
    pods = write(
        tmp_path / "p.csv",
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec",
        ["a,4000,1024,1,500,", "b,8000,1024,1,1000,X|Y", "c,1000,1024,0,0,", "d,16000,2048,2,1000,"],
    )
    command = [sys.executable, SCRIPT, "--nodes", nodes, "--pods", pods, "--seeds", "1-3", "--json"]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert set(answer) == {"mean_alloc_pct_at_130", "per_seed", "decisions_per_cpu_s"}
    assert len(answer["per_seed"]) == 3
    assert all(90 <= one <= 100 for one in answer["per_seed"])
    assert answer["decisions_per_cpu_s"] > 0


def test_data_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--data", tmp_path], capture_output=True, text=True)
    assert done.returncode != 0
    assert "is not there" in done.stderr


def test_lists_may_lack_the_model_column(tmp_path: Path) -> None:
    nodes = write(tmp_path / "n.csv", "sn,cpu_milli,memory_mib,gpu,model", ["n0,64000,1024,8,"])
    pods = write(tmp_path / "p.csv", "name,cpu_milli,memory_mib,num_gpu,gpu_milli", ["a,1,1,1,1000"])
    command = [sys.executable, SCRIPT, "--nodes", nodes, "--pods", pods, "--seeds", "7", "--json"]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert answer["per_seed"] == [100.0]
    with pods.open() as file:
        assert "gpu_spec" not in next(csv.reader(file))
