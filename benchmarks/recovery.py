"""Recovery of a training job after `kill -9` of a rank, beside torchrun: the same program, the same run.

    python benchmarks/recovery.py [--rounds 3] [--only ddp] [--json]

Two ranks train `examples/training/train_text.py` with 2.5 M parameters and a checkpoint every four steps. Rank 1 is
killed when step 10 is printed. Measured from the kill to the first step printed by the next generation (one that was
done before), and to having caught up with what had been printed. Median of the rounds, with all of them. A job that
prints no step for `--patience` seconds has hung.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from skerry.training import spec
from skerry.training.forkserver import processes
from skerry.training.spec import SupervisorSpec

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "training"
PROGRAM = ["train_text.py", "--width", "256", "--layers", "3", "--steps", "24", "--save-every", "4"]
KILL_AT = 10


@dataclass(frozen=True)
class Round:
    """Seconds after the kill; None: not within the patience."""

    first_step: float | None
    caught_up: float | None
    last_loss: float | None


class Supervisors:
    """`nodes` supervisors on this host, `tasks` ranks each."""

    def __init__(self, nodes: int, tasks: int) -> None:
        self._nodes, self._tasks = nodes, tasks

    def start(self, work: Path, arguments: list[str], log: Path) -> list[subprocess.Popen[bytes]]:
        settings = SupervisorSpec(
            job="recovery", command=("python", *arguments), secret=os.urandom(32).hex(), tasks_per_node=self._tasks
        )
        attempt = f"att_{os.urandom(8).hex()}"
        started = []
        for rank in range(self._nodes):
            files = work / f"node-{rank}"
            files.mkdir()
            (files / spec.SPEC_FILE).write_text(spec.encode(settings))
            env = environment(work) | {
                "SKERRY_FILES": str(files),
                "SKERRY_ATTEMPT": attempt,
                "SKERRY_NODE_RANK": str(rank),
                "SKERRY_NODE_NAMES": ",".join(f"node-{n}" for n in range(self._nodes)),
                "SKERRY_NODE_ADDRESSES": ",".join(["127.0.0.1"] * self._nodes),
            }
            command = [sys.executable, "-m", "skerry.training.supervisor"]
            started.append(launch(command, env, log if rank == 0 else files / "log"))
        return started

    def rank(self, pids: list[int]) -> int:
        """The pid of rank 1."""
        return next(pid for pid in descendants(pids) if read(pid, "comm").strip() == "rank 1")


class Torchrun:
    """As one calls it: two ranks, restarts allowed, all else by default."""

    def start(self, work: Path, arguments: list[str], log: Path) -> list[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=3", *arguments]
        return [launch(command, environment(work), log)]

    def rank(self, pids: list[int]) -> int:
        return next(
            pid for pid in descendants(pids) if pid not in pids and "RANK=1" in read(pid, "environ").split("\0")
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["ddp", "fsdp2"])
    parser.add_argument("--patience", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    runners = {
        "skerry, 1 node of 2": Supervisors(1, 2),
        "skerry, 2 nodes of 1": Supervisors(2, 1),
        "torchrun, 1 node of 2": Torchrun(),
    }
    found: dict[str, dict[str, list[Round]]] = {}
    for how in [args.only] if args.only else ["ddp", "fsdp2"]:
        arguments = [*PROGRAM, "--shard"] if how == "fsdp2" else PROGRAM
        for _ in range(args.rounds):  # taken in turn: what else runs on the machine meets all of them
            for name, runner in runners.items():
                one = measure(runner, arguments, args.patience)
                found.setdefault(how, {}).setdefault(name, []).append(one)
                print(f"{how:6} {name:22} {shown(one.first_step):>9} {shown(one.caught_up):>9}", file=sys.stderr)
    if args.json:
        print(
            json.dumps(
                {how: {name: [asdict(r) for r in rs] for name, rs in rows.items()} for how, rows in found.items()}
            )
        )
    else:
        table(found)


def measure(runner: Supervisors | Torchrun, arguments: list[str], patience: float) -> Round:
    with tempfile.TemporaryDirectory(prefix="recovery-") as name:
        work = Path(name)
        (work / "checkpoints").mkdir()
        log = work / "log"
        started = runner.start(work, arguments, log)
        try:
            lines = steps(log, patience, lambda: all(process.poll() is not None for process in started))
            before = next(step for step, _ in lines if step >= KILL_AT)
            os.kill(runner.rank([process.pid for process in started]), signal.SIGKILL)
            return after_the_kill(lines, time.monotonic(), before)
        finally:
            end(started)


def after_the_kill(lines: Iterator[tuple[int, float]], killed_at: float, before: int) -> Round:
    """A step that was printed before is of the new generation; one in flight at the kill has the next number."""
    first = caught_up = loss = None
    for step, value in lines:
        now = time.monotonic() - killed_at
        if first is None and step <= before:
            first = now
        if first is not None and caught_up is None and step >= before:
            caught_up = now
        before = before if first is not None else max(before, step)
        loss = value
    return Round(first, caught_up, loss)


def steps(log: Path, patience: float, ended: Callable[[], bool]) -> Iterator[tuple[int, float]]:
    """(step, loss) as they are printed, until the program has ended or says nothing for too long."""
    offset, part, deadline = 0, "", time.monotonic() + patience
    while time.monotonic() < deadline:
        over = ended()
        with open(log, "rb") as file:
            file.seek(offset)
            data = file.read()
        offset += len(data)
        *lines, part = (part + data.decode(errors="replace")).split("\n")
        for line in lines:
            with suppress(ValueError, KeyError):
                found = json.loads(line[line.index("{") :])
                deadline = time.monotonic() + patience
                yield found["step"], found["loss"]
        if over and not data:
            return
        time.sleep(0.005)


def table(found: dict[str, dict[str, list[Round]]]) -> None:
    print(f"\n{'':6} {'':22} {'first step':>11} {'caught up':>10} {'last loss':>10}   all first steps, s")
    for how, rows in found.items():
        for name, rounds in rows.items():
            firsts = [one.first_step for one in rounds]
            losses = {None if one.last_loss is None else round(one.last_loss, 5) for one in rounds}
            print(
                f"{how:6} {name:22} {shown(middle(firsts)):>11} {shown(middle([r.caught_up for r in rounds])):>10}"
                f" {'/'.join(map(str, losses)):>10}   {' '.join(shown(one) for one in firsts)}"
            )


def middle(values: list[float | None]) -> float | None:
    """The median, where one that never came is the worst."""
    value = statistics.median_high([float("inf") if one is None else one for one in values])
    return None if value == float("inf") else value


def shown(value: float | None) -> str:
    return "hung" if value is None else f"{value:.2f}"


def environment(work: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "SKERRY_CHECKPOINT_DIR": str(work / "checkpoints"),
        "OMP_NUM_THREADS": "1",
    }


def launch(command: list[str], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with open(log, "wb") as file:
        return subprocess.Popen(
            command, cwd=EXAMPLE, env=env, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )


def end(started: list[subprocess.Popen[bytes]]) -> None:
    """All of it: SIGKILL of torchrun leaves its ranks."""
    for pid in descendants([process.pid for process in started]):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in started:
        process.wait()


def descendants(pids: list[int]) -> set[int]:
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (state := processes.stat(int(name))):
            parents[int(name)] = int(state[1])
    family = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def read(pid: int, what: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{what}").read_text(errors="replace")
    return ""


if __name__ == "__main__":
    main()
