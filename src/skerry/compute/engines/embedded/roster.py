"""The gangs that an agent knows, in memory and on disk, and what happens when one of their tasks ends."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

import structlog

from skerry.compute.engines.base import EndCause, UnknownAttempt
from skerry.compute.engines.embedded.cgroups import Cgroups
from skerry.compute.engines.embedded.config import AgentConfig
from skerry.compute.engines.embedded.feed import ChangeFeed
from skerry.compute.engines.embedded.gang import Gang
from skerry.compute.engines.embedded.logfile import LogFile
from skerry.compute.engines.embedded.records import RankRecord, StateFolder
from skerry.compute.engines.embedded.task import Task
from skerry.compute.model import Outcome
from skerry.kernel.clock import Clock
from skerry.kernel.ids import AttemptId

LOGGER: Final = "skerry.agent"


class Roster:
    """`crashed` fails when following a task has failed: an agent that lost track had better start anew."""

    def __init__(self, config: AgentConfig, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.state = StateFolder(config.state)
        self.cgroups = Cgroups.detect(config.cgroups, config.mark)
        self.gangs: dict[AttemptId, Gang] = {}
        self.feed = ChangeFeed()
        self.crashed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._collecting: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger(LOGGER)

    def require(self, attempt: AttemptId) -> Gang:
        gang = self.gangs.get(attempt)
        if gang is None or gang.record.forgotten_at is not None:
            raise UnknownAttempt(f"{attempt} is not known here.")
        return gang

    def live_tasks(self) -> Iterator[tuple[Gang, Task]]:
        for gang in self.gangs.values():
            for task in gang.live:
                yield gang, task

    def task(self, gang: Gang, record: RankRecord) -> Task:
        """The rank's task, put into its gang."""
        task = Task(
            record,
            limits=gang.record.limits,
            work=self.config.work / f"{record.attempt}-{record.rank}",
            log=self.log_of(record.attempt, record.rank),
            engine=self.config.mark,
            clock=self.clock,
            log_to=self._log.bind(attempt=record.attempt, rank=record.rank),
        )
        gang.tasks[record.rank] = task
        return task

    def log_of(self, attempt: AttemptId, rank: int) -> LogFile:
        folder = self.config.logs / f"{attempt}-{rank}"
        return LogFile(folder, max_bytes=self.config.log_bytes, keep=self.config.log_parts)

    def watch(self, gang: Gang, task: Task) -> None:
        task.watch(lambda: self._begin_to_collect(gang, task))

    def rank_ended(self, gang: Gang, task: Task) -> None:
        """Record it, tell of it, and end the others if it ended other than well."""
        end = task.record.end
        assert end is not None
        self.try_to_save(lambda: self.state.save_rank(task.record))
        self._log.info(
            "task_ended",
            attempt=gang.record.attempt,
            rank=task.record.rank,
            cause=end.cause,
            outcome=end.outcome,
            exit_code=end.exit_code,
        )
        if end.outcome is not Outcome.SUCCEEDED and gang.live:
            gang.begin_to_end(EndCause.PEER_ENDED, gang.record.grace_seconds)
        if gang.ended:
            gang.stop_escalation()
        self.feed.publish(gang.record.attempt)

    def try_to_save(self, save: Callable[[], object]) -> None:
        """Write to the state folder where going on without is better than stopping (the disk may be full)."""
        try:
            save()
        except OSError as error:
            self._log.error("state_not_saved", error=str(error))

    async def settled(self) -> None:
        """All tasks that have ended have been collected."""
        await asyncio.gather(*self._collecting)

    def _begin_to_collect(self, gang: Gang, task: Task) -> None:
        job = asyncio.get_running_loop().create_task(self._collect(gang, task))
        self._collecting.add(job)
        job.add_done_callback(self._collected)

    async def _collect(self, gang: Gang, task: Task) -> None:
        await task.collect()
        self.rank_ended(gang, task)

    def _collected(self, job: asyncio.Task[None]) -> None:
        self._collecting.discard(job)
        error = None if job.cancelled() else job.exception()
        if error is not None and not self.crashed.done():
            self.crashed.set_exception(error)
