"""What launch.py measures and prints."""

import argparse
import asyncio
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text
from tests.compute.slurm.cluster import Cluster, missing

from skerry.compute.engines.base import GangSpec, GangStatus, Placement
from skerry.compute.engines.slurm.config import RUNNER, SlurmConfig
from skerry.compute.engines.slurm.engine import SlurmEngine
from skerry.compute.model import WorkloadKind, WorkloadSpec
from skerry.db import migrate
from skerry.db.database import Database
from skerry.db.embedded import EmbeddedPostgres
from skerry.kernel.clock import SystemClock
from skerry.kernel.ids import AttemptId, ProjectId, WorkloadId, new_id
from skerry.runtime.privileges import end_with_parent
from skerry.runtime.secrets import Keyring
from skerry.runtime.settings import Settings
from skerry.server.compose import Services, build

STAMP = 'date +%s.%N > "$0/$1.new" && mv "$0/$1.new" "$0/$1"'
"""$0: where; $1: the task's number."""
LIMIT_SECONDS = 300.0
FIRST_SECONDS = 60.0
AT_ONCE = 100
"""Workloads made in one transaction."""


@dataclass(frozen=True)
class Launched:
    """Seconds from handing over to the first task and to the last one."""

    first: float
    last: float


@dataclass(frozen=True)
class Row:
    nodes: int
    skerry_first: float
    skerry_last: float
    sbatch_first: float
    sbatch_last: float
    runner_cpu: float
    """CPU seconds of one node's runner, from its start to its end."""


@dataclass(frozen=True)
class Queue:
    workloads: int
    seconds: float
    ended: int
    controller_cpu: float
    agent_cpu: float

    @property
    def share(self) -> float:
        return self.controller_cpu / self.seconds


def guarded(described: str) -> int:
    """The work is a child's, which is told to end when this process ends, however it does, and then clears up."""
    parent, worker = os.getpid(), os.fork()
    if worker == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, end_once)
        end_with_parent(parent)
        main(described)
        return 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.kill(worker, signal.SIGTERM))
    return os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])


def end_once(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def main(described: str) -> None:
    parser = argparse.ArgumentParser(description=described, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", default="1,16,64")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queued", type=int, default=1000, help="0: leave it out")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the queue is watched")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if why := missing():
        sys.exit(f"launch: {why}")
    counts = [int(count) for count in given.nodes.split(",") if count]
    rows, queue = [], None
    if counts:
        with cluster_of(max(counts), gpus=0) as cluster:
            rows = [asyncio.run(row(cluster, count, given.rounds)) for count in counts]
    if given.queued:
        with cluster_of(4, gpus=2) as cluster:
            queue = queue_of(cluster, given.queued, given.seconds)
    if given.json:
        shown = asdict(queue) | {"controller_share": queue.share} if queue is not None else None
        print(json.dumps({"launch": [asdict(one) for one in rows], "queue": shown}))
    else:
        show(rows, queue)


@contextmanager
def cluster_of(nodes: int, gpus: int) -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="sk-launch-", dir="/tmp"))
    folder.chmod(0o755)
    root = folder / "slurm"
    root.mkdir(mode=0o755)
    cluster = Cluster(root, nodes, gpus)
    try:
        yield cluster.start()
    finally:
        try:
            cluster.stop()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


# Launching


async def row(cluster: Cluster, nodes: int, rounds: int) -> Row:
    engine = SlurmEngine(config_of(cluster), SystemClock())
    ours, bare = [], []
    for _ in range(rounds):  # in turn, so that both meet the same machine
        ours.append(await by_skerry(engine, cluster, nodes))
        bare.append(await by_sbatch(cluster, nodes))
    return Row(
        nodes,
        statistics.median(one.first for one in ours),
        statistics.median(one.last for one in ours),
        statistics.median(one.first for one in bare),
        statistics.median(one.last for one in bare),
        runner_cpu(),
    )


