"""Gangs as Slurm jobs: handing over, finding again, and one look at all of them."""

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Final

from skerry.compute.engines.base import (
    BadGang,
    EngineRefused,
    GangSpec,
    NodeNotReady,
    NodeReservation,
    NodeState,
    ReservationRefused,
)
from skerry.compute.engines.slurm import parsing
from skerry.compute.engines.slurm.cli import SlurmCli, SlurmError
from skerry.compute.engines.slurm.config import SlurmConfig
from skerry.compute.engines.slurm.parsing import Job
from skerry.kernel.ids import AttemptId

_MEGABYTE: Final = 1 << 20
_RUNNER_MEGABYTES: Final = 128
_MARGIN_SECONDS: Final = 300
"""After `max_seconds` we end it ourselves; Slurm's time limit is for when we cannot."""
_STALE_SECONDS: Final = 0.1
_SOLD: Final = "res_"
"""What is set aside for a reservation of Skerry's has its id as name."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All jobs of ours at one moment. It can only tell that a job is gone if it was taken after that was submitted:
    `submitted` goes on being kept up to date.
    """

    jobs: Mapping[int, Job]
    prefix: str
    begun_at: float
    submitted: Mapping[int, float] = field(default_factory=dict)

    def can_tell(self, job: int) -> bool:
        return job in self.jobs or self.submitted.get(job, 0.0) < self.begun_at

    def find(self, attempt: AttemptId) -> int | None:
        """The first job of that name. One that came later runs nothing: `AttemptFolder.claim`."""
        return min((job.id for job in self.jobs.values() if job.name == self.prefix + attempt), default=None)


