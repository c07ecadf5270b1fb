"""How full a cluster gets, and how fast placements are decided, beside the published table.

    python benchmarks/placement.py [--nodes CSV --pods CSV] [--seeds 42-51] [--json]

Replays lists of GPU tasks by the rules of the paper ("Beware of Fragmentation", USENIX ATC 2023): tasks are drawn with
replacement until they are worth 130 % of the accelerators (it stops at the first whose milli of one accelerator would
pass that), shuffled, and placed one after another, none ever leaves, and one that fits nowhere is dropped. The figure
is the share of all accelerators that is taken at the end, in the mean over the seeds.

Without --pods: the five workloads of the openb data (--data FOLDER, default: data/openb beside the repository or in
`SKERRY_OPENB`), beside `expected_allocation.csv`. With --nodes and --pods: any such lists, by their content alone. What
decides is `skerry.capacity.placement`, the code that places on-demand work. A decision is one task placed or dropped;
its time is this process's CPU, reading and drawing left out. The original draws with another generator: compare means.
"""

import argparse
import csv
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skerry.capacity.placement.board import Board
from skerry.capacity.placement.model import WHOLE, Machine, Task, Typical

WORKLOADS = ("default", "cpu100", "gpushare60", "gpuspec20", "multigpu30")
LOAD = 1.3
TYPICAL_SHARE = 0.95
"""The most frequent types of task that together are this share of all."""


@dataclass(frozen=True)
class Trace:
    machines: list[Machine]
    tasks: list[Task]

    @property
    def capacity(self) -> int:
        return WHOLE * sum(machine.accelerators for machine in self.machines)


@dataclass(frozen=True)
class Result:
    per_seed: list[float]
    decisions_per_cpu_s: float

    @property
    def mean(self) -> float:
        return statistics.fmean(self.per_seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=Path)
    parser.add_argument("--pods", type=Path)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--seeds", default="42-51", help="such as 42-51 or 1,2,5")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seeds = seeds_of(options.seeds)
    folder = options.data or default_folder()
    nodes = options.nodes or folder / "openb_node_list_gpu_node.csv"
    lists = [options.pods] if options.pods else [folder / f"openb_pod_list_{name}.csv" for name in WORKLOADS]
    for path in (nodes, *lists):
        if not path.is_file():
            sys.exit(
                f"{path} is not there. Name the lists with --nodes and --pods, or the folder of the data with --data."
            )
    if options.pods:
        show_one(replay(read(nodes, options.pods), seeds), seeds, as_json=options.json)
    else:
        results = {name: replay(read(nodes, path), seeds) for name, path in zip(WORKLOADS, lists, strict=True)}
        show_all(results, published(folder / "expected_allocation.csv"), seeds, as_json=options.json)


def default_folder() -> Path:
    told = os.environ.get("SKERRY_OPENB")
    return Path(told) if told else Path(__file__).resolve().parents[2] / "shared" / "data" / "openb"


def seeds_of(text: str) -> list[int]:
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def read(nodes: Path, pods: Path) -> Trace:
    with nodes.open(newline="") as file:
        machines = [
            Machine(row["sn"], row.get("model") or "", int(row["gpu"]), int(row["cpu_milli"]), int(row["memory_mib"]))
            for row in csv.DictReader(file)
        ]
    with pods.open(newline="") as file:
        tasks = [task_of(row) for row in csv.DictReader(file)]
    return Trace(sorted(machines, key=lambda machine: machine.name), tasks)


def task_of(row: dict[str, str]) -> Task:
    count = int(row["num_gpu"])
    kinds = row.get("gpu_spec") or ""
    return Task(
        accelerators=count,
        milli=min(int(row["gpu_milli"]), WHOLE) if count == 1 else WHOLE,
        cpu_milli=int(row["cpu_milli"]),
        memory_mib=int(row.get("memory_mib") or 0),
        kinds=frozenset(kinds.split("|")) if kinds else None,
    )