async def by_skerry(engine: SlurmEngine, cluster: Cluster, nodes: int) -> Launched:
    where = stamps(cluster)
    spec = GangSpec(
        attempt=AttemptId(new_id("att")),
        workload=WorkloadId(new_id("wl")),
        project=ProjectId("proj_bench"),
        placements=tuple(Placement(name, 1) for name in cluster.names[:nodes]),
        command=("/bin/sh", "-c", f"{STAMP.replace('$1', '$SKERRY_RANK')}", str(where)),
    )
    begun = time.time()
    await engine.submit(spec)
    found = await all_stamps(where, nodes)
    await until_ended(engine, spec.attempt)
    return Launched(min(found) - begun, max(found) - begun)


async def by_sbatch(cluster: Cluster, nodes: int) -> Launched:
    where = stamps(cluster)
    names = ",".join(cluster.names[:nodes])
    task = f"/bin/sh -c '{STAMP.replace('$1', '$SLURM_PROCID')}' {where}"
    step = f"srun --ntasks-per-node=1 {task}" if nodes > 1 else task
    options = [f"--nodes={nodes}", f"--nodelist={names}", "--ntasks-per-node=1", "--mem=100M", "--output=/dev/null"]
    begun = time.time()
    job = cluster.command("sbatch", "--parsable", *options, f"--wrap={step}").strip()
    found = await all_stamps(where, nodes)
    deadline = time.monotonic() + LIMIT_SECONDS
    while cluster.command("squeue", "-h", "-j", job).strip() and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
    return Launched(min(found) - begun, max(found) - begun)


def stamps(cluster: Cluster) -> Path:
    return Path(tempfile.mkdtemp(dir=cluster.root))


async def all_stamps(where: Path, count: int) -> list[float]:
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        paths = [path for path in where.iterdir() if path.name.isdigit()]
        if len(paths) == count:
            return [float(path.read_text()) for path in paths]
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(paths)} of {count} tasks within {LIMIT_SECONDS:.0f} s")
        await asyncio.sleep(0.02)


async def until_ended(engine: SlurmEngine, attempt: AttemptId) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while (await engine.observe([attempt]))[attempt].status is not GangStatus.ENDED:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{attempt} does not end")
        await asyncio.sleep(0.2)


