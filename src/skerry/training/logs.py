"""What a job printed. A workload's log is that of a node's supervisor, in which the lines of ranks are marked."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol

from skerry.compute.engines.base import LogChunk
from skerry.identity.model import Principal
from skerry.kernel.errors import NotFound
from skerry.kernel.ids import ProjectId, WorkloadId
from skerry.training.model import Job
from skerry.training.service import Jobs
from skerry.training.spec import Launcher

LOG_BYTES: Final = 256 << 10


class Logs(Protocol):
    """What is needed of compute."""

    async def logs(
        self, project: ProjectId, id: WorkloadId, rank: int = 0, offset: int = 0, limit: int = ...
    ) -> LogChunk: ...

    def follow_logs(
        self, project: ProjectId, id: WorkloadId, rank: int = 0, offset: int = 0
    ) -> AsyncIterator[bytes]: ...


class UnknownRank(NotFound):
    code = "unknown_rank"


@dataclass(frozen=True, slots=True)
class Place:
    """Where lines are: in the log of which node, and marked with which rank. None: all of that log."""

    node: int
    rank: int | None


class JobLogs:
    def __init__(self, jobs: Jobs, logs: Logs) -> None:
        self._jobs = jobs
        self._logs = logs

    async def read(
        self, principal: Principal, id: str, node: int | None, rank: int | None, offset: int, limit: int
    ) -> LogChunk:
        """Of the newest attempt. Raises UnknownJob, UnknownRank, EngineUnavailable."""
        job = await self._jobs.found(principal, id)
        place = place_of(job, node, rank)
        chunk = await self._logs.logs(job.project, job.workload, place.node, offset, limit)
        return chunk if place.rank is None else _only(chunk, place.rank)

    async def follow(
        self, principal: Principal, id: str, node: int | None, rank: int | None, offset: int
    ) -> AsyncIterator[bytes]:
        """From `offset` on until the attempt has ended. Raises UnknownJob, UnknownRank."""
        job = await self._jobs.found(principal, id)
        place = place_of(job, node, rank)
        stream = self._logs.follow_logs(job.project, job.workload, place.node, offset)
        return stream if place.rank is None else _of_rank(stream, place.rank)


def place_of(job: Job, node: int | None, rank: int | None) -> Place:
    """Raises UnknownRank."""
    spec = job.spec
    if rank is None:
        if not 0 <= (node or 0) < spec.nodes:
            raise UnknownRank(f"{job.name} has nodes 0 to {spec.nodes - 1}")
        return Place(node or 0, None)
    if not 0 <= rank < spec.ranks:
        raise UnknownRank(f"{job.name} has ranks 0 to {spec.ranks - 1}")
    here = spec.tasks_per_node if spec.launcher is Launcher.TORCHRUN else 1
    # One rank alone is not marked.
    return Place(rank // here, rank if spec.ranks > 1 else None)


def _only(chunk: LogChunk, rank: int) -> LogChunk:
    return LogChunk(lines_of(chunk.data, rank), chunk.offset, chunk.next_offset, chunk.ended)


def lines_of(data: bytes, rank: int) -> bytes:
    """The lines that a rank printed, without their mark."""
    mark = mark_of(rank)
    return b"".join(line[len(mark) :] for line in data.splitlines(keepends=True) if line.startswith(mark))


def mark_of(rank: int) -> bytes:
    return f"[rank {rank}] ".encode()


async def _of_rank(stream: AsyncIterator[bytes], rank: int) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in stream:
        whole, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline and (found := lines_of(whole + newline, rank)):
            yield found
    if found := lines_of(rest, rank):
        yield found