class Jobs:
    """`squeue` is asked by one caller at a time; those who come meanwhile share the next answer."""

    def __init__(self, config: SlurmConfig, cli: SlurmCli) -> None:
        self._config = config
        self._cli = cli
        self._prefix = config.prefix
        self._submitted: dict[int, float] = {}
        self._looking = asyncio.Lock()
        self._last: Snapshot | None = None

    async def submit(self, gang: GangSpec, nodes: Mapping[str, NodeState], folder: Path) -> int:
        """Raises BadGang, NodeNotReady, ReservationRefused. After EngineUnavailable it may or may not be there."""
        try:
            answer = await self._cli.run(
                "sbatch", *self._options(gang, nodes, folder), stdin=self._script(gang, nodes, folder)
            )
        except SlurmError as error:
            raise _refusal(error) from error
        job = int(answer.strip().splitlines()[-1].partition(";")[0])
        self._submitted[job] = monotonic()
        return job

    async def find(self, attempt: AttemptId) -> int | None:
        """Looks anew."""
        async with self._looking:
            return (await self._ask()).find(attempt)

    async def snapshot(self) -> Snapshot:
        """No older than the call, but for a moment. Raises EngineUnavailable."""
        called_at = monotonic()
        async with self._looking:
            if self._last is None or self._last.begun_at < called_at - _STALE_SECONDS:
                self._last = await self._ask()
            return self._last

    async def unqueue(self, job: int) -> None:
        """End it if it has not begun; what has begun ends by the word in its folder, in its own time."""
        await self._cancel("--state=PENDING", str(job))

    async def end(self, job: int) -> None:
        """SIGTERM and after KillWait SIGKILL, by Slurm."""
        await self._cancel(str(job))

    async def _cancel(self, *arguments: str) -> None:
        try:
            await self._cli.run("scancel", "--quiet", *arguments)
        except SlurmError:
            return  # it is not there any more

    async def _ask(self) -> Snapshot:
        begun_at = monotonic()
        text = await self._cli.run("squeue", "--noheader", "--states=all", "--format", parsing.SQUEUE_FORMAT)
        jobs = {job.id: job for job in parsing.jobs(text) if job.name.startswith(self._prefix)}
        for job in [job for job, at in self._submitted.items() if at < begun_at - _STALE_SECONDS]:
            del self._submitted[job]  # every snapshot that may still be used is newer
        return Snapshot(jobs, self._prefix, begun_at, self._submitted)

    def _options(self, gang: GangSpec, nodes: Mapping[str, NodeState], folder: Path) -> list[str]:
        cores, megabytes, gpus = _shares(gang, nodes)
        options = {
            "job-name": self._prefix + gang.attempt,
            **({"partition": self._config.partition} if self._config.partition else {}),
            "nodelist": ",".join(nodes),
            "nodes": str(len(nodes)),
            "ntasks-per-node": "1",
            "cpus-per-task": str(cores),
            "mem": f"{megabytes}M",
            "output": str(folder / "runner.log"),
            "open-mode": "append",
            "chdir": "/",
            "export": "ALL",
            "wait-all-nodes": "1",
        }
        if gpus:
            options["gpus-per-node"] = str(gpus)
        if gang.reservation is not None:
            options["reservation"] = self._prefix + gang.reservation
        if gang.max_seconds is not None:
            seconds = gang.max_seconds + gang.grace_seconds + _MARGIN_SECONDS
            options["time"] = str(-(-int(seconds) // 60))
        named = [f"--{name}={value}" for name, value in options.items()]
        return ["--parsable", "--no-requeue", *named, *self._config.submit_options]

    def _script(self, gang: GangSpec, nodes: Mapping[str, NodeState], folder: Path) -> str:
        """No secrets and nothing of the customer's: only where the order lies."""
        runner = shlex.join([*self._config.runner, str(folder)])
        on_node = f"trap : TERM; {runner} || {runner} --sweep"
        if len(nodes) > 1:
            cores, _, _ = _shares(gang, nodes)
            srun = ["srun", "--ntasks-per-node=1", f"--cpus-per-task={cores}", "--kill-on-bad-exit=0", "--wait=0"]
            on_node = f"trap : TERM; {shlex.join([*srun, '/bin/sh', '-c', on_node])}"
        return f"#!/bin/sh\n{on_node}\n"


def inside(gang: GangSpec, reservations: Sequence[NodeReservation]) -> GangSpec:
    """With the reservation that its nodes are set aside by for one of Skerry's: work that capacity lets run there, the
    holder's or lent out, is kept out by it no more than its holder's is. Raises NodeNotReady.
    """
    if gang.reservation is not None:
        return gang
    nodes = {placement.node for placement in gang.placements}
    around = sorted(one.name for one in reservations if one.name.startswith(_SOLD) and nodes & set(one.nodes))
    if len(around) > 1:
        raise NodeNotReady(f"Its nodes are set aside by more than one reservation ({', '.join(around)}).")
    return replace(gang, reservation=around[0]) if around else gang


def _shares(gang: GangSpec, nodes: Mapping[str, NodeState]) -> tuple[int, int, int]:
    """Cores, MiB and GPUs of each node: the largest need of any of them, as one job has the same on all its nodes."""
    cores, megabytes, gpus = 1, 1, 0
    for name, node in nodes.items():
        here = [placement for placement in gang.placements if placement.node == name]
        tasks, devices = sum(one.tasks for one in here), sum(len(one.devices) for one in here)
        gpu_share = devices / len(node.accelerators) if not node.shared else 0.0
        share = gpu_share or min(1.0, tasks / node.cores)
        cores = max(cores, int(node.cores * share))
        wanted = gang.limits.memory_bytes
        memory = tasks * wanted / _MEGABYTE + _RUNNER_MEGABYTES if wanted else node.memory_bytes * share / _MEGABYTE
        megabytes = max(megabytes, min(int(memory), node.memory_bytes // _MEGABYTE))
        gpus = max(gpus, 0 if node.shared else devices)
    return cores, megabytes, gpus


def _refusal(error: SlurmError) -> EngineRefused:
    words = error.detail.lower()
    if "invalid node name" in words:
        return NodeNotReady(error.detail)
    if "reservation" in words:
        return ReservationRefused(error.detail)
    return BadGang(error.detail)