def runner_cpu() -> float:
    """What a runner takes to load and to end, as its parent is told."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*RUNNER, "--help"], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def config_of(cluster: Cluster) -> SlurmConfig:
    folder = Path(tempfile.mkdtemp(dir=cluster.root))
    folder.chmod(0o711)
    for name in ("state", "shared", "work"):
        (folder / name).mkdir(mode=0o711)
    mark = new_id("mark").rpartition("_")[2]
    return SlurmConfig(
        mark, folder / "state", folder / "shared", folder / "work", cluster.partition, cluster.conf, one_host=True
    )


# A long queue


def queue_of(cluster: Cluster, workloads: int, seconds: float) -> Queue:
    folder = cluster.root.parent
    with database(folder) as url:
        home = folder / "home"
        env = {
            **os.environ,
            "SKERRY_HOME": str(home),
            "SKERRY_DATABASE_URL": url,
            "SKERRY_SLURM_CONF": str(cluster.conf),
            "SKERRY_SLURM_SHARED": str(folder / "shared"),
            "SKERRY_SLURM_WORK": str(folder / "work"),
        }
        (folder / "shared").mkdir(mode=0o711)
        command = [sys.executable, "-m", "skerry.server", "controller", "--engine", "slurm"]
        with (folder / "controller.out").open("wb") as out:
            launcher = subprocess.Popen(command, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        try:
            return asyncio.run(watch(launcher, home, url, workloads, seconds))
        except (TimeoutError, RuntimeError):
            for log in (folder / "controller.out", home / "logs" / "controller.log", home / "logs" / "agent.log"):
                sys.stderr.write(log.read_text()[-2000:] if log.exists() else "")
            raise
        finally:
            launcher.terminate()
            try:
                launcher.wait(30)
            except subprocess.TimeoutExpired:
                launcher.kill()
                launcher.wait()


@contextmanager
def database(folder: Path) -> Iterator[str]:
    (folder / "pg").mkdir(mode=0o755)
    server = EmbeddedPostgres(folder / "pg" / "data", folder / "pg" / "sock", log=folder / "postgres.log")
    server.start()
    try:
        url = server.url()
        migrate.upgrade(url)
        yield url
    finally:
        server.stop()


async def watch(launcher: "subprocess.Popen[bytes]", home: Path, url: str, workloads: int, seconds: float) -> Queue:
    roles = await processes_of(launcher, home)
    db = Database(url, pool_size=4, name="launch")
    try:
        services = build(Settings.from_env({"SKERRY_HOME": str(home)}), db, Keyring.load(home))
        await services.billing.bootstrap("USD")
        await services.identity.bootstrap()
        await until_fleet(services, launcher)
        async with db.reading() as tx:
            project = (await services.identity.default_project(tx)).id
        for begin in range(0, workloads, AT_ONCE):
            async with db.transaction() as tx:
                for number in range(begin, min(begin + AT_ONCE, workloads)):
                    await services.compute.create_workload(tx, project, spec(f"queued-{number}"))
        await until_first(db)
        begun, before = time.monotonic(), {role: cpu(process) for role, process in roles.items()}
        done = await ended(db)
        await asyncio.sleep(seconds)
        wall = time.monotonic() - begun
        used = {role: cpu(process) - before[role] for role, process in roles.items()}
        return Queue(workloads, wall, await ended(db) - done, used["controller"], used["agent"])
    finally:
        await db.close()


def spec(name: str) -> WorkloadSpec:
    return WorkloadSpec(kind=WorkloadKind.JOB, name=name, resource="bench", command=("/bin/sleep", "5"), accelerators=1)


async def processes_of(launcher: "subprocess.Popen[bytes]", home: Path) -> dict[str, psutil.Process]:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline and launcher.poll() is None:
        rows = await asyncio.to_thread(processes_at, home)
        found = {row["role"]: psutil.Process(row["pid"]) for row in rows if row["status"] == "running" and row["pid"]}
        if found.keys() >= {"agent", "controller"}:
            return {role: found[role] for role in ("agent", "controller")}
        await asyncio.sleep(0.2)
    raise TimeoutError("agent and controller do not start")


def processes_at(home: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "skerry.server", "status", "--json"]
    env = {**os.environ, "SKERRY_HOME": str(home)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    rows: list[dict[str, Any]] = json.loads(done.stdout or "{}").get("processes", [])
    return rows


async def until_fleet(services: Services, launcher: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline and launcher.poll() is None:
        if await services.fleet.overview():
            return
        await asyncio.sleep(0.2)
    raise TimeoutError("the controller does not find Slurm's nodes")


async def ended(db: Database) -> int:
    async with db.reading() as tx:
        found = await tx.execute(text("SELECT count(*) FROM workloads WHERE status = 'ended'"))
        return int(found.scalar_one())


async def until_first(db: Database) -> None:
    """The queue moves. Raises TimeoutError."""
    deadline = time.monotonic() + FIRST_SECONDS
    while not await ended(db):
        if time.monotonic() > deadline:
            raise TimeoutError(f"none has ended: {await reasons(db)}")
        await asyncio.sleep(0.5)


async def reasons(db: Database) -> list[tuple[str, str, int]]:
    """Where they stand, by status and reason."""
    query = "SELECT status, status_reason->>'message', count(*) FROM workloads GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 5"
    async with db.reading() as tx:
        return [(row[0], row[1], row[2]) for row in await tx.execute(text(query))]


def cpu(process: psutil.Process) -> float:
    """Raises RuntimeError where it has died: then there is no figure."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        raise RuntimeError("agent or controller died while it was watched; see the log above") from None
    return float(times.user + times.system)


def show(rows: Sequence[Row], queue: Queue | None) -> None:
    if rows:
        print(f"{'nodes':>5} {'skerry first':>13} {'last':>8} {'sbatch first':>13} {'last':>8} {'runner CPU':>11}")
    for one in rows:
        print(
            f"{one.nodes:>5} {one.skerry_first:>11.2f} s {one.skerry_last:>6.2f} s {one.sbatch_first:>11.2f} s "
            f"{one.sbatch_last:>6.2f} s {one.runner_cpu:>9.2f} s"
        )
    if queue is not None:
        print(
            f"\n{queue.workloads} queued, watched for {queue.seconds:.0f} s: {queue.ended} ended; controller "
            f"{queue.controller_cpu:.1f} CPU s ({queue.share:.0%} of a core), agent {queue.agent_cpu:.1f} CPU s"
        )