def typical_of(tasks: Sequence[Task]) -> list[Typical]:
    counts: Counter[Task] = Counter(
        Task(task.accelerators, task.milli, task.cpu_milli, 0, task.kinds) for task in tasks
    )
    typical, seen = [], 0
    for task, count in counts.most_common():
        if seen >= TYPICAL_SHARE * len(tasks):
            break
        typical.append(Typical(task, count))
        seen += count
    return typical


def draw(trace: Trace, seed: int) -> list[int]:
    """Indexes into the trace's tasks, in the order of their arrival."""
    random = np.random.default_rng(seed)
    limit, total, drawn = LOAD * trace.capacity, 0, []
    while True:
        for index in random.integers(len(trace.tasks), size=1024):
            task = trace.tasks[index]
            if total + (task.milli if task.accelerators else 0) > limit:
                order = np.array(drawn)
                random.shuffle(order)
                return [int(one) for one in order]
            drawn.append(int(index))
            total += task.accelerator_milli


def replay(trace: Trace, seeds: Sequence[int]) -> Result:
    if not any(task.accelerators for task in trace.tasks):
        sys.exit("None of these tasks wants an accelerator: there is no share of them to measure.")
    typical = typical_of(trace.tasks)
    warm = Board(trace.machines, typical)
    warm.place_all(trace.tasks[:1])  # compiles, or loads what was compiled before
    per_seed, decisions, seconds = [], 0, 0.0
    for seed in seeds:
        arrivals = [trace.tasks[index] for index in draw(trace, seed)]
        board = Board(trace.machines, typical)
        began = time.process_time()
        board.place_all(arrivals)
        seconds += time.process_time() - began
        decisions += len(arrivals)
        per_seed.append(100 * (1 - board.free_milli / trace.capacity))
    return Result(per_seed, decisions / seconds)


def published(path: Path) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    if path.is_file():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                table.setdefault(row["workload"], {})[row["policy"]] = float(row["mean_alloc_pct_at_130"])
    return table


def as_figures(result: Result) -> dict[str, object]:
    return {
        "mean_alloc_pct_at_130": round(result.mean, 3),
        "per_seed": [round(one, 3) for one in result.per_seed],
        "decisions_per_cpu_s": round(result.decisions_per_cpu_s),
    }


def show_one(result: Result, seeds: Sequence[int], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(as_figures(result)))
        return
    spread = statistics.pstdev(result.per_seed)
    print(f"{result.mean:.2f} % of accelerators taken at 130 % (± {spread:.2f} over {len(seeds)} seeds), ", end="")
    print(f"{result.decisions_per_cpu_s:,.0f} decisions a CPU second")


def show_all(
    results: dict[str, Result], table: dict[str, dict[str, float]], seeds: Sequence[int], *, as_json: bool
) -> None:
    if as_json:
        workloads = {name: as_figures(result) for name, result in results.items()}
        print(json.dumps({**workloads["default"], "workloads": workloads}))
        return
    policies = list(dict.fromkeys(policy for row in table.values() for policy in row))
    print(f"% of accelerators taken once tasks worth 130 % have come, mean of {len(seeds)} seeds; published beside it")
    print(
        f"{'workload':<12}{'Skerry':>8}{'±':>6}"
        + "".join(f"{name:>15}" for name in policies)
        + f"{'decisions/CPU-s':>17}"
    )
    for name, result in results.items():
        row = table.get(name, {})
        print(
            f"{name:<12}{result.mean:>8.2f}{statistics.pstdev(result.per_seed):>6.2f}"
            + "".join(f"{row[policy]:>15.2f}" if policy in row else f"{'':>15}" for policy in policies)
            + f"{result.decisions_per_cpu_s:>17,.0f}"
        )
    mean = statistics.fmean(result.mean for result in results.values())
    fgd = [row["FGD"] for row in table.values() if "FGD" in row]
    print(f"{'mean':<12}{mean:>8.2f}" + (f"  (published FGD: {statistics.fmean(fgd):.2f})" if fgd else ""))


if __name__ == "__main__":
    main()
